"""The arbiter's life: it starts with the first program, comes back when it dies, and there is one of it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliquot.errors import NotInstalledError
from aliquot.limits import Slice
from aliquot.node import arbiter
from aliquot.node.programs import run_program

GIB = 2**30


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aliquot-test-slices-", dir="/dev/shm"))
    yield folder
    for pid in arbiters(folder):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def arbiters(home: Path) -> list[int]:
    """Pids of the arbiters of a home that have not ended."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"aliquot-arbiter") and str(home).encode() in words:
            found.append(int(entry.name))
    return found


def until(condition: object, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_started_once_and_serves_every_slice_of_the_home(native_dir: Path, home: Path) -> None:
    first, second = (Slice.create(vram_bytes=GIB, home=home, device=each) for each in (0, 1))
    assert not arbiter.is_served(first)
    arbiter.Watch(first).ensure()
    arbiter.Watch(second).ensure()
    assert len(arbiters(home)) == 1
    assert first.arbiter().epoch > 0
    arbiter.start(home)  # finds the other one's lock
    until(lambda: len(arbiters(home)) == 1)
    assert arbiter.is_served(first)


def test_one_that_was_killed_is_followed_by_another(native_dir: Path, home: Path) -> None:
    made = Slice.create(vram_bytes=GIB, home=home)
    watch = arbiter.Watch(made)
    watch.ensure()
    before, epoch = arbiters(home), made.arbiter().epoch
    os.kill(before[0], signal.SIGKILL)
    until(lambda: not arbiter.is_served(made))  # it is missed after half a second
    until(watch.look)
    assert arbiters(home) != before
    assert made.arbiter().epoch > epoch


def test_it_has_no_terminal_and_no_blocked_signal(native_dir: Path, home: Path) -> None:
    made = Slice.create(vram_bytes=GIB, home=home)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        arbiter.Watch(made).ensure()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    (pid,) = arbiters(home)
    assert os.getsid(pid) != os.getsid(0)
    state = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert int(state["SigIgn"], 16) & 1 << (signal.SIGTERM - 1) == 0
    os.kill(pid, signal.SIGTERM)
    until(lambda: arbiters(home) == [])


def test_without_the_program_the_person_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Slice.create(vram_bytes=GIB, home=home)
    monkeypatch.setenv("ALIQUOT_NATIVE_DIR", str(tmp_path))
    with pytest.raises(NotInstalledError):
        arbiter.Watch(made).ensure()
    program = tmp_path / "bin" / arbiter.PROGRAM
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no use >&2\nexit 1\n")
    program.chmod(0o755)
    begin = time.monotonic()
    with pytest.raises(arbiter.ArbiterMissingError) as refused:
        arbiter.Watch(made).ensure(0.5)
    assert time.monotonic() - begin < 2
    assert str(home / arbiter.LOG) in refused.value.hint
    assert "no use" in (home / arbiter.LOG).read_text()


def test_it_is_looked_after_while_a_program_runs() -> None:
    looks: list[float] = []
    ended = run_program(["sleep", "1.3"], os.environ, lambda: looks.append(time.monotonic()))
    assert ended.status == 0
    assert 1 <= len(looks) <= 3
