"""What became of each test of a module: a file of events, and what they add up to.

The file is the state: the process of the suite appends to it (inside/conformance_recorder.py), the runner
appends what that process could not say itself (crashed, hung), and a run that is resumed reads it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PASSED = "passed"
FAILED = "failed"
SKIPPED = "skipped"
EXPECTED_FAILURE = "expected failure"
"""The suite itself says that the test fails on any card. It counts as passed."""

COLLECTION = "::(collection)"
"""Ends the name of what stands for the tests of a module that cannot be imported, or that skips itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one test."""

    test: str
    outcome: str
    message: str = ""
    """Of the failure or skip."""
    log: str = ""
    """The driver's log lines while it failed."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the test did what the suite expects of it."""
        return self.outcome in (PASSED, EXPECTED_FAILURE)


@dataclass(slots=True)
class Use:
    """What the processes of a module that ended by themselves used of their slices, added up."""

    processes: int = 0
    launches: int = 0
    waited_ns: int = 0
    """Time for which they wanted the card and had no turn."""
    refused_allocations: int = 0

    def add(self, other: Use) -> None:
        """Adds what others used."""
        self.processes += other.processes
        self.launches += other.launches
        self.waited_ns += other.waited_ns
        self.refused_allocations += other.refused_allocations


@dataclass(slots=True)
class Record:
    """The events of one module, added up."""

    tests: list[str] = field(default_factory=list)
    """As collected, in their order."""
    results: dict[str, Result] = field(default_factory=dict)
    running: str | None = None
    """The test that has begun and has not ended."""
    running_since: float = 0.0
    """Unix time in seconds."""
    use: Use = field(default_factory=Use)

    def open_tests(self, chosen: Iterable[str] | None) -> list[str]:
        """The collected tests that have no result yet; of `chosen` only, where it is given."""
        wanted = set(self.tests if chosen is None else chosen)
        return [test for test in self.tests if test in wanted and test not in self.results]


class Reader:
    """Follows a file of events that is being written."""

    def __init__(self, file: Path) -> None:
        self.record = Record()
        self._file = file
        self._offset = 0

    def update(self) -> Record:
        """The record with all that was written since."""
        with suppress(FileNotFoundError), self._file.open("rb") as lines:
            lines.seek(self._offset)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                with suppress(ValueError):  # half a line, of a process that was killed while it wrote
                    _add(self.record, json.loads(line))
        return self.record


def read(file: Path) -> Record:
    """Adds a file of events up. A file that is not there is an empty record."""
    return Reader(file).update()


def append(file: Path, event: str, **values: object) -> None:
    """Adds an event of the runner's own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        # The line before may be half a line, of a process that was killed while it wrote.
        out.write("\n" + json.dumps({"event": event, "time": time.time(), **values}) + "\n")


def append_failures(file: Path, tests: Sequence[str], message: str) -> None:
    """Says of tests that their process could not end that they failed."""
    for test in tests:
        append(file, "end", test=test, outcome=FAILED, message=message, log="", seconds=0.0)


def _add(record: Record, event: Mapping[str, Any]) -> None:
    kind = event["event"]
    if kind == "collected":
        known = set(record.tests)
        record.tests.extend(test for test in event["tests"] if test not in known)
    elif kind == "start":
        record.running, record.running_since = event["test"], event["time"]
    elif kind == "end":
        test = event["test"]
        if record.running == test:
            record.running = None
        record.results[test] = Result(
            **{name: event[name] for name in ("test", "outcome", "message", "log", "seconds")}
        )
    elif kind == "use":
        record.use.add(Use(**{each.name: event[each.name] for each in fields(Use)}))
    elif kind == "again":
        for test in event["tests"]:
            record.results.pop(test, None)
