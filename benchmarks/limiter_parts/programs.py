"""Whole programs: the examples and a training loop; how much longer they take on a slice than bare.

Each program stands ready in several processes (`repeated.py`), bare ones and limited ones, and runs in one at
a time: bare, limited, bare. A sample is the limited time over the mean of the bare ones beside it, so that a
machine that grows slower or faster meanwhile does not enter it; the second bare run over the first says how
much of it is noise. Starting Python and importing are left out. Nobody contends for the slice.

Sharing: the same program twice at once, each on a slice of half of the card, over twice at once and bare.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aliquot.bench import Report

from .stage import Part, Stage

ROUNDS, ROUNDS_SHARED = 30, 8
GOAL_SLOWDOWN = 1.0
HALF = Part(percent=50, vram_bytes=4 << 30)
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is run, with as much work as takes a few tenths of a second on two cores."""

    name: str
    file: str
    """Below the source tree."""
    arguments: tuple[str, ...]
    draws: bool = False
    computes: bool = True
    """One that only makes a context and allocates shows what that costs, and is left out of the mean."""


PROGRAMS = (
    Program(name="training", file="benchmarks/limiter_parts/training.py", arguments=("100",)),
    Program(name="nbody", file="examples/nbody.py", arguments=("--steps", "32"), draws=True),
    Program(name="fluid", file="examples/fluid.py", arguments=("--steps", "40"), draws=True),
    Program(
        name="reaction_diffusion",
        file="examples/reaction_diffusion.py",
        arguments=("--steps", "800"),
        draws=True,
    ),
    Program(
        name="greedy", file="examples/greedy.py", arguments=("--ask", "2048", "--piece", "4"), computes=False
    ),
)


class Running:
    """A process in which a program stands ready."""

    def __init__(self, program: Program, environment: Mapping[str, str], scratch: Path) -> None:
        drawing = ("--no-check", "--out", str(scratch / "picture.png")) if program.draws else ()
        self.name = program.name
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("repeated.py")),
                str(_ROOT / program.file),
                *program.arguments,
                *drawing,
            ],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self) -> None:
        """Has it run once; `seconds` waits for that."""
        assert self.process.stdin
        self.process.stdin.write("run\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """The next line. Raises `RuntimeError` where the program has failed."""
        assert self.process.stdout
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.name} ended with status {self.process.wait()}")
        return line

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one round."""

    bare: tuple[float, float]
    limited: float

    @property
    def ratio(self) -> float:
        """Limited over bare."""
        return self.limited / statistics.fmean(self.bare)

    @property
    def noise(self) -> float:
        """The second bare run over the first."""
        return self.bare[1] / self.bare[0]


def seconds(running: Sequence[Running]) -> float:
    """What one run takes, the mean of all where several run at once."""
    for each in running:
        each.begin()
    return statistics.fmean([float(each.answer()) for each in running])


def measure(report: Report, stage: Stage) -> None:
    """Adds the figures of whole programs. Raises what `Stage` raises, and `RuntimeError`."""
    alone: dict[str, list[Times]] = {}
    shared: dict[str, list[float]] = {}
    for program in PROGRAMS:
        with _ready(program, stage) as (bare, limited):
            rounds = range(report.samples(ROUNDS))
            alone[program.name] = [_round(bare[:1], limited[:1]) for _ in rounds]
            rounds = range(report.samples(ROUNDS_SHARED))
            shared[program.name] = [_round(bare, limited).ratio for _ in rounds]
    _add_alone(report, alone)
    for name, ratios in shared.items():
        _add(report, f"limiter.program_shared_percent.{name}", ratios)
    report.note(
        "programs: a run of main() on a slice over the mean of a bare one before and one behind it; "
        "program_noise_percent: the second bare run over the first"
    )


@contextmanager
def _ready(program: Program, stage: Stage) -> Iterator[tuple[list[Running], list[Running]]]:
    """The program in two bare processes and two limited ones, after a first run that compiles."""
    with ExitStack() as stack:
        places = [stack.enter_context(stage.place("card", HALF, name)) for name in ("first", "second")]
        stage.ensure_arbiter(places[0].slice)
        environments = [stage.bare("card")] * 2 + [place.environment for place in places]
        running: list[Running] = []
        for environment in environments:
            each = stack.enter_context(Running(program, environment, stage.machine.parent))
            each.answer()
            seconds([each])
            running.append(each)
        yield running[:2], running[2:]


def _round(bare: Sequence[Running], limited: Sequence[Running]) -> Times:
    before = seconds(bare)
    between = seconds(limited)
    return Times((before, seconds(bare)), between)


def _add_alone(report: Report, found: Mapping[str, Sequence[Times]]) -> None:
    """Each program's figure, and the geometric mean of all that compute, round by round."""
    name = "limiter.program_slowdown_percent"
    computing = [program.name for program in PROGRAMS if program.computes]
    rounds = list(zip(*(found[each] for each in computing), strict=True))
    of_all = [statistics.geometric_mean(each.ratio for each in times) for times in rounds]
    noise = [statistics.geometric_mean(each.noise for each in times) for times in rounds]
    _add(report, name, of_all, GOAL_SLOWDOWN)
    _add(report, "limiter.program_noise_percent", noise)
    for program, times in found.items():
        goal = GOAL_SLOWDOWN if program in computing else None
        _add(report, f"{name}.{program}", [each.ratio for each in times], goal)
        taken = [each.limited * 1000 for each in times]
        report.add(f"limiter.program_ms.{program}", taken, unit="ms", better="lower")


def _add(report: Report, name: str, ratios: Sequence[float], goal: float | None = None) -> None:
    report.add(name, [100 * (each - 1) for each in ratios], unit="%", better="lower", goal=goal)
