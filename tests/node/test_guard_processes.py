"""What the guard reads of processes, whom it holds on to, and whom it signals: with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.model import DeviceKind
from aliquot.node.guard import Event, kernel
from aliquot.node.guard.census import Census
from aliquot.node.guard.guarding import Guard, GuardError
from aliquot.node.guard.looking import Looker
from aliquot.node.guard.stopping import Stopper
from aliquot.policy.guard import Action, FileId, Finding, Identity, Kind, Occupant, default_rules
from aliquot.policy.guard.findings import Suspicion
from aliquot.vendors import nvidia

SECOND = 1_000_000_000
SLEEP = "import time; print('here', flush=True); time.sleep(60)"
CHANGING = Path("/proc/sys/kernel/ns_last_pid")


@contextmanager
def python(text: str = SLEEP, **options: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "here\n"
            yield process
        finally:
            process.kill()


def child_with_pid(pid: int) -> int:
    """A child that sleeps, with this very pid. Skips where nobody lets us choose."""
    for _ in range(50):
        try:
            CHANGING.write_text(str(pid - 1))
        except OSError:
            pytest.skip("choosing a pid needs root")
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(60)
            os._exit(0)
        if child == pid:
            return child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    pytest.skip(f"others are faster than we to take the pid {pid}")


@dataclass
class Desk:
    """A stopper whose looks are made up, and what it reported."""

    census: Census = field(default_factory=Census)
    events: list[Event] = field(default_factory=list)
    open_: bool | None = True

    def stopper(self, kill_after_ns: int = SECOND) -> Stopper:
        return Stopper(cast(Looker, self), kill_after_ns=kill_after_ns, report=self.events.append)

    def has_driver_open(self, _: Identity) -> bool | None:
        return self.open_

    def descriptor(self, process: Identity) -> int | None:
        return self.census.descriptor(process)

    def finding(self, pid: int) -> Finding:
        self.census.identify([pid])
        facts = self.census.living(pid)
        assert facts is not None
        occupant = Occupant(process=facts.identity, card="GPU-a", uid=facts.uid, vram_bytes=1)
        return Finding(
            suspicion=Suspicion(kind=Kind.STRANGER, occupant=occupant), since_ns=0, action=Action.STOP
        )

    @property
    def said(self) -> list[str]:
        return [each.name for each in self.events]


def test_what_is_known_of_a_process() -> None:
    with python() as process:
        found = kernel.facts(process.pid)
        assert found is not None
        assert found.identity == (process.pid, kernel.start_ticks(process.pid))
        assert found.uid == os.getuid()
        assert found.namespace == Path("/proc/self/ns/pid").stat().st_ino
        assert found.namespace_pid == process.pid
        assert found.program == str(Path(sys.executable).resolve())
        assert kernel.runs(process.pid, [sys.executable, "/bin/true", "/nonexistent"]) == {sys.executable}
        process.kill()
        process_ended = time.monotonic() + 10
        while kernel.start_ticks(process.pid) is not None:  # a zombie until we wait for it
            assert time.monotonic() < process_ended
        assert kernel.facts(process.pid) is None


def test_nobody_has_impossible_pids() -> None:
    for pid in (0, -1, 2**22 + 1, 2**31):
        assert kernel.facts(pid) is None
        assert kernel.start_ticks(pid) is None
    census = Census()
    census.identify([0, 2**22 + 1])
    assert census.living(0) is None
    census.close()


def test_a_leader_that_ended_while_its_threads_go_on_has_not_ended() -> None:
    text = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print('here', flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
    with python(text) as process:
        end = time.monotonic() + 10
        while b") Z" not in Path(f"/proc/{process.pid}/stat").read_bytes():
            assert time.monotonic() < end
            time.sleep(0.01)
        assert kernel.start_ticks(process.pid) is not None


def test_a_name_that_a_process_chose_is_harmless() -> None:
    name = b"a) R 1\x1b[2J\n"
    with python(f"import ctypes; ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0); {SLEEP}") as process:
        found = kernel.facts(process.pid)
        assert found is not None
        assert found.command == "a) R 1?[2J"
        assert found.identity.start_ticks == kernel.start_ticks(process.pid)


def test_which_files_a_process_has_open_or_mapped(tmp_path: Path) -> None:
    file = tmp_path / "a file\nwith a strange name"
    file.write_bytes(bytes(4096))
    other = tmp_path / "other"
    other.touch()
    ids = [FileId(each.stat().st_dev, each.stat().st_ino) for each in (file, other)]
    opened = f"import mmap; f = open({str(file)!r}, 'r+b'); m = mmap.mmap(f.fileno(), 0); "
    null = frozenset({os.major(Path("/dev/null").stat().st_rdev)})
    with python(opened + "f.close(); import os; os.closerange(3, 99);" + SLEEP) as process:
        assert kernel.mapped(process.pid, frozenset(ids)) == {ids[0]}
        assert kernel.has_open(process.pid, frozenset(), frozenset(ids)) is True
        assert kernel.has_open(process.pid, frozenset(), frozenset(ids[1:])) is False
        assert kernel.has_open(process.pid, frozenset(), frozenset(), (bytes(tmp_path),)) is True
    with python(SLEEP, stdin=subprocess.DEVNULL) as process:
        assert kernel.has_open(process.pid, null, frozenset()) is True
    with python("import os; os.close(0);" + SLEEP, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert kernel.has_open(process.pid, null, frozenset()) is False
    assert kernel.has_open(process.pid, null, frozenset()) is None


@given(st.binary(max_size=300))
def test_any_line_of_mappings_can_be_read(line: bytes) -> None:
    found = kernel._file_of(line)
    assert found is None or len(line.split()) >= 6


def test_majors_of_devices_are_those_of_the_kernels_list(tmp_path: Path) -> None:
    listed = tmp_path / "devices"
    listed.write_text(
        "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n511 nvidia-uvm\n\nBlock devices:\n"
    )
    assert nvidia.driver_files(DeviceKind.REAL, devices=listed).majors == {195, 511}
    assert nvidia.driver_files(DeviceKind.REAL, devices=tmp_path / "none").majors == frozenset()


def test_a_pid_that_is_used_again_is_neither_held_nor_signalled() -> None:
    desk = Desk()
    with python() as first:
        pid = first.pid
        finding = desk.finding(pid)
        first.kill()
        first.wait(10)
    second = child_with_pid(pid)
    try:
        assert desk.census.living(pid) is None
        stopper = desk.stopper()
        stopper.stop(finding, 0)
        assert desk.said == ["refused"]
        assert os.waitpid(second, os.WNOHANG) == (0, 0)
        desk.census.identify([pid])
        found = desk.census.living(pid)
        assert found is not None
        assert found.identity != finding.suspicion.occupant.process
    finally:
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)
        desk.census.close()


def test_who_is_killed_later_is_still_the_same_one() -> None:
    """The first ignores SIGTERM and ends by itself; its pid is somebody else's when SIGKILL is due."""
    desk = Desk()
    with python("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP) as first:
        pid = first.pid
        stopper = desk.stopper(kill_after_ns=10)
        stopper.stop(desk.finding(pid), 0)
        assert desk.said == ["terminated"]
        first.kill()
        first.wait(10)
    second = child_with_pid(pid)
    try:
        stopper.advance(100)
        assert desk.said == ["terminated", "stopped"]
        assert os.waitpid(second, os.WNOHANG) == (0, 0)
    finally:
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)
        stopper.close()
        desk.census.close()


def test_told_to_end_then_killed() -> None:
    desk = Desk()
    with python("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP) as process:
        stopper = desk.stopper()
        finding = desk.finding(process.pid)
        stopper.stop(finding, 0)
        stopper.stop(finding, 1)
        stopper.advance(SECOND - 1)
        assert stopper.busy
        assert process.poll() is None
        stopper.advance(SECOND)
        assert process.wait(10) == -signal.SIGKILL
        stopper.advance(SECOND + 1)
        assert not stopper.busy
        assert desk.said == ["terminated", "killed", "stopped"]


@pytest.mark.parametrize(("open_", "reason"), [(False, "nothing of the driver"), (None, "may not see")])
def test_who_has_nothing_of_the_driver_open_is_not_touched(open_: bool | None, reason: str) -> None:
    desk = Desk(open_=open_)
    with python() as process:
        stopper = desk.stopper()
        stopper.stop(desk.finding(process.pid), 0)
        assert desk.said == ["refused"]
        assert reason in desk.events[0].text
        stopper.stop(desk.finding(process.pid), 1)
        assert desk.said == ["refused"]  # once
        stopper.forget([])
        stopper.stop(desk.finding(process.pid), 2)
        assert desk.said == ["refused", "refused"]
        assert process.poll() is None


def test_it_never_stops_itself() -> None:
    desk = Desk()
    desk.stopper().stop(desk.finding(os.getpid()), 0)
    assert desk.said == ["refused"]


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_whom_we_may_not_signal_is_reported() -> None:
    """As another user, in a child: root's process is refused, and told so."""
    with python() as process:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                os.setresuid(65534, 65534, 65534)
                desk = Desk()
                desk.stopper().stop(desk.finding(process.pid), 0)
                os.write(writing, " ".join(each.text for each in desk.events).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        said = os.read(reading, 4096).decode()
        os.close(reading)
        assert "may not signal it; run the guard as root" in said
        assert process.poll() is None


def test_descriptors_are_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    census = Census()
    with python() as process:
        for _ in range(3):
            census.identify([process.pid, os.getpid()])
            census.identify([os.getpid()])
        census.identify([process.pid])
        assert census.living(process.pid) is not None
    census.identify([process.pid])
    census.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_without_descriptors_it_names_processes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel that has no pidfd, or with too many open files."""

    def none(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", none)
    desk = Desk()
    with python() as process:
        stopper = desk.stopper()
        stopper.stop(desk.finding(process.pid), 0)
        assert desk.said == ["refused"]
        assert process.poll() is None


def test_it_does_not_begin_inside_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIQUOT_SLICE", "/dev/shm/somewhere")
    with pytest.raises(GuardError, match="runs on a slice"):
        Guard([], default_rules(), print)


def test_it_goes_on_until_it_is_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIQUOT_SLICE", raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    events: list[Event] = []
    until = threading.Event()
    with Guard([], default_rules(), events.append) as guard:
        threading.Timer(0.6, until.set).start()
        begin = time.monotonic()
        guard.run(until)
        assert time.monotonic() - begin < 5
        assert guard.looks >= 2
    assert [each.name for each in events] == ["guarding"]
