"""Whether the memory limit is exact: random allocation by 16 processes, half of them killed in each second
round."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress

from aliquot.bench import Report, native_program

from .calls import BLOCK, CALLS, sides
from .stage import Part, Place, Stage

LIMIT = 1 << 30
PROCESSES, THREADS = 16, 2
ROUNDS, ROUNDS_QUICK, ROUNDS_AT_ONCE = 1000, 20, 50
_PATIENCE_S = 600
_MOST_S = 900
"""A machine on which a thousand rounds take longer does fewer, and the report says how many."""


def _alloc_tail(report: Report, stage: Stage) -> None:
    with sides(stage, Part(), PROCESSES) as all_of_them:
        samples = [all_of_them.tail_ns(CALLS, BLOCK) for _ in range(report.samples(10))]
    for where, values in zip(("bare", "limited"), zip(*samples, strict=True), strict=True):
        report.add(f"limiter.alloc_p99_ns.{where}", values, unit="ns", better="lower")


def measure(report: Report, stage: Stage) -> None:
    """Adds the figures of memory. Raises what `Stage` raises, and `RuntimeError`."""
    _alloc_tail(report, stage)
    rounds = ROUNDS_QUICK if report.quick else ROUNDS
    found: Counter[str] = Counter()
    begin, done = time.monotonic(), 0
    with stage.place("null", Part(vram_bytes=LIMIT)) as place:
        while done < rounds and time.monotonic() - begin < _MOST_S:
            some = min(ROUNDS_AT_ONCE, rounds - done)
            found.update(_storm(place, some, seed=1 + done))
            done += some
    leaked = found["bytes_lost"] + found["bytes_unaccounted"]
    report.add("limiter.bytes_over", [found["bytes_over"]], unit="B", better="lower", goal=0)
    report.add("limiter.bytes_leaked", [leaked], unit="B", better="lower", goal=0)
    report.add("limiter.hung_rounds", [found["hung_rounds"]], unit="count", better="lower", goal=0)
    report.note(
        f"memory: {done} rounds of {PROCESSES} processes with {THREADS} threads; half killed in each second"
    )


def _storm(place: Place, rounds: int, *, seed: int) -> dict[str, int]:
    """What limiter-storm counted. Its processes go with it, whatever happens."""
    command = [str(native_program("limiter-storm")), *map(str, (LIMIT, PROCESSES, THREADS, rounds, seed))]
    with subprocess.Popen(
        command,
        env=dict(place.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as storm:
        try:
            out, err = storm.communicate(timeout=_PATIENCE_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(storm.pid, signal.SIGKILL)
    try:
        return json.loads(out)
    except ValueError:
        raise RuntimeError(f"limiter-storm ended with {storm.returncode}: {err[-500:]}") from None
