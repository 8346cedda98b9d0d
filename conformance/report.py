"""A run's results for people (a table) and for programs (JSON, JUnit XML)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from conformance import judging, record
from conformance.judging import Figures, Judgement
from conformance.record import Result
from conformance.suite import CLASSES, Known, Suite

_SHOWN: Final = 12
"""Tests that are named of one kind of failure; JSON has all."""
_HEADINGS: Final = (
    "collected",
    "passed",
    "failed",
    "skipped",
    "excluded",
    "of all",
    "after exclusions",
    "seconds",
)


def table(judgement: Judgement) -> str:
    """The figures by folder, and of all."""
    rows = [("", *_HEADINGS)]
    rows += [(name, *_cells(figures)) for name, figures in sorted(judgement.folders.items())]
    if len(judgement.folders) != 1:
        rows.append(("all", *_cells(judgement.total)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_line(row, widths) for row in rows)


def exclusions(suite: Suite, judgement: Judgement) -> str:
    """What is excluded, by class, with reasons and how many tests each concerns."""
    lines = [f"Excluded (see {suite.file.name}):"]
    for name in CLASSES:
        ours = [place for place, each in enumerate(suite.exclusions) if each.kind == name]
        count = sum(len(judgement.excluded.get(place, ())) for place in ours)
        if ours:
            lines.append(f"  {name}: {count} tests")
            lines += [_known(suite.exclusions[place], judgement.excluded.get(place, ())) for place in ours]
    return "\n".join(lines if len(lines) > 1 else ["Nothing is excluded."])


def failures(suite: Suite, judgement: Judgement) -> str:
    """Failures that the suite's file tells about, then all others by kind."""
    lines: list[str] = []
    known = {place: found for place, found in judgement.known_failures.items() if found}
    if known:
        lines.append("Known failures:")
        lines += [_known(suite.known_failures[place], found) for place, found in sorted(known.items())]
    for kind, found in judging.by_kind(judgement.unknown_failures).items():
        lines.append(f"{len(found)} failed: {kind}")
        lines += [f"    {each.test}" for each in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"    and {len(found) - _SHOWN} more")
    return "\n".join(lines)


def goals(suite: Suite, judgement: Judgement) -> str:
    """The figures beside what they should be."""
    total = judgement.total
    return (
        f"{suite.title} ({package(suite)}): {total.percent_of_all:.1f}% of {total.collected} pass "
        f"(goal {suite.goal_of_all:g}%), {total.percent_after_exclusions:.1f}% after {total.excluded} "
        f"exclusions (goal {suite.goal_after_exclusions:g}%)"
    )


def package(suite: Suite) -> str:
    """The suite's package and its version."""
    try:
        return f"{suite.package} {version(suite.package)}"
    except PackageNotFoundError:
        return suite.package


def write_json(
    file: Path, suite: Suite, judgement: Judgement, results: Sequence[Result], *, inside: bool
) -> None:
    """All that is known of a run."""
    content = {
        "suite": suite.name,
        "package": package(suite),
        "inside_slice": inside,
        "goals_reached": judging.reaches_goals(suite, judgement),
        "total": _figures(judgement.total),
        "folders": {name: _figures(figures) for name, figures in sorted(judgement.folders.items())},
        "exclusions": _entries(suite.exclusions, judgement.excluded),
        "known_failures": _entries(suite.known_failures, judgement.known_failures),
        "stale": judgement.stale,
        "tests": [asdict(each) for each in results],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_junit(file: Path, suite: Suite, results: Sequence[Result]) -> None:
    """JUnit's XML, which continuous integration shows."""
    root = ElementTree.Element(
        "testsuite",
        name=suite.name,
        tests=str(len(results)),
        failures=str(sum(each.outcome == record.FAILED for each in results)),
        skipped=str(sum(each.outcome == record.SKIPPED for each in results)),
        time=f"{sum(each.seconds for each in results):.3f}",
    )
    for each in results:
        group, _, name = each.test.rpartition("::")
        case = ElementTree.SubElement(
            root, "testcase", classname=group, name=name, time=f"{each.seconds:.3f}"
        )
        if each.outcome in (record.FAILED, record.SKIPPED):
            tag = "failure" if each.outcome == record.FAILED else "skipped"
            text = _printable(each.message)
            ElementTree.SubElement(case, tag, message=text[:200]).text = _printable(each.log) + "\n" + text
    file.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """XML 1.0 knows no control characters but these."""
    return "".join(each if each >= " " or each in "\n\t" else "?" for each in text)


def _cells(figures: Figures) -> tuple[str, ...]:
    return (
        str(figures.collected),
        str(figures.passed),
        str(figures.failed),
        str(figures.skipped),
        str(figures.excluded),
        f"{figures.percent_of_all:.1f}%",
        f"{figures.percent_after_exclusions:.1f}%",
        f"{figures.seconds:.0f}",
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join([first.strip().ljust(widths[0]), *others])


def _known(entry: Known, found: Sequence[Result]) -> str:
    patterns = ", ".join(
        (
            *entry.tests,
            *(f"skipped: {each}" for each in entry.skips),
            *(f"failed: {each}" for each in entry.messages),
        )
    )
    return f"    {len(found):4d}  {entry.reason}\n          {patterns}"


def _entries(known: Iterable[Known], found: dict[int, list[Result]]) -> list[dict[str, object]]:
    return [
        {"class": each.kind, "reason": each.reason, "tests": [one.test for one in found.get(place, ())]}
        for place, each in enumerate(known)
    ]


def _figures(figures: Figures) -> dict[str, object]:
    return {
        **asdict(figures),
        "collected": figures.collected,
        "percent_of_all": round(figures.percent_of_all, 3),
        "percent_after_exclusions": round(figures.percent_after_exclusions, 3),
    }
