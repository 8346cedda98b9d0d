"""A machine with a broker, and people on it who have nothing to do with each other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from .people import ALICE, BOB, GROUP, Person, interpreter, modules


def eventually(holds: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Waits until it holds; fails if it does not."""
    until = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.02)


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder of root's that everybody can enter, in memory."""
    folder = Path(tempfile.mkdtemp(prefix="aliquot-test-", dir="/dev/shm"))
    folder.chmod(0o755)
    # The simulated driver keeps an account of host memory for each user.
    accounts = [Path(f"/dev/shm/aliquot-simgpu-{uid}") for uid in (ALICE, BOB)]
    new = [each for each in accounts if not each.exists()]
    yield folder
    for pid in arbiters(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for each in (folder, *new):
        shutil.rmtree(each, ignore_errors=True)


def arbiters(home: Path) -> list[int]:
    """Pids of the arbiters of homes below a folder."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"aliquot-arbiter") and any(str(home).encode() in word for word in words):
                found.append(int(entry.name))
    return found


@pytest.fixture
def settings(ground: Path, native_dir: Path) -> dict[str, str]:
    """The environment of everybody on the machine."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
    return {
        **kept,
        "HOME": "/nonexistent",
        "COLUMNS": "160",
        "PYTHONPATH": modules(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ALIQUOT_NATIVE_DIR": str(native_dir),
        "ALIQUOT_SYSTEM_HOME": str(ground / "home"),
    }


class Service:
    """The broker's process."""

    def __init__(self, home: Path, env: Mapping[str, str]) -> None:
        self.home = home
        self.env = env
        self.process: subprocess.Popen[str] | None = None
        self.log = home.parent / "broker.log"

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "aliquot", "broker", "--simulate", *options]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, text=True)
        eventually(lambda: self.ended() or self._answers(), 30)
        assert not self.ended(), self.log.read_text()

    def _answers(self) -> bool:
        """Whether this process of it answers: an old socket may still be there."""
        return "shares out" in self.log.read_text().rpartition("--")[2] and (self.home / "broker").is_socket()

    def ended(self) -> bool:
        assert self.process
        return self.process.poll() is not None

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()
        with self.log.open("a") as log:
            log.write("--\n")

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(timeout=10)

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid


@pytest.fixture
def service(ground: Path, settings: Mapping[str, str]) -> Iterator[Service]:
    """A broker that is not started, of a machine with one simulated card, which a group shares."""
    cards = ground / "cards"
    cards.mkdir()
    os.chown(cards, 0, GROUP)
    cards.chmod(0o2770)
    simulated = {
        "ALIQUOT_SIMGPU_HOME": str(cards),
        "ALIQUOT_SIMGPU": "t4",
        "ALIQUOT_SIMGPU_HOST_BYTES": "64GiB",
    }
    made = Service(ground / "home", {**settings, **simulated})
    yield made
    if made.process and not made.ended():
        made.kill()


@pytest.fixture
def broker(service: Service) -> Service:
    """A broker that answers."""
    service.start()
    return service


@pytest.fixture
def alice(settings: Mapping[str, str]) -> Person:
    return Person(ALICE, interpreter(ALICE), settings)


@pytest.fixture
def bob(settings: Mapping[str, str]) -> Person:
    return Person(BOB, interpreter(BOB), settings)


@pytest.fixture
def root(settings: Mapping[str, str]) -> Person:
    return Person(0, sys.executable, settings, ())
