"""Whole programs: how much longer one takes on a slice that nobody contends for, against bare.

Bare and limited runs alternate; a sample is one pair's quotient, so that a machine that grows slower or
faster meanwhile does not enter it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from aliquot.bench import Report

from .stage import Part, Place, Stage

TRAINING = Path(__file__).with_name("training.py")
PAIRS, STEPS, STEPS_QUICK = 9, 60, 10
GOAL_SLOWDOWN = 1.0
_PATIENCE_S = 600


def measure(report: Report, stage: Stage) -> None:
    """Adds the slowdown of a CuPy training loop. Raises what `Stage` raises, and `RuntimeError`."""
    steps = str(STEPS_QUICK if report.quick else STEPS)
    bare = stage.bare("card")
    with stage.place("card", Part(percent=50, vram_bytes=4 << 30)) as place:
        stage.ensure_arbiter(place.slice)
        _seconds(place.environment, "1")  # fills the caches of compilers
        samples = [_slowdown(bare, place, steps) for _ in range(report.samples(PAIRS))]
    report.add("limiter.program_slowdown_percent", samples, unit="%", better="lower", goal=GOAL_SLOWDOWN)


def _slowdown(bare: Mapping[str, str], place: Place, steps: str) -> float:
    alone = _seconds(bare, steps)
    return 100 * (_seconds(place.environment, steps) / alone - 1)


def _seconds(environment: Mapping[str, str], steps: str) -> float:
    done = subprocess.run(
        [sys.executable, str(TRAINING), steps],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    if done.returncode:
        raise RuntimeError(f"the training loop ended with {done.returncode}: {done.stderr[-500:]}")
    return float(done.stdout)
