"""What a benchmark found: samples in, medians and spread out. No terminal and no clock but the date's."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from aliquot.errors import AliquotError, InvalidValueError

Better = Literal["lower", "higher"]

UNITS: Final = frozenset({"1/s", "ns", "us", "ms", "s", "B", "MiB", "B/s", "%", "points", "ratio", "count"})
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_-]+)+", re.ASCII)
_QUICK_SAMPLES: Final = 3


class BenchmarkUnavailable(AliquotError):
    """A benchmark cannot run on this machine; the reason says what it needs."""

    code = "benchmark-unavailable"
    exit_status = 5


@dataclass(frozen=True, slots=True)
class Result:
    """One figure: `value` is the median of `samples` repetitions in `unit`, `p10` and `p90` its spread."""

    name: str
    value: float
    unit: str
    better: Better
    goal: float | None
    p10: float
    p90: float
    samples: int

    @property
    def meets_goal(self) -> bool | None:
        """Whether the median reaches the goal; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


@dataclass(slots=True, kw_only=True)
class Report:
    """What one benchmark run collects. `scratch` is a fresh folder that is removed afterwards."""

    benchmark: str
    scratch: Path
    quick: bool = False
    arguments: list[str] = field(default_factory=list[str])
    results: list[Result] = field(default_factory=list[Result])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])

    def samples(self, count: int) -> int:
        """How often to repeat: `count`, or 3 in a quick run."""
        return min(count, _QUICK_SAMPLES) if self.quick else count

    def add(
        self, name: str, samples: Iterable[float], *, unit: str, better: Better, goal: float | None = None
    ) -> None:
        """Adds one figure from its repetitions. Raises `InvalidValueError` for a bad name, unit or sample."""
        values = sorted(float(sample) for sample in samples)
        self._check(name, unit, values)
        self.results.append(
            Result(
                name=name,
                value=statistics.median(values),
                unit=unit,
                better=better,
                goal=goal,
                p10=quantile(values, 0.1),
                p90=quantile(values, 0.9),
                samples=len(values),
            )
        )

    def skip(self, name: str, reason: str) -> None:
        """Says in the table why a figure is missing; it does not appear in the JSON."""
        self.skipped[name] = reason

    def note(self, text: str) -> None:
        """A line under the table: the conditions under which the figures were taken."""
        self.notes.append(text)

    def as_dict(self, *, machine: str, date: datetime | None = None) -> dict[str, object]:
        """The report in the project's JSON form."""
        return {
            "benchmark": self.benchmark,
            "machine": machine,
            "date": (date or datetime.now(UTC)).isoformat(timespec="seconds"),
            "results": [asdict(result) for result in self.results],
        }

    def _check(self, name: str, unit: str, values: Sequence[float]) -> None:
        if not _NAME.fullmatch(name) or not name.startswith(f"{self.benchmark}."):
            raise InvalidValueError(f"{name!r} is not a dotted lower-case name below {self.benchmark!r}")
        if any(result.name == name for result in self.results):
            raise InvalidValueError(f"{name!r} was measured twice")
        if unit not in UNITS:
            raise InvalidValueError(f"{unit!r} of {name} is not one of the units {', '.join(sorted(UNITS))}")
        if not values or not all(map(math.isfinite, values)):
            raise InvalidValueError(f"{name} needs at least one sample, and finite ones: {values!r}")


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """The quantile of an ascending, non-empty sequence, by linear interpolation between its neighbours."""
    position = (len(ordered) - 1) * fraction
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
