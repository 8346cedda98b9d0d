"""What a suite's results amount to: figures, goals, stale exclusions, kinds of failure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from conformance import record
from conformance.record import Result
from conformance.suite import Known, Suite

_VARIABLE: Final = re.compile(r"0x[0-9a-fA-F]+|\d+(\.\d+)?([eE][-+]?\d+)?|'[^']*'|\"[^\"]*\"|<[^>]*>|/\S+")
"""What differs between two messages of one kind: numbers, names, addresses, paths."""


@dataclass(slots=True)
class Figures:
    """Counts of tests. Excluded ones are counted apart from all others."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    excluded: int = 0
    excluded_passed: int = 0
    seconds: float = 0.0

    @property
    def collected(self) -> int:
        """All tests that there are."""
        return self.passed + self.failed + self.skipped + self.excluded

    @property
    def percent_of_all(self) -> float:
        """Passed tests in percent of all; a skipped test is no passed test."""
        return _percent(self.passed + self.excluded_passed, self.collected)

    @property
    def percent_after_exclusions(self) -> float:
        """Passed tests in percent of those that are not excluded."""
        return _percent(self.passed, self.collected - self.excluded)


@dataclass(slots=True, kw_only=True)
class Judgement:
    """What a run amounts to."""

    total: Figures = field(default_factory=Figures)
    folders: dict[str, Figures] = field(default_factory=lambda: defaultdict(Figures))
    excluded: dict[int, list[Result]] = field(default_factory=lambda: defaultdict(list))
    """By the exclusion's place in the suite's file."""
    failures: list[Result] = field(default_factory=list)
    """Tests that fail and are not excluded."""
    known_failures: dict[int, list[Result]] = field(default_factory=lambda: defaultdict(list))
    """Those of them that the suite's file tells about, by the entry's place in it."""
    stale: list[str] = field(default_factory=list)
    """What the suite's file says and is not so."""

    @property
    def unknown_failures(self) -> list[Result]:
        """Failures of which the suite's file says nothing."""
        known = {each.test for results in self.known_failures.values() for each in results}
        return [each for each in self.failures if each.test not in known]


def judge(suite: Suite, results: Iterable[Result], *, everything: bool) -> Judgement:
    """Adds results up. Only where they are `everything` can an exclusion be found to fit no test."""
    judgement = Judgement()
    for result in results:
        _add(judgement, suite, result)
    judgement.stale.extend(_stale(suite.exclusions, judgement.excluded, "exclusion", everything=everything))
    judgement.stale.extend(
        _stale(suite.known_failures, judgement.known_failures, "failure", everything=everything)
    )
    return judgement


def reaches_goals(suite: Suite, judgement: Judgement) -> bool:
    """Whether as many tests pass as the suite's file demands."""
    total = judgement.total
    return (
        total.percent_of_all >= suite.goal_of_all
        and total.percent_after_exclusions >= suite.goal_after_exclusions
    )


def kind(result: Result) -> str:
    """What failures of one cause have in common: the driver's last word, or the exception's first line."""
    log = result.log.splitlines()
    text = log[-1] if log else next(iter(result.message.splitlines()), "no message")
    return _VARIABLE.sub("*", text)[:160]


def by_kind(failures: Sequence[Result]) -> Mapping[str, list[Result]]:
    """Failures by their kind, the most frequent first."""
    kinds: dict[str, list[Result]] = defaultdict(list)
    for failure in failures:
        kinds[kind(failure)].append(failure)
    return dict(sorted(kinds.items(), key=lambda each: -len(each[1])))


def _add(judgement: Judgement, suite: Suite, result: Result) -> None:
    exclusion = _first(suite.exclusions, result)
    for figures in (judgement.total, judgement.folders[_folder_of(result.test)]):
        figures.seconds += result.seconds
        figures.excluded += exclusion is not None
        figures.excluded_passed += exclusion is not None and result.passed
        if exclusion is None:
            figures.passed += result.passed
            figures.failed += result.outcome == record.FAILED
            figures.skipped += result.outcome == record.SKIPPED
    if exclusion is not None:
        judgement.excluded[exclusion].append(result)
        return
    failure = _first(suite.known_failures, result)
    if result.outcome == record.FAILED:
        judgement.failures.append(result)
    if failure is not None:
        judgement.known_failures[failure].append(result)


def _stale(
    known: Sequence[Known], found: Mapping[int, list[Result]], what: str, *, everything: bool
) -> Iterable[str]:
    for number, entry in enumerate(known):
        results = found.get(number, ())
        if everything and not results:
            yield f"{what} that fits no test: {', '.join((*entry.tests, *entry.skips, *entry.messages))}"
        if passed := [each.test for each in results if each.passed]:
            yield f"{what} that passes: {', '.join(passed)}"


def _first(known: Sequence[Known], result: Result) -> int | None:
    skip = result.message if result.outcome == record.SKIPPED else None
    failure = result.message if result.outcome == record.FAILED else None
    return next((place for place, each in enumerate(known) if each.fits(result.test, skip, failure)), None)


def _folder_of(test: str) -> str:
    return test.partition("::")[0].rpartition("/")[0] or "."


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
