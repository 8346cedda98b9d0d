"""The broker: makes, changes and removes slices for the people of a machine, and keeps their arbiter there.

One thread, one request at a time, so that what is left of a card is decided once. It holds no state of its
own: what was given is in the slices, so one that is killed and comes back goes on where it was, and running
programs do not notice. `look_after` is called once a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from aliquot.catalog import default_qos_level, qos_level
from aliquot.errors import AliquotError, InvalidValueError
from aliquot.limits import Slice, SliceAccessError, SliceDamagedError, SliceNotFoundError
from aliquot.limits.homes import people_home, people_homes, person_home
from aliquot.mechanisms import limiter
from aliquot.model import Device, DeviceKind, Ppm
from aliquot.node import abandoned, arbiter
from aliquot.node.broker import home as homes
from aliquot.node.broker.allowance import (
    ROOT,
    Allowance,
    Given,
    check_changeable,
    check_count,
    check_qos,
    check_room,
    check_whose,
)
from aliquot.node.broker.home import Peer
from aliquot.node.broker.wire import PASSED_ON, Cards, Change, Create, Remove, Request
from aliquot.vendors import nvidia

_SWEEP_S: Final = 0.05
_CARDS_STAY_S: Final = 1.0
"""How long what was seen of the cards is believed: discovery costs more than a slice."""


class Broker:
    """Answers requests about the slices of one machine-wide home."""

    def __init__(self, home: Path, allowance: Allowance, discover: Callable[[], Sequence[Device]]) -> None:
        """Prepares the home. Raises `HomeUnsafeError`."""
        self.home = home
        self._allowance = allowance
        self._discover = discover
        self._seen: Sequence[Device] = ()
        self._seen_at = float("-inf")
        self._swept: set[Path] = set()
        self._arbiter = arbiter.Keeper(people_home(home), people=True)
        homes.prepare(home)

    def answer(self, request: Request, peer: Peer) -> Mapping[str, Any]:
        """Does what is asked, if this peer may ask for it. Raises what there is to say against it."""
        match request:
            case Cards():
                return self._cards()
            case Create():
                return self._create(request, peer)
            case Change():
                return self._change(request, peer)
            case Remove():
                return self._remove(request, peer)

    def look_after(self) -> None:
        """Removes slices whose programs have gone, mends what tenants did to their files, and has an arbiter
        there; never fails."""
        served = True
        for slice_ in list(self._slices()):
            with suppress(AliquotError, OSError):
                slice_.cut_to_size()
                served = served and arbiter.is_served(slice_)
        self._sweep()
        self._arbiter.reap()
        if not served:
            with suppress(AliquotError):
                self._arbiter.start()

    def _sweep(self) -> None:
        """Where somebody's programs have gone is in files of her own, which may be made to take long to read:
        so for a little while at a time, each slice in turn."""
        until = time.monotonic() + _SWEEP_S
        waiting = [each for each in self._slices() if abandoned.is_orphaned(each.name)]
        waiting.sort(key=lambda each: each.path in self._swept)
        for slice_ in waiting:
            if time.monotonic() >= until:
                break
            self._swept.add(slice_.path)
            with suppress(AliquotError, OSError):
                if abandoned.is_abandoned(slice_):
                    slice_.remove()
        else:
            self._swept.clear()

    def _cards(self) -> Mapping[str, Any]:
        devices = self._devices()
        simulated = any(each.kind is DeviceKind.SIMULATED for each in devices)
        passed_on = {name: os.environ[name] for name in PASSED_ON if simulated and os.environ.get(name)}
        return {"devices": [asdict(each) for each in devices], "environment": passed_on}

    def _create(self, request: Create, peer: Peer) -> Mapping[str, Any]:
        owner = peer.uid if request.owner is None else request.owner
        check_whose(peer.uid, owner)
        device = self._device(request.device)
        level = qos_level(request.qos) if request.qos else default_qos_level()
        given = list(self._given())
        wanted = Given(
            owner=owner, device=device.uuid, vram_bytes=request.vram_bytes, compute=request.compute
        )
        check_qos(peer.uid, level, self._allowance)
        check_count(peer.uid, owner, given, self._allowance)
        check_room(peer.uid, wanted, device, given, self._allowance)
        simulated = device.kind is DeviceKind.SIMULATED
        driver, nvml = nvidia.simulated_driver() if simulated else (None, None)
        made = Slice.create(
            vram_bytes=request.vram_bytes,
            device=device.uuid,
            compute=Ppm(request.compute),
            compute_limit=Ppm(request.compute_limit),
            qos=level,
            driver=driver,
            nvml=nvml,
            name=request.name or _name_for(peer, request.number),
            home=homes.prepare_person(self.home, owner),
            tenant_uid=owner,
            fixed=peer.uid == ROOT != owner,
        )
        limiter.make_loadable(made)
        with suppress(AliquotError):  # who asked waits for it, and says so where it does not come
            self._arbiter.start_if_missing()
        return {"path": str(made.path)}

    def _change(self, request: Change, peer: Peer) -> Mapping[str, Any]:
        slice_ = self._find(request.name, request.owner, peer)
        level = None if request.qos is None else qos_level(request.qos)
        if level is not None:
            check_qos(peer.uid, level, self._allowance)
        limits = slice_.limits()
        if request.index >= len(limits):
            raise InvalidValueError(f"the slice {request.name} has no device {request.index}")
        before = limits[request.index]
        vram = before.vram_bytes if request.vram_bytes is None else request.vram_bytes
        compute = before.compute_request_ppm if request.compute is None else request.compute
        most = before.compute_limit_ppm if request.compute_limit is None else request.compute_limit
        if vram > before.vram_bytes or compute > before.compute_request_ppm:
            self._check_growth(slice_, peer, str(before.device), vram, compute)
        if (compute, most) != (before.compute_request_ppm, before.compute_limit_ppm):
            slice_.set_compute(Ppm(compute), Ppm(most), index=request.index)
        if vram != before.vram_bytes:
            slice_.set_vram_limit(vram, index=request.index)
        if level is not None:
            slice_.set_qos(level)
        return {}

    def _check_growth(self, slice_: Slice, peer: Peer, device: str, vram: int, compute: int) -> None:
        owner = slice_.tenant_uid
        wanted = Given(owner=owner, device=device, vram_bytes=vram, compute=compute)
        others = self._given(leave_out=slice_.path)
        check_room(peer.uid, wanted, self._device(device), others, self._allowance)

    def _remove(self, request: Remove, peer: Peer) -> Mapping[str, Any]:
        self._find(request.name, request.owner, peer).remove()
        return {}

    def _find(self, name: str, owner: int | None, peer: Peer) -> Slice:
        """The slice, which this peer may change. Whose it is comes first: what others have is not told."""
        owner = peer.uid if owner is None else owner
        check_whose(peer.uid, owner)
        slice_ = Slice.open(person_home(owner, self.home) / name)
        check_changeable(peer.uid, fixed=slice_.fixed)
        return slice_

    def _device(self, uuid: str) -> Device:
        for each in self._devices():
            if each.uuid == uuid:
                return each
        raise InvalidValueError(f"there is no card {uuid} on this machine")

    def _devices(self) -> Sequence[Device]:
        if time.monotonic() - self._seen_at >= _CARDS_STAY_S:
            self._seen = self._discover()
            self._seen_at = time.monotonic()
        return self._seen

    def _slices(self) -> Iterator[Slice]:
        for folder in people_homes(self.home):
            with suppress(SliceAccessError):
                yield from Slice.all(folder)

    def _given(self, leave_out: Path | None = None) -> Iterator[Given]:
        """What has been given so far, a record for each slice and card."""
        for slice_ in self._slices():
            with suppress(SliceNotFoundError, SliceDamagedError, SliceAccessError):
                if slice_.path == leave_out:
                    continue
                owner, fixed = slice_.tenant_uid, slice_.fixed
                for limit in slice_.limits():
                    yield Given(
                        owner=owner,
                        device=str(limit.device),
                        vram_bytes=limit.vram_bytes,
                        compute=limit.compute_request_ppm,
                        fixed=fixed,
                    )


def _name_for(peer: Peer, number: int) -> str:
    """Names the process, so that whoever looks after the slices sees that it has gone."""
    name = abandoned.name_for(peer.pid, number)
    if name is None:
        raise InvalidValueError(
            "the process that asks cannot be seen from here", hint="give the slice a name"
        )
    return name
