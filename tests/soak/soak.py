"""Random calls of the simulated driver by many processes, with kills and stops; then the account.

    python -m tests.soak.soak [--seconds 600] [--processes 16] [--seed 1] [--json FILE]

Status 0 if no process crashed or hung, nothing is left on the cards after all are gone, and the processes
that are never killed keep no more and more host memory. Runs on the native parts that ALIQUOT_NATIVE_DIR
names: on a sanitizer build every bad access counts as a crash (`make soak`).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aliquot import native

from .abi import ROOT, DriverApi
from .worker import MOST_THREADS, SLOT_WORDS

STEADY = 2  # processes that are never killed and watch their own memory
# Bytes of heap between the second and the last quarter of a steady process' life. Python's own share is a
# table of strings that doubles once (230 KB, after some 250,000 calls), and noise of some 50 KB.
GROWTH_ALLOWED = 320 << 10
CUT_BYTES = 20_000  # of a faulty process' last words


@dataclass
class Outcome:
    """What the soak found. Empty lists and zero bytes are what is wanted."""

    seconds: float = 0
    processes: int = 0
    calls: int = 0
    succeeded: int = 0
    symbols_succeeded: int = 0
    symbols: int = 0
    killed: int = 0
    stopped: int = 0
    crashed: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    bytes_left: int = 0
    processes_left: int = 0
    heap_growth_bytes: list[int] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the driver can be trusted, as far as this soak can say."""
        lost = self.crashed or self.hung or self.bytes_left or self.processes_left
        return not lost and self.calls > 0 and max(self.heap_growth_bytes, default=0) <= GROWTH_ALLOWED


class Member:
    """One worker process as the parent sees it."""

    def __init__(self, folder: Path, seed: int, threads: int, steady: bool, env: dict[str, str]) -> None:
        self.steady, self.threads, self.folder = steady, threads, folder
        self.expected_end = False
        self.log = folder / f"log-{seed}"
        command = [sys.executable, "-c", _BOOT, str(native.path("simgpu/libcuda.so.1")), str(folder)]
        command += [str(seed), str(threads), "steady" if steady else "free"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)

    def rows(self) -> Iterator[tuple[int, int, int, int]]:
        """The words of each thread (see worker.Board)."""
        try:
            data = (self.folder / f"board-{self.process.pid}").read_bytes()
        except FileNotFoundError:
            return
        if len(data) < 8 * SLOT_WORDS * MOST_THREADS:
            return  # just made, not written yet
        words = (ctypes.c_uint64 * (len(data) // 8)).from_buffer_copy(data)
        for row in range(self.threads):
            calls, start, index, succeeded = words[row * SLOT_WORDS : (row + 1) * SLOT_WORDS]
            yield calls, start, index, succeeded

    def longest_call(self) -> tuple[float, int]:
        """Seconds and symbol index of the call that has been under way for longest."""
        now = time.monotonic_ns()
        under_way = [((now - start) / 1e9, index) for _, start, index, _ in self.rows() if start]
        return max(under_way, default=(0.0, 0))

    def last_words(self) -> str:
        return self.log.read_bytes()[-CUT_BYTES:].decode(errors="replace")


# The board must be there before the driver is, and its name holds the pid.
_BOOT = f"""
import os, sys
from pathlib import Path
(Path(sys.argv[2]) / f"board-{{os.getpid()}}").write_bytes(bytes({8 * SLOT_WORDS * MOST_THREADS}))
from tests.soak.worker import main
sys.exit(main())
"""


class Soak:
    """Starts workers, kills and stops some, watches all."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.rng = random.Random(options.seed)
        self.symbols = [call.symbol for call in DriverApi().calls]
        self.outcome = Outcome(processes=options.processes, symbols=len(self.symbols))
        self.members: list[Member] = []
        self._seed = options.seed * 1000
        self.env = {
            **os.environ,
            "ALIQUOT_SIMGPU_HOME": str(folder / "home"),
            "ALIQUOT_SIMGPU": "h100:1,t4:1",
            "ALIQUOT_SIMGPU_THREADS": "2",
            "ALIQUOT_LOG": "error",
            "PYTHONPATH": str(ROOT),
            # A sanitizer's runtime must come first in a process; the soak itself needs none.
            "LD_PRELOAD": os.environ.get("ALIQUOT_TEST_PRELOAD", ""),
        }

    def run(self) -> Outcome:
        """The whole soak."""
        start = time.monotonic()
        try:
            self._watch(start)
        finally:
            self._kill_all()
        self.outcome.seconds = round(time.monotonic() - start, 1)
        self._account()
        return self.outcome

    def _watch(self, start: float) -> None:
        self.members = [self._member(steady=i < STEADY) for i in range(self.options.processes)]
        next_kill = start + 3
        while (now := time.monotonic()) - start < self.options.seconds and not self.outcome.hung:
            time.sleep(0.2)
            self._look()
            if now >= next_kill:
                self._kill_or_stop()
                next_kill = now + self.options.kill_every * self.rng.uniform(0.5, 1.5)
        self._end()

    def _kill_all(self) -> None:
        """Nobody is left where the soak itself failed, or was interrupted."""
        for member in self.members:
            if member.process.poll() is None:
                member.process.kill()
                member.process.wait()

    def _member(self, steady: bool) -> Member:
        self._seed += 1
        threads = 1 if steady else self.rng.randint(1, 4)
        return Member(self.folder, self._seed, threads, steady, self.env)

    def _look(self) -> None:
        for index, member in enumerate(self.members):
            seconds, symbol = member.longest_call()
            if member.process.poll() is not None:
                self._bury(member)
                self.members[index] = self._member(member.steady)
            elif seconds > self.options.hang_seconds:
                self._hung(member, f"{self.symbols[symbol]} has not returned for {seconds:.0f} s")

    def _hung(self, member: Member, what: str) -> None:
        stacks = ""
        if debugger := shutil.which("gdb"):
            command = [debugger, "-p", str(member.process.pid), "-batch", "-ex", "thread apply all bt 25"]
            stacks = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300).stdout
        self.outcome.hung.append(f"{what}\n{stacks}\n{member.last_words()}")
        member.expected_end = True
        member.process.kill()

    def _kill_or_stop(self) -> None:
        mortal = [m for m in self.members if not m.steady and m.process.poll() is None]
        if not mortal:
            return
        member = self.rng.choice(mortal)
        if self.rng.random() < 0.25:
            self.outcome.stopped += 1
            member.process.send_signal(signal.SIGSTOP)
            time.sleep(self.rng.uniform(0.05, 0.8))
            member.process.send_signal(signal.SIGCONT)
        else:
            self.outcome.killed += 1
            member.expected_end = True
            member.process.kill()

    def _bury(self, member: Member) -> None:
        for calls, _, _, succeeded in member.rows():
            self.outcome.calls += calls
            self.outcome.succeeded += succeeded
        status = member.process.wait()
        if not member.expected_end:
            symbols = ", ".join(self.symbols[index] for _, start, index, _ in member.rows() if start)
            self.outcome.crashed.append(f"status {status} in {symbols or '-'}\n{member.last_words()}")

    def _end(self) -> None:
        for member in self.members:
            member.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.options.hang_seconds
        for member in self.members:
            try:
                status = member.process.wait(max(0.1, deadline - time.monotonic()))
                member.expected_end |= status in (0, -signal.SIGTERM)
            except subprocess.TimeoutExpired:
                _, symbol = member.longest_call()
                self._hung(member, f"did not end when told to; last call {self.symbols[symbol]}")
            self._bury(member)

    def _account(self) -> None:
        tool = [str(native.program("aliquot-simgpu")), "show", "--json"]
        shown: dict[str, Any] = json.loads(
            subprocess.run(
                tool, env={**self.env, "LD_PRELOAD": ""}, capture_output=True, text=True, check=True
            ).stdout
        )
        self.outcome.bytes_left = sum(card["vram_used_bytes"] for card in shown["cards"])
        self.outcome.processes_left = len(shown["processes"])
        names = {n for file in self.folder.glob("succeeded-*") for n in file.read_text().split()}
        self.outcome.symbols_succeeded = len(names)
        self.outcome.heap_growth_bytes = [growth(file) for file in self.folder.glob("heap-*")]


def growth(file: Path) -> int:
    """Median heap of the last quarter of a worker's notes less that of the second quarter, in bytes."""
    heap = [int(line.split()[1]) for line in file.read_text().splitlines()]
    quarter = len(heap) // 4
    if not quarter:
        return 0
    return int(statistics.median(heap[-quarter:]) - statistics.median(heap[quarter : 2 * quarter]))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, default=2.0, help="seconds between kills, on average")
    parser.add_argument("--hang-seconds", type=float, default=120, help="a call that takes longer hangs")
    parser.add_argument("--json", type=Path, help="where to write the outcome")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="aliquot-soak-", dir="/dev/shm") as folder:
        outcome = Soak(options, Path(folder)).run()
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    report = {**asdict(outcome), "crashed": len(outcome.crashed), "hung": len(outcome.hung)}
    for fault in [*outcome.crashed[:5], *outcome.hung[:5]]:
        print(fault, file=sys.stderr)
    print(json.dumps(report))
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
