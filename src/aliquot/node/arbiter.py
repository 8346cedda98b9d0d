"""The arbiter of a home of slices: the process that lends its slices their cards in turns.

There is one for each home. It outlives whoever started it, so that programs of several terminals share a
card; a second one finds the first one's lock and ends. Programs do not need it to run: without one they go on
under the last grant.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from aliquot import native
from aliquot.errors import UnavailableError
from aliquot.limits import Slice

PROGRAM: Final = "aliquot-arbiter"
SOCKET: Final = "arbiter"
"""In the folder of each slice that an arbiter serves."""
LOG: Final = ".arbiter.log"
"""In the home: what it wrote to stderr."""

_PATIENCE_S: Final = 2.0
_POLL_S: Final = 0.01
_RETRY_S: Final = 0.4
"""One that was about to end may have kept ours from starting: soon again, and not without end in a second."""
_NOT_PASSED_ON: Final = ("LD_PRELOAD", "ALIQUOT_SLICE", "CUDA_VISIBLE_DEVICES")
_MOST_LOG_BYTES: Final = 1 << 20


class ArbiterMissingError(UnavailableError):
    """No arbiter serves the slice."""

    code = "arbiter-missing"


class Watch:
    """Keeps an arbiter there for one slice, for as long as somebody calls `look`."""

    def __init__(self, slice_: Slice) -> None:
        self._slice = slice_
        self._child = 0
        self._started_at = float("-inf")

    def ensure(self, patience_s: float = _PATIENCE_S) -> None:
        """Starts an arbiter unless one serves the slice, and waits for it.

        Raises `ArbiterMissingError` where none came within `patience_s`, and `NotInstalledError`.
        """
        deadline = time.monotonic() + patience_s
        while not self.look():
            if time.monotonic() >= deadline:
                raise ArbiterMissingError(
                    f"no arbiter serves the slice {self._slice.name}: its share of time is not held",
                    hint=f"what it said is in {self._slice.path.parent / LOG}",
                )
            time.sleep(_POLL_S)

    def look(self) -> bool:
        """Whether the slice is served; where it is not, an arbiter is started, at most twice a second or so.

        Raises `NotInstalledError`.
        """
        self._reap()
        if is_served(self._slice):
            return True
        now = time.monotonic()
        if self._child == 0 and now - self._started_at >= _RETRY_S:
            self._started_at = now
            self._child = start(self._slice.path.parent)
        return False

    def _reap(self) -> None:
        """An arbiter of ours that has ended must not stay as a zombie."""
        if self._child:
            with suppress(ChildProcessError):
                ended, _ = os.waitpid(self._child, os.WNOHANG)
                if not ended:
                    return
            self._child = 0


def is_served(slice_: Slice) -> bool:
    """Whether a living arbiter lends this slice its cards."""
    return (slice_.path / SOCKET).is_socket() and slice_.arbiter().alive


def start(home: Path) -> int:
    """Starts an arbiter in a session of its own, with no terminal; returns its pid, which is our child.

    Raises `NotInstalledError`.
    """
    program = str(native.program(PROGRAM))
    log = home / LOG
    with suppress(OSError):
        if log.stat().st_size > _MOST_LOG_BYTES:
            log.unlink()
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return os.posix_spawn(
        program,
        [program, "--home", str(home.absolute())],
        {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(log), appending, 0o600),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP},
    )
