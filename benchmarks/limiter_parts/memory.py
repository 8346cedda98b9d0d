"""Whether the memory limit is exact: random allocation by 16 processes, half of them killed in each second
round."""

from __future__ import annotations

import json
import subprocess

from aliquot.bench import Report, native_program

from .calls import BLOCK, CALLS, sides
from .stage import Part, Stage

LIMIT = 1 << 30
PROCESSES, THREADS, SEED = 16, 2, 1
ROUNDS, ROUNDS_QUICK = 1000, 20
_PATIENCE_S = 3600


def _alloc_tail(report: Report, stage: Stage) -> None:
    with sides(stage, Part(), PROCESSES) as all_of_them:
        samples = [all_of_them.tail_ns(CALLS, BLOCK) for _ in range(report.samples(10))]
    for where, values in zip(("bare", "limited"), zip(*samples, strict=True), strict=True):
        report.add(f"limiter.alloc_p99_ns.{where}", values, unit="ns", better="lower")


def measure(report: Report, stage: Stage) -> None:
    """Adds the figures of memory. Raises what `Stage` raises, and `RuntimeError`."""
    _alloc_tail(report, stage)
    rounds = ROUNDS_QUICK if report.quick else ROUNDS
    with stage.place("null", Part(vram_bytes=LIMIT)) as place:
        done = subprocess.run(
            [str(native_program("limiter-storm")), *map(str, (LIMIT, PROCESSES, THREADS, rounds, SEED))],
            env=dict(place.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"limiter-storm ended with {done.returncode}: {done.stderr[-500:]}") from None
    leaked = found["bytes_lost"] + found["bytes_unaccounted"]
    report.add("limiter.bytes_over", [found["bytes_over"]], unit="B", better="lower", goal=0)
    report.add("limiter.bytes_leaked", [leaked], unit="B", better="lower", goal=0)
    report.add("limiter.hung_rounds", [found["hung_rounds"]], unit="count", better="lower", goal=0)
    report.note(
        f"memory: {rounds} rounds of {PROCESSES} processes with {THREADS} threads; half killed in each second"
    )
