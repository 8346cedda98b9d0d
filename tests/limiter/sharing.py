"""Limited programs that work on a simulated card, the arbiter that lends it, and what the card recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aliquot import native
from aliquot.limits import DeviceLimit, Slice
from aliquot.mechanisms import limiter
from aliquot.model import Ppm, QosLevel

from .conftest import MIB, PROGRAMS, Limited

LIMIT = 2048 * MIB
MS = 1_000_000
PRELUDE = """
import sys, time, os, threading
from work_calls import *
"""
DEEP = "w = Worker(); say('ready'); w.nap_for(float(sys.argv[1]), int(sys.argv[2])); say('done')"
"""Keeps kernels of so many nanoseconds queued, for so many seconds."""


def working_machine(simgpu_env: Mapping[str, str], cards: str = "t4") -> dict[str, str]:
    """A simulated machine of such cards, for programs that `Worker` is at hand for."""
    settings = {"ALIQUOT_SIMGPU": cards, "ALIQUOT_SIMGPU_HOST_BYTES": "64GiB"}
    env = {**simgpu_env, **settings, "PYTHONPATH": str(PROGRAMS)}
    del env["LD_LIBRARY_PATH"]
    return env


def make_slice(
    machine: Mapping[str, str],
    native_dir: Path,
    home: Path,
    compute: int = 0,
    ceiling: int = 0,
    *,
    parts: Mapping[int, int] | None = None,
    qos: QosLevel | None = None,
) -> Limited:
    """A slice of the first card, or of those that `parts` names; parts of a card in millionths."""
    driver, nvml = (native_dir / "simgpu" / name for name in ("libcuda.so.1", "libnvidia-ml.so.1"))
    limits = [
        DeviceLimit(
            vram_bytes=LIMIT,
            device=device,
            compute_request_ppm=Ppm(part),
            compute_limit_ppm=Ppm(ceiling),
        )
        for device, part in (parts or {0: compute}).items()
    ]
    made = Slice.create_on(limits, driver=driver, nvml=nvml, home=home, qos=qos)
    return Limited(made, limiter.environment(made, machine))


class Program:
    """A limited program that says a word when it has come somewhere; it ends with the test."""

    def __init__(self, limited: Limited, text: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(text), *arguments],
            env=limited.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[tuple[float, str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.strip()))

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(timeout=10)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            pipe.close()

    def has_said(self, word: str) -> bool:
        return any(line == word for _, line in self.lines)

    def wait_for(self, word: str, timeout: float = 60) -> float:
        """When it said the word."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for at, line in self.lines:
                if line == word:
                    return at
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.005)
        error = self.process.stderr.read() if self.process.poll() is not None and self.process.stderr else ""
        raise AssertionError(f"never said {word!r}, only {self.lines}\n{error}")

    def tell(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self, timeout: float = 60) -> None:
        assert self.process.stdin
        assert self.process.stderr
        self.process.stdin.close()
        status = self.process.wait(timeout=timeout)
        self._reader.join(timeout=10)
        assert status == 0, self.process.stderr.read()


def intervals(machine: Mapping[str, str], native_dir: Path, card: int = 0) -> list[dict[str, int]]:
    """What the card recorded: who had its engine, and when."""
    env = {**machine, "ALIQUOT_NATIVE_DIR": str(native_dir)}
    command = [sys.executable, "-m", "aliquot", "simgpu", "record", "--device", str(card), "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)["intervals"]


def busy_ns(recorded: Sequence[Mapping[str, int]], begin: float, end: float) -> float:
    """How long the card worked between two times."""

    def within(interval: Mapping[str, int]) -> float:
        inside = min(end, interval["end_ns"]) - max(begin, interval["start_ns"])
        return interval["busy_ns"] * max(0.0, inside) / max(1, interval["end_ns"] - interval["start_ns"])

    return sum(map(within, recorded))


def by_process(recorded: Sequence[dict[str, int]]) -> dict[int, list[dict[str, int]]]:
    """The intervals of each process, by its pid."""
    return {pid: [i for i in recorded if i["pid"] == pid] for pid in {i["pid"] for i in recorded}}


def shares(recorded: Sequence[dict[str, int]], settle: float = 1.0) -> dict[int, float]:
    """The part of the card's busy time that each process had while all of them were at work."""
    own = by_process(recorded)
    begin = max(min(i["start_ns"] for i in mine) for mine in own.values()) + settle * 1e9
    end = min(max(i["end_ns"] for i in mine) for mine in own.values())
    busy = {pid: busy_ns(mine, begin, end) for pid, mine in own.items()}
    return {pid: value / sum(busy.values()) for pid, value in busy.items()}


def lent(limited: Sequence[Limited], seconds: float) -> list[float]:
    """The part of what is lent of the first card from now on that each slice has, gaps in its work included.

    By the arbiter's account. The record leaves out the gaps, which a busy host makes for whoever has few
    processes to fill them.
    """

    def held() -> list[int]:
        return [each.slice.usage().devices[0].held_ns for each in limited]

    before = held()
    time.sleep(seconds)
    parts = [after - first for after, first in zip(held(), before, strict=True)]
    return [part / max(1, sum(parts)) for part in parts]


def wait_until(holds: Callable[[], bool], timeout: float = 20) -> None:
    until = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


@contextmanager
def arbiter_of(*limited: Limited) -> Iterator[subprocess.Popen[bytes]]:
    """The arbiter of these slices, which have one home; it is there when this begins."""
    home = limited[0].slice.path.parent
    arbiter = subprocess.Popen([str(native.program("aliquot-arbiter")), "--home", str(home)])
    try:
        wait_until(lambda: all((each.slice.path / "arbiter").exists() for each in limited))
        yield arbiter
    finally:
        arbiter.kill()
        arbiter.wait()
