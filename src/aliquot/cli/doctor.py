"""`aliquot doctor`: what is well on this machine, what is not, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.markup import escape

from aliquot import native
from aliquot.cli import output
from aliquot.errors import AliquotError
from aliquot.limits import SliceNotFoundError, default_home
from aliquot.mechanisms import limiter
from aliquot.model import format_bytes
from aliquot.node import arbiter
from aliquot.node.broker import client
from aliquot.node.broker.home import is_installed
from aliquot.node.places import all_slices
from aliquot.vendors import nvidia

_ROOM_FOR_SLICES = 16 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is well, what was seen, what to do if not."""

    subject: str
    well: bool
    seen: str
    advice: str = ""


def doctor(as_json: output.JsonFlag = False) -> None:
    """Look for what keeps programs from running here. Ends with status 1 if something does."""
    findings = list(_findings())
    if as_json:
        output.show_json({"findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            _show(finding)
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    yield _cards()
    yield _part("simulated GPU", nvidia.simulated_driver)
    yield _part("limiter", limiter.libraries)
    yield _part("simulation control", lambda: native.program("aliquot-simgpu"))
    yield _broker()
    yield _arbiter()
    yield _shared_memory()


def _cards() -> Finding:
    found = nvidia.find_real_cards()
    if found.fault:
        seen = f"{', '.join(found.on_bus)}: {found.fault}"
        return Finding("cards", False, seen, "repair the driver, or use --simulate")
    if not found.devices:
        return Finding("cards", True, "none; programs run on a simulated one")
    names = ", ".join(device.name for device in found.devices)
    return Finding("cards", True, f"{names}, driver {found.driver}")


def _part(subject: str, find: Callable[[], object]) -> Finding:
    try:
        find()
    except AliquotError as error:
        return Finding(subject, False, error.reason, error.hint)
    return Finding(subject, True, "installed")


def _broker() -> Finding:
    """One for the machine, if whoever looks after it has installed one."""
    if not is_installed():
        return Finding("broker", True, "none: each person has the cards to herself")
    try:
        devices = client.machine().devices
        return Finding("broker", True, f"shares out {', '.join(each.name for each in devices)}")
    except AliquotError as error:
        return Finding("broker", False, error.reason, error.hint)


def _arbiter() -> Finding:
    """It starts with the first program and needs to live only while programs run."""
    try:
        native.program(arbiter.PROGRAM)
        unserved, served = _slices_in_use()
    except AliquotError as error:
        return Finding("arbiter", False, error.reason, error.hint)
    if unserved:
        seen = f"programs run on {', '.join(unserved)}, and nobody lends them the card in turns"
        log = default_home() / arbiter.LOG
        advice = f"`aliquot run`, or the machine's broker, starts one; what it said is in {log}"
        return Finding("arbiter", False, seen, advice)
    return Finding("arbiter", True, f"lends {len(served)} slices their cards" if served else "not needed now")


def _slices_in_use() -> tuple[list[str], list[str]]:
    unserved: list[str] = []
    served: list[str] = []
    for each in all_slices():
        with suppress(SliceNotFoundError):  # its program ended meanwhile
            if each.usage().processes:
                (served if arbiter.is_served(each) else unserved).append(each.name)
    return unserved, served


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    try:
        state = os.statvfs(folder)
    except OSError as error:
        return Finding("shared memory", False, f"{folder}: {error.strerror}", "mount a tmpfs there")
    free = state.f_bavail * state.f_frsize
    advice = "" if free >= _ROOM_FOR_SLICES else f"make room in {folder}"
    return Finding("shared memory", not advice, f"{format_bytes(free)} free", advice)


def _show(finding: Finding) -> None:
    mark = "[green]ok[/]  " if finding.well else "[red]bad[/] "
    output.stdout.print(f"{mark} [bold]{finding.subject}[/]: {escape(finding.seen)}", highlight=False)
    if finding.advice:
        output.stdout.print(f"     [dim]-> {escape(finding.advice)}[/]", highlight=False)
