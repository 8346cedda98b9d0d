"""The arbiter of a home of slices: the process that lends its slices their cards in turns.

There is one for each home. It outlives whoever started it, so that programs of several terminals share a
card; a second one finds the first one's lock and ends. Programs do not need it to run: without one they go on
under the last grant.
"""

from __future__ import annotations

import fcntl
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

_LOCK: Final = ".arbiter.lock"
_PATIENCE_S: Final = 2.0
_POLL_S: Final = 0.01
_RETRY_S: Final = 0.4
"""One that was about to end may have kept ours from starting: soon again, and not without end in a second."""
_NOT_PASSED_ON: Final = ("LD_PRELOAD", "ALIQUOT_SLICE", "CUDA_VISIBLE_DEVICES")
_MOST_LOG_BYTES: Final = 1 << 20


class ArbiterMissingError(UnavailableError):
    """No arbiter serves the slice."""

    code = "arbiter-missing"


class Keeper:
    """Starts an arbiter for a home where there is none, at most twice a second or so."""

    def __init__(self, home: Path, *, people: bool = False) -> None:
        """`people` says that the home has a folder for each person, and the slices in these."""
        self._home = home
        self._people = people
        self._child = 0
        self._started_at = float("-inf")

    def start(self) -> None:
        """Starts one, unless ours lives or was started a moment ago. Raises `NotInstalledError`."""
        self.reap()
        now = time.monotonic()
        if self._child == 0 and now - self._started_at >= _RETRY_S:
            self._started_at = now
            self._child = start(self._home, people=self._people)

    def start_if_missing(self) -> None:
        """The same where nobody serves the home, so that no second one is started in vain."""
        if not is_running(self._home):
            self.start()

    def reap(self) -> None:
        """An arbiter of ours that has ended must not stay as a zombie."""
        if self._child:
            with suppress(ChildProcessError):
                ended, _ = os.waitpid(self._child, os.WNOHANG)
                if not ended:
                    return
            self._child = 0


class Watch:
    """Keeps an arbiter there for one slice, for as long as somebody calls `look`."""

    def __init__(self, slice_: Slice, *, start_one: bool = True) -> None:
        """With `start_one` false it only waits: the slice's arbiter is somebody else's to start."""
        self._slice = slice_
        self._keeper = Keeper(slice_.path.parent) if start_one else None

    def ensure(self, patience_s: float = _PATIENCE_S) -> None:
        """Has an arbiter started unless one serves the slice, and waits for it.

        Raises `ArbiterMissingError` where none came within `patience_s`, and `NotInstalledError`.
        """
        deadline = time.monotonic() + patience_s
        while not self.look():
            if time.monotonic() >= deadline:
                raise ArbiterMissingError(
                    f"no arbiter serves the slice {self._slice.name}: its share of time is not held",
                    hint=f"what it said is in {self._slice.path.parent / LOG}"
                    if self._keeper
                    else "this machine's broker starts it, and says why it does not",
                )
            time.sleep(_POLL_S)

    def look(self) -> bool:
        """Whether the slice is served; where it is not, an arbiter is started, at most twice a second or so.

        Raises `NotInstalledError`.
        """
        if self._keeper:
            self._keeper.reap()
        if is_served(self._slice):
            return True
        if self._keeper:
            self._keeper.start()
        return False


def is_served(slice_: Slice) -> bool:
    """Whether a living arbiter lends this slice its cards."""
    return (slice_.path / SOCKET).is_socket() and slice_.arbiter().alive


def is_running(home: Path) -> bool:
    """Whether an arbiter has the home's lock; for the owner of the home to ask."""
    try:
        lock = os.open(home / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def start(home: Path, *, people: bool = False) -> int:
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
        [program, "--home", str(home.absolute()), *(["--people"] if people else [])],
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
