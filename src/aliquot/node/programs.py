"""Runs a program in the place of this process, as far as the person and the shell can tell.

It keeps the terminal, the working folder and the process group. Signals that other processes send to us are
passed on; those of the terminal reach the program by themselves.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aliquot.errors import ProgramNotFoundError

_PASSED_ON: Final = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGCONT,
        signal.SIGWINCH,
    }
)
_IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_SHELL_SIGNAL_BASE: Final = 128
_LOOK_EVERY_S: Final = 0.5


class ProgramNotExecutableError(ProgramNotFoundError):
    """The program exists and cannot be executed. The status is the shell's."""

    code = "program-not-executable"
    exit_status = 126


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its own status, or the signal that killed it."""

    status: int
    signal: int | None = None

    @property
    def shell_status(self) -> int:
        """The status as a shell reports it: 128 + N for a program that signal N killed."""
        return self.status if self.signal is None else _SHELL_SIGNAL_BASE + self.signal


def run_program(
    command: Sequence[str], environment: Mapping[str, str], look: Callable[[], object] | None = None
) -> Ended:
    """Starts `command`, found along PATH, and waits for it; `look` is called twice a second meanwhile.

    Only for a process with one thread: signals are blocked and taken one by one while it waits. Raises
    `ProgramNotFoundError` and `ProgramNotExecutableError`.
    """
    watched: frozenset[int] = _PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        child = _start(command, environment, before)
        return _wait(child, watched, look)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(command: Sequence[str], environment: Mapping[str, str], mask: set[int]) -> int:
    try:
        return os.posix_spawnp(
            command[0], list(command), dict(environment), setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ProgramNotFoundError(f"there is no program {command[0]}") from error
    except (PermissionError, OSError) as error:
        raise ProgramNotExecutableError(f"{command[0]} cannot be executed: {error.strerror}") from error


def _wait(child: int, watched: frozenset[int], look: Callable[[], object] | None) -> Ended:
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _decode(status)
        arrived = signal.sigtimedwait(watched, _LOOK_EVERY_S) if look else signal.sigwaitinfo(watched)
        if arrived is None:
            assert look is not None
            look()
            continue
        # What the kernel sends for the terminal (si_code > 0) has gone to the whole foreground group already.
        if arrived.si_signo != signal.SIGCHLD and arrived.si_code <= 0:
            os.kill(child, arrived.si_signo)


def _decode(status: int) -> Ended:
    if os.WIFSIGNALED(status):
        return Ended(0, os.WTERMSIG(status))
    return Ended(os.WEXITSTATUS(status))
