"""Stops processes: SIGTERM, and SIGKILL where that did not help in time.

Signals go through a pidfd that has been held since the process was identified, so they never reach another
one that has got its pid. Who has nothing of the driver open is not touched, whatever the driver says.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aliquot.errors import AliquotError
from aliquot.node.guard import kernel
from aliquot.node.guard.events import Event, of_finding
from aliquot.node.guard.looking import Looker
from aliquot.policy.guard import Finding, Identity

_INIT: Final = 1
_UNKILLABLE_NS: Final = 5_000_000_000
"""Who is there for so long after SIGKILL waits in the kernel, and nobody knows for how long."""


@dataclass(slots=True)
class _Under:
    """A process that is being stopped."""

    finding: Finding
    descriptor: int
    kill_at_ns: int
    killed: bool = False


class Stopper:
    """Those who are being stopped, and those who could not be. Close it at the end."""

    def __init__(self, looker: Looker, *, kill_after_ns: int, report: Callable[[Event], object]) -> None:
        self._looker = looker
        self._kill_after_ns = kill_after_ns
        self._report = report
        self._under: dict[Identity, _Under] = {}
        self._refused: set[Identity] = set()

    @property
    def busy(self) -> bool:
        """Whether somebody has been told to end and has not."""
        return bool(self._under)

    def stop(self, finding: Finding, now_ns: int) -> None:
        """Begins to stop a process, unless that has begun, or was refused."""
        process = finding.suspicion.occupant.process
        if process in self._under or process in self._refused:
            return
        descriptor = self._looker.descriptor(process)
        if (reason := self._obstacle(process, descriptor)) is None:
            assert descriptor is not None
            reason = _send(descriptor, signal.SIGTERM)
        if reason is not None:
            self._refuse(finding, descriptor, reason)
            return
        assert descriptor is not None
        _send(descriptor, signal.SIGCONT)  # one that was stopped could not answer
        self._under[process] = _Under(finding, descriptor, now_ns + self._kill_after_ns)
        self._report(of_finding("terminated", finding, "was told to end (SIGTERM)"))

    def advance(self, now_ns: int) -> None:
        """Sees who has ended, and kills whose time is over."""
        for process, under in list(self._under.items()):
            if kernel.has_ended(under.descriptor):
                self._drop(process)
                self._report(of_finding("stopped", under.finding, "has ended"))
            elif under.killed and now_ns >= under.kill_at_ns + _UNKILLABLE_NS:
                self._give_up(process, "it does not end, though it was killed: it waits for a device or file")
            elif now_ns >= under.kill_at_ns and not under.killed:
                self._kill(process, under)

    def forget(self, present: Iterable[Identity]) -> None:
        """Forgets refusals of processes that are not on any card any more."""
        self._refused &= set(present)

    def close(self) -> None:
        """Lets go of everybody; who was told to end may still do so."""
        for process in list(self._under):
            self._drop(process)

    def _kill(self, process: Identity, under: _Under) -> None:
        reason = _send(under.descriptor, signal.SIGKILL)
        if reason is not None:
            self._give_up(process, reason)
            return
        under.killed = True
        self._report(of_finding("killed", under.finding, "did not end and was killed (SIGKILL)"))

    def _give_up(self, process: Identity, reason: str) -> None:
        under = self._under.pop(process)
        self._refuse(under.finding, under.descriptor, reason)

    def _obstacle(self, process: Identity, descriptor: int | None) -> str | None:
        """Why it must not, or cannot, be stopped; None where nothing speaks against it."""
        if process.pid in (os.getpid(), _INIT):
            return "it is this program itself, or the first process of the machine"
        if descriptor is None:
            return "it cannot be held on to: it has just ended, or this kernel has no pidfd (Linux 5.3)"
        try:
            open_ = self._looker.has_driver_open(process)
        except (AliquotError, OSError) as error:
            return f"whether it has the driver open cannot be told: {error}"
        if open_ is None:
            return "this user may not see what it has open"
        return None if open_ else "it has nothing of the driver open: its pid may be another process'"

    def _refuse(self, finding: Finding, descriptor: int | None, reason: str) -> None:
        if descriptor is not None:
            os.close(descriptor)
        self._refused.add(finding.suspicion.occupant.process)
        self._report(of_finding("refused", finding, f"cannot be stopped: {reason}"))

    def _drop(self, process: Identity) -> None:
        os.close(self._under.pop(process).descriptor)


def _send(descriptor: int, number: signal.Signals) -> str | None:
    """Sends a signal; why it could not, None where it could or where there is nobody any more."""
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "this user may not signal it; run the guard as root"
    except OSError as error:
        return str(error.strerror)
    return None
