"""Slices that were made for one run of a program: their name says whose, so that any later run finds those
whose maker was killed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from aliquot.limits import Slice, SliceDamagedError

_NAME: Final = re.compile(r"run-(?P<pid>[0-9]+)-(?P<start>[0-9]+)(-[0-9]+)?")


def name_for(pid: int, number: int = 0) -> str | None:
    """The name of a slice that the process makes for a run; `number` tells several apart. None where there is
    no such process to be seen."""
    start = _start_ticks(pid)
    return None if start < 0 else f"run-{pid}-{start}" + (f"-{number}" if number else "")


def is_orphaned(name: str) -> bool:
    """Whether a slice of that name was made for a run of a process that has gone."""
    match = _NAME.fullmatch(name)
    return match is not None and _start_ticks(int(match["pid"])) != int(match["start"])


def is_abandoned(slice_: Slice) -> bool:
    """Whether its maker is dead and nothing runs on it any more. Raises what reading the slice raises."""
    if not is_orphaned(slice_.name):
        return False
    try:
        return not slice_.usage().processes
    except SliceDamagedError:
        return True  # its tenants may do that to their own account; nobody can use it any more


def _start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); -1 where it is gone."""
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
        return int(content.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1
