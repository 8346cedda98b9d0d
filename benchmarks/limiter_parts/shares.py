"""How exactly a card is shared, and how much of its work that costs, over a grid of shares and of work.

Each cell runs on the simulated card: bare, which says how busy the card can be with this work, limited, and
bare again. Who had the card is what its own record says. A tenant's share is its part of the busy time, that
of one which waits for every kernel the card at its disposal, with the gaps in which no other's ran.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

from aliquot.bench import Report
from aliquot.model import percent

from . import record
from .stage import Part, Place, Stage
from .tenants import Observation, Tenant, observe

Curves = dict[str, list[dict[str, float]]]
"""The shares of each step of time, by cell."""
FEWEST_KERNELS = 50
STEP_NS = 100_000_000
SETTLED_POINTS = 10.0
"""In a step of 100 ms a kernel or a turn more or less is some points of it."""
GOALS = {
    "limiter.share_error_mean_points": 0.5,
    "limiter.share_error_worst_points": 1.5,
    "limiter.share_error_worst_relative_percent": 10.0,
}
GOAL_WORK_KEPT, GOAL_SETTLE_S = 98.0, 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """Tenants that share the card. Its name becomes the end of a figure's name."""

    name: str
    tenants: tuple[Tenant, ...]
    judged: bool = True
    """Its shares count; otherwise only the work that gets done."""


def _cell(name: str, percents: Sequence[float], manners: Sequence[str], **options: object) -> Cell:
    made = [
        Tenant(name=f"t{index}", part=Part(percent=part), manner=manner, **options)  # type: ignore[arg-type]
        for index, (part, manner) in enumerate(zip(percents, cycle(manners), strict=False))
    ]
    return Cell(name, tuple(made))


def _kernel(*microseconds: int, depth: int = 64) -> str:
    return f"--kernel {','.join(str(each * 1000) for each in microseconds)} --depth {depth}"


_MIX = (_kernel(20), _kernel(200), _kernel(1000), _kernel(5000, depth=8), _kernel(10_000, depth=4))
GRID = (
    _cell("1_99", (1, 99), [_kernel(200)]),
    _cell("10_90", (10, 90), [_kernel(1000)]),
    _cell("30_70", (30, 70), [_kernel(1000)]),
    _cell("30_70_short_long", (30, 70), [_kernel(20), _kernel(50_000, depth=4)]),
    _cell("50_50", (50, 50), [_kernel(200)]),
    _cell("50_50_mixed", (50, 50), [_kernel(20, 50, 200, 1000, 5000), _kernel(1000)]),
    _cell("50_50_graphs", (50, 50), ["--kernel 100000 --graph 10 --depth 4", _kernel(200)]),
    _cell("50_50_streams", (50, 50), ["--kernel 200000 --streams 8", _kernel(200)]),
    _cell("50_50_processes", (50, 50), [_kernel(500)], processes=2),
    _cell("4x25", (25,) * 4, _MIX[:4]),
    _cell("10x10", (10,) * 10, list(islice(cycle(_MIX), 10))),
)
QUICK = ("30_70", "50_50_graphs", "4x25")

BURSTS = Cell(
    "bursts",
    (
        Tenant(name="t0", part=Part(percent=50), manner="--kernel 500000 --burst 40 --idle 30000000"),
        Tenant(name="t1", part=Part(percent=50), manner=_kernel(1000)),
    ),
    judged=False,
)
IDLE = Cell("alone", (Tenant(name="t0", part=Part(percent=30), manner=_kernel(1000)),), judged=False)
SYNC = Cell(
    "sync",
    (
        Tenant(name="t0", part=Part(percent=50), manner="--kernel 200000 --sync --think 20000"),
        Tenant(name="t1", part=Part(percent=50), manner=_kernel(1000)),
    ),
    judged=False,
)


@dataclass(slots=True)
class Found:
    """What the cells said so far."""

    errors: list[float] = field(default_factory=list)
    relative: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    curves: Curves = field(default_factory=dict)
    """For the plot."""


def measure(report: Report, stage: Stage) -> Curves:
    """Adds the figures of shares; returns the curves. Raises what `observe` raises."""
    found = Found()
    seconds = stage.options.seconds
    cells = [cell for cell in GRID if not report.quick or cell.name in QUICK]
    for cell in [*cells, BURSTS, IDLE]:
        _measure_cell(report, stage, cell, seconds, found)
    report.add(
        "limiter.share_error_mean_points", [sum(found.errors) / len(found.errors)], unit="points",
        better="lower", goal=GOALS["limiter.share_error_mean_points"],
    )  # fmt: skip
    _add_worst(report, "limiter.share_error_worst_points", found.errors, "points")
    _add_worst(report, "limiter.share_error_worst_relative_percent", found.relative, "%")
    report.add("limiter.work_kept_percent", [min(found.kept)], unit="%", better="higher", goal=GOAL_WORK_KEPT)
    if stage.ours:
        _measure_ceiling(report, stage, seconds)
    if not stage.has_record:
        report.note(
            f"shares: {seconds:g} s a cell, by what the tenants launched: a real card keeps no record"
        )
        return {}
    _measure_sync(report, stage, seconds)
    if stage.ours:
        found.curves["change"] = _measure_change(report, stage, seconds)
    report.note(
        f"shares: {seconds:g} s a cell after 1 s, by the card's own record; work: against the same bare"
    )
    return found.curves


def _add_worst(report: Report, name: str, values: Sequence[float], unit: str) -> None:
    report.add(name, [max(values)], unit=unit, better="lower", goal=GOALS[name])


def _measure_cell(report: Report, stage: Stage, cell: Cell, seconds: float, found: Found) -> None:
    before = observe(stage, cell.tenants, limited=False, seconds=max(1.0, seconds / 4))
    seen = observe(stage, cell.tenants, limited=True, seconds=seconds)
    after = observe(stage, cell.tenants, limited=False, seconds=max(1.0, seconds / 4))
    kept = 100 * seen.busy_percent() / ((before.busy_percent() + after.busy_percent()) / 2)
    report.add(f"limiter.work_kept_percent.{cell.name}", [kept], unit="%", better="higher")
    found.kept.append(kept)
    if not cell.judged:
        return
    _check(report, cell, seen)
    shares = seen.shares()
    wanted = {tenant.name: tenant.part.percent for tenant in cell.tenants}
    errors = [abs(shares[name] - wanted[name]) for name in seen.names]
    report.add(f"limiter.share_error_points.{cell.name}", errors, unit="points", better="lower")
    found.errors += errors
    found.relative += [100 * error / wanted[name] for name, error in zip(seen.names, errors, strict=True)]
    found.curves[cell.name] = record.shares_over_time(
        seen.intervals, seen.names, seen.begin, seen.end, STEP_NS
    )


def _check(report: Report, cell: Cell, seen: Observation) -> None:
    """What was seen must be enough to judge by."""
    if seen.lost:
        report.note(f"{cell.name}: parts of the card's record were lost")
    few = [name for name in seen.names if seen.kernels(name) < FEWEST_KERNELS]
    if few:
        report.note(
            f"{cell.name}: fewer than {FEWEST_KERNELS} kernels of {', '.join(few)}: use a longer --seconds"
        )


def _measure_sync(report: Report, stage: Stage, seconds: float) -> None:
    """A tenant that waits for each kernel, beside a flood: half of the card is to be at its disposal."""
    for limited in (False, True):
        seen = observe(stage, SYNC.tenants, limited=limited, seconds=seconds)
        share = seen.disposal_shares()["t0"]
        name = "limiter.sync_tenant_share_error_points"
        report.add(name if limited else f"{name}.bare", [abs(share - 50)], unit="points", better="lower")
        if limited:
            report.add("limiter.sync_tenant_busy_percent", [seen.busy_percent()], unit="%", better="higher")


def _measure_ceiling(report: Report, stage: Stage, seconds: float) -> None:
    """A hard slice alone on an idle card gets what it asked for and no more."""
    alone = Tenant(name="t0", part=Part(percent=30, hard=True), manner=_kernel(1000))
    seen = observe(stage, [alone], limited=True, seconds=seconds)
    report.add(
        "limiter.hard_share_error_points",
        [abs(seen.busy_percent() - 30)],
        unit="points",
        better="lower",
        goal=1.5,
    )


def _measure_change(report: Report, stage: Stage, seconds: float) -> list[dict[str, float]]:
    """From 30/70 to 70/30 while they run: how long until the shares stay near the new ones."""
    changed_at: list[int] = []

    def change(places: Mapping[str, Place]) -> None:
        for name, part in (("t0", 70), ("t1", 30)):
            slice_ = places[name].slice
            assert slice_
            slice_.set_compute(percent(part))
        changed_at.append(time.monotonic_ns())

    cell = next(cell for cell in GRID if cell.name == "30_70")
    seen = observe(stage, cell.tenants, limited=True, seconds=max(4.0, seconds), meanwhile=change)
    after = record.shares_over_time(seen.intervals, seen.names, changed_at[0], seen.end, STEP_NS)
    off = [index for index, each in enumerate(after) if abs(each["t0"] - 70) > SETTLED_POINTS]
    settled = (off[-1] + 1) * STEP_NS / 1e9 if off else 0.0
    report.add("limiter.settle_s", [settled], unit="s", better="lower", goal=GOAL_SETTLE_S)
    return record.shares_over_time(seen.intervals, seen.names, seen.begin, seen.end, STEP_NS)
