"""One look at everything: the driver, the slices, the driver again.

The driver is asked before the slices, so that a process that is just coming has its place in an account when
that is read, and asked once more behind them: who is not there at both times, or with the same process behind
his pid, is not looked at. Of what he holds the lesser figure counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from aliquot.errors import AliquotError
from aliquot.model import Device, DeviceKind
from aliquot.node.guard import kernel, slices
from aliquot.node.guard.census import Census
from aliquot.policy.guard import FileId, Identity, Occupant, Rules, SliceView, Snapshot, slice_of
from aliquot.policy.guard.membership import claims_by_pid
from aliquot.vendors import nvidia, nvml, nvml_processes
from aliquot.vendors.nvml_processes import OnDevice

Listed = Mapping[str, Mapping[int, OnDevice]]
"""By card, then by pid."""


class Looker:
    """Looks at the cards of one driver. A context manager, which holds the driver's library open."""

    def __init__(self, devices: Sequence[Device], rules: Rules) -> None:
        self.faults: dict[str, str] = {}
        """Why a card could not be looked at, by UUID; empty where all could."""
        self.unjudged: list[str] = []
        """Slices of the last look that could not be read as this version reads them."""
        self._rules = rules
        self.cards = list(devices)
        """Those that are looked at."""
        self._kind = devices[0].kind if devices else DeviceKind.REAL
        self._stack = ExitStack()
        self._nvml: nvml.Nvml | None = None
        self._census = Census()
        self._stack.callback(self._census.close)

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_library()
        self._stack.close()

    def look(self) -> Snapshot:
        """What is there at this moment. A card that cannot be looked at is among `faults`, and has nobody."""
        first = self._list()
        self._census.identify({pid for of_card in first.values() for pid in of_card})
        homes = slices.find_homes(self._rules.homes, self._kind)
        seen = slices.views(homes, {each.index: each.uuid for each in self.cards})
        self.unjudged = sorted(each.path for each in seen if not each.judged)
        second = self._list()
        now = time.monotonic_ns()
        used, percents = self._totals(second)
        occupants = self._occupants(first, second, percents)
        return Snapshot(
            at_ns=now,
            occupants=tuple(self._with_accounts(occupants, seen)),
            slices=tuple(seen),
            used_bytes=used,
        )

    def has_driver_open(self, process: Identity) -> bool | None:
        """Whether the kernel shows it with the driver's files open; None where that cannot be read."""
        driver = nvidia.driver_files(self._kind)
        files = frozenset(FileId(*each) for each in driver.files)
        return kernel.has_open(process.pid, driver.majors, files, driver.prefixes)

    def descriptor(self, process: Identity) -> int | None:
        """A pidfd of a process of the last look, which its caller closes; None where it is gone."""
        return self._census.descriptor(process)

    def _list(self) -> Listed:
        found: dict[str, Mapping[int, OnDevice]] = {}
        self.faults = {}
        try:
            library = self._open()
        except nvml.NvmlError as error:
            self.faults = {each.uuid: error.reason for each in self.cards}
            return found
        for card in self.cards:
            try:
                found[card.uuid] = nvml_processes.processes(library, library.device(card.uuid))
            except nvml.NvmlError as error:
                self.faults[card.uuid] = error.reason
        if self.cards and len(self.faults) == len(self.cards):
            self._close_library()  # the driver may have been loaded anew: it is opened again at the next look
        return found

    def _totals(self, listed: Listed) -> tuple[dict[str, int], dict[str, dict[int, int]]]:
        """What each card has in use, and for whom it worked, as far as the driver tells."""
        used: dict[str, int] = {}
        percents: dict[str, dict[int, int]] = {}
        for card in self.cards:
            if card.uuid not in listed or self._nvml is None:
                continue
            try:
                handle = self._nvml.device(card.uuid)
                if (total := nvml_processes.used_bytes(self._nvml, handle)) is not None:
                    used[card.uuid] = total
                if (worked := nvml_processes.utilisation(self._nvml, handle)) is not None:
                    percents[card.uuid] = worked
            except nvml.NvmlError:
                continue
        return used, percents

    def _occupants(
        self, first: Listed, second: Listed, percents: Mapping[str, Mapping[int, int]]
    ) -> list[Occupant]:
        found: list[Occupant] = []
        for card, listed in second.items():
            for pid, entry in listed.items():
                before = first.get(card, {}).get(pid)
                process = self._census.living(pid)
                if before is None or process is None or pid == os.getpid():
                    continue
                worked = percents[card].get(pid, 0) if card in percents else None
                found.append(_occupant(card, process, before, entry, worked))
        return found

    def _with_accounts(self, occupants: Sequence[Occupant], seen: Sequence[SliceView]) -> list[Occupant]:
        """Mappings and programs are read only of those whom no account names, or several do."""
        claims = claims_by_pid(seen)
        wanted = frozenset(each.account for each in seen)
        found: list[Occupant] = []
        for each in occupants:
            if slice_of(each, claims) is None or len(claims[each.namespace_pid]) > 1:
                if self._is_mistaken(each):
                    continue
                pid = each.process.pid
                each = replace(
                    each,
                    accounts=kernel.mapped(pid, wanted),
                    runs=kernel.runs(pid, self._rules.programs),
                )
            found.append(each)
        return found

    def _is_mistaken(self, occupant: Occupant) -> bool:
        """A simulated card lists processes by the number that they have in their own pid namespace; here that
        may be another one's."""
        if self._kind is not DeviceKind.SIMULATED:
            return False
        try:
            return self.has_driver_open(occupant.process) is False
        except (AliquotError, OSError):
            return False

    def _open(self) -> nvml.Nvml:
        if self._nvml is None:
            self._opened = ExitStack()
            self._nvml = self._opened.enter_context(nvml.opened(nvidia.nvml_library(self._kind)))
        return self._nvml

    def _close_library(self) -> None:
        if self._nvml is not None:
            self._nvml = None
            self._opened.close()


def _occupant(
    card: str, process: kernel.Facts, first: OnDevice, second: OnDevice, worked: int | None
) -> Occupant:
    held = [each.held for each in (first, second)]
    known = [each for each in held if each is not None]
    return Occupant(
        process=process.identity,
        card=card,
        uid=process.uid,
        vram_bytes=min(known) if len(known) == len(held) else None,
        compute=first.compute or second.compute,
        gpu_percent=worked,
        namespace=process.namespace,
        namespace_pid=process.namespace_pid,
        command=process.command,
        program=process.program,
    )
