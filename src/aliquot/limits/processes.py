"""Which process is meant by an owner word, and whether it still lives.

A pid alone is reused; with the time at which the process started (field 22 of /proc/PID/stat, proc(5)) it is
not. A process in another pid namespace has other numbers there, so it can only be judged from its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aliquot.limits.layout import Layout

_PROC = Path("/proc")
_STATE, _THREADS, _START = 0, 17, 19
"""Positions in /proc/PID/stat behind the command's closing bracket: fields 3, 20 and 22."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The content of an owner word."""

    pid: int
    pid_namespace: int
    """Index into the account's table plus 1; 0 where the process could not say."""
    start_ticks: int
    """0 where the process could not read it."""
    claiming: bool
    """It is still taking the slot: the slot holds nothing yet."""


def unpack_owner(word: int, layout: Layout) -> Owner:
    """Reads an owner word; the caller has checked that it is not 0."""
    pid_bits, namespace_bits = layout.number("owner_pid_bits"), layout.number("owner_namespace_bits")
    start_bits = layout.number("owner_start_bits")
    return Owner(
        pid=word & ((1 << pid_bits) - 1),
        pid_namespace=word >> pid_bits & ((1 << namespace_bits) - 1),
        start_ticks=word >> (pid_bits + namespace_bits) & ((1 << start_bits) - 1),
        claiming=bool(word >> (pid_bits + namespace_bits + start_bits) & 1),
    )


def is_dead(owner: Owner, namespaces: Sequence[int]) -> bool:
    """Whether the process is surely gone; where this cannot be told, it is taken to live."""
    if (
        not 1 <= owner.pid_namespace <= len(namespaces)
        or namespaces[owner.pid_namespace - 1] != _own_namespace()
    ):
        return False
    try:
        after_command = (_PROC / str(owner.pid) / "stat").read_bytes().rpartition(b")")[2].split()
        state, threads, start = (
            after_command[_STATE],
            int(after_command[_THREADS]),
            int(after_command[_START]),
        )
    except (FileNotFoundError, ProcessLookupError):
        return (_PROC / "self" / "stat").exists()
    except (OSError, ValueError, IndexError):
        return False
    # A leader that ended while its other threads go on looks like a zombie, too.
    return (owner.start_ticks != 0 and start != owner.start_ticks) or (state in (b"Z", b"X") and threads <= 1)


def _own_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
