"""Who stands behind a pid, for as long as it does: each process is held by a descriptor of its own (pidfd).

A pid that the driver lists may belong to somebody else by the time that /proc is read. A process whose
descriptor was open before the driver was asked, and that still lives afterwards, is the one that was listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from aliquot.node.guard import kernel
from aliquot.policy.guard import Identity


@dataclass(slots=True)
class Known:
    """A process that is held on to."""

    identity: Identity
    descriptor: int
    """Its pidfd; -1 where the kernel has none, or no more descriptors."""

    def lives(self) -> bool:
        """Whether it is still there, and not about to end."""
        if self.descriptor >= 0 and kernel.has_ended(self.descriptor):
            return False
        return kernel.start_ticks(self.identity.pid) == self.identity.start_ticks


class Census:
    """The processes that the driver listed, by pid. Close it at the end."""

    def __init__(self) -> None:
        self._known: dict[int, Known] = {}

    def identify(self, pids: Iterable[int]) -> None:
        """Holds on to these processes, and lets go of all others."""
        wanted = set(pids)
        for pid, known in list(self._known.items()):
            if pid not in wanted or not known.lives():
                self._forget(pid)
        for pid in sorted(wanted - set(self._known)):
            if (known := _hold(pid)) is not None:
                self._known[pid] = known

    def living(self, pid: int) -> kernel.Facts | None:
        """What is known now of the process behind a pid, if it is the one that was identified.

        Its user and its program can change, so they are read anew.
        """
        known = self._known.get(pid)
        found = kernel.facts(pid) if known is not None else None
        return found if known is not None and found is not None and known.lives() else None

    def descriptor(self, process: Identity) -> int | None:
        """A copy of a process' pidfd, which its caller closes; None where it is not held any more."""
        known = self._known.get(process.pid)
        if known is None or known.identity != process or known.descriptor < 0 or not known.lives():
            return None
        try:
            return os.dup(known.descriptor)
        except OSError:
            return None

    def close(self) -> None:
        """Lets go of everybody."""
        for pid in list(self._known):
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        known = self._known.pop(pid)
        if known.descriptor >= 0:
            os.close(known.descriptor)


def _hold(pid: int) -> Known | None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError:  # a kernel before 5.3, or too many open files: it can be named, not stopped
        descriptor = -1
    start = kernel.start_ticks(pid)
    if start is not None:
        known = Known(Identity(pid, start), descriptor)
        if known.lives():
            return known
    if descriptor >= 0:
        os.close(descriptor)
    return None
