"""Whether tests end alike in two runs, for people and for programs. Which runs is the caller's choice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from conformance import judging, record, report
from conformance.record import Result, Use
from conformance.suite import Suite
from conformance.surroundings import Inside

_ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One test in two runs; None where a run does not have it."""

    test: str
    before: Result | None
    now: Result | None

    @property
    def alike(self) -> bool:
        """The same outcome; of failures and skips also the same kind of message."""
        return _ending(self.before) == _ending(self.now)

    def __str__(self) -> str:
        return f"differs: {self.test}: {_told(self.before)}, now {_told(self.now)}"


def pairs(before: Iterable[Result], now: Iterable[Result]) -> list[Pair]:
    """Every test of either run, in their order."""
    first, second = ({each.test: each for each in results} for results in (before, now))
    return [Pair(test=test, before=first.get(test), now=second.get(test)) for test in {**first, **second}]


def read(file: Path) -> list[Result]:
    """The results that a run wrote with --json."""
    return [Result(**each) for each in json.loads(file.read_text(encoding="utf-8"))["tests"]]


def summary(compared: Sequence[Pair], inside: Inside, use: Use) -> str:
    """The figures in words, after a line for each difference."""
    different = [each for each in compared if not each.alike]
    counts = Counter(_outcome(each.now) for each in compared)
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
    around = "every card" if inside.every_card else " ".join(inside.options) or "memory alone"
    beside = ", beside a slice that is always busy" if inside.neighbour else ""
    return "\n".join(
        [
            *map(str, different),
            f"{len(compared) - len(different)} of {len(compared)} tests end inside a slice as outside "
            f"({around}{beside}): {outcomes}",
            f"inside: {use.processes} processes, {use.launches} launches, waited {use.waited_ns / 1e9:.1f} s "
            f"for turns, {use.refused_allocations} allocations refused",
        ]
    )


def write_json(file: Path, suite: Suite, compared: Sequence[Pair], inside: Inside, use: Use) -> None:
    """All that was compared."""
    content: dict[str, Any] = {
        "suite": suite.name,
        "package": report.package(suite),
        "cards": suite.cards,
        "vram": suite.slice_vram,
        "every_card": inside.every_card,
        "slice_options": list(inside.options),
        "neighbour": inside.neighbour,
        "compared": len(compared),
        "modules": len({each.test.partition("::")[0] for each in compared}),
        "alike": sum(each.alike for each in compared),
        "outside": _outcomes(each.before for each in compared),
        "inside": _outcomes(each.now for each in compared),
        "use": asdict(use),
        "differences": [_difference(each) for each in compared if not each.alike],
        "tests": {each.test: [_outcome(each.before), _outcome(each.now)] for each in compared},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _ending(result: Result | None) -> tuple[str, str]:
    if result is None or result.passed:
        return _outcome(result), ""
    return result.outcome, judging.kind(replace(result, log=""))  # a slice's log has lines of its own


def _outcome(result: Result | None) -> str:
    return _ABSENT if result is None else result.outcome


def _outcomes(results: Iterable[Result | None]) -> Mapping[str, int]:
    return dict(Counter(map(_outcome, results)))


def _told(result: Result | None) -> str:
    if result is None or result.outcome == record.PASSED:
        return _outcome(result)
    return f"{result.outcome} ({next(iter(result.message.splitlines()), '')[:200]})"


def _difference(pair: Pair) -> dict[str, str]:
    return {"test": pair.test, "outside": _told(pair.before), "inside": _told(pair.now)}
