"""What a suite is: its modules, its settings and goals, and what is known of its tests. Pure data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

CLASSES: Final = ("cubin tool", "missing binaries", "hardware")
"""Why a test may be excluded: it needs a tool that makes or reads machine code, binaries that the package
lacks, or hardware that is not simulated."""


class SuiteError(Exception):
    """A suite that cannot be run, in words for the person who asked for it."""


@dataclass(frozen=True, slots=True)
class Module:
    """Tests that run in a process of their own."""

    name: str
    arguments: tuple[str, ...]
    """What pytest is given to find them."""
    files: tuple[str, ...]
    """With what the names of its tests begin, up to the first `::`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Tests of which something is known: that they are excluded, or that they fail, and why."""

    tests: tuple[str, ...]
    """Shell patterns over the names of tests."""
    skips: tuple[str, ...]
    """Shell patterns over the reason with which the suite itself skipped a test."""
    messages: tuple[str, ...]
    """Shell patterns over the message with which a test failed."""
    reason: str
    kind: str = ""
    """One of CLASSES, for an exclusion."""

    def fits(self, name: str, skipped_because: str | None = None, failed_because: str | None = None) -> bool:
        """Whether this is about the test of that name, which was skipped or failed for that reason."""
        return (
            _matches(name, self.tests)
            or _matches(skipped_because, self.skips)
            or _matches(failed_because, self.messages)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite of tests."""

    name: str
    file: Path
    """Where its settings and exclusions are."""
    title: str
    package: str
    """The distribution whose version is judged."""
    root: Path
    """The folder to which names of tests are relative."""
    modules: Sequence[Module]
    plugins: Sequence[str]
    """Names of pytest plugins in `inside/`."""
    arguments: Sequence[str]
    """More arguments for pytest."""
    environment: Mapping[str, str]
    cards: str
    """The simulated machine, as ALIQUOT_SIMGPU names it."""
    slice_vram: str
    """How much VRAM the suite gets inside a slice."""
    slice_cards: str
    """The simulated machine of which that slice is: of one card, as a slice has one."""
    test_limit_s: float
    module_limit_s: float
    goal_of_all: float
    """Percent of all collected tests that must pass."""
    goal_after_exclusions: float
    """Percent of those that are not excluded."""
    exclusions: Sequence[Known]
    known_failures: Sequence[Known]


def load(
    file: Path,
    *,
    name: str,
    root: Path,
    modules: Sequence[Module],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Suite:
    """Reads a suite's file; `environment` adds to it. Raises `SuiteError` for a file that is wrong."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        return Suite(
            name=name,
            file=file,
            title=found["suite"]["title"],
            package=found["suite"]["package"],
            root=root,
            modules=modules,
            plugins=found["suite"].get("plugins", ()),
            arguments=found["suite"].get("arguments", ()),
            environment={**found.get("environment", {}), **environment},
            cards=found["machine"]["cards"],
            slice_vram=found["machine"]["slice"],
            slice_cards=found["machine"].get("slice_cards", found["machine"]["cards"]),
            test_limit_s=found["limits"]["test"],
            module_limit_s=found["limits"]["module"],
            goal_of_all=found["goal"]["of_all"],
            goal_after_exclusions=found["goal"]["after_exclusions"],
            exclusions=[_known(each, needs_class=True) for each in found.get("exclusion", ())],
            known_failures=[_known(each, needs_class=False) for each in found.get("failure", ())],
        )
    except (OSError, tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise SuiteError(f"{file}: {error!r}") from error


def _matches(text: str | None, patterns: Sequence[str]) -> bool:
    return text is not None and any(fnmatchcase(text, pattern) for pattern in patterns)


def _known(entry: Mapping[str, Any], *, needs_class: bool) -> Known:
    allowed = {"tests", "skips", "messages", "reason", "class"} if needs_class else {"tests", "reason"}
    if unknown := set(entry) - allowed:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    if needs_class and entry.get("class") not in CLASSES:
        raise ValueError(f"class must be one of {CLASSES}: {entry}")
    if not entry["reason"].strip() or not any(entry.get(key) for key in ("tests", "skips", "messages")):
        raise ValueError(f"needs a reason, and tests, skips or messages: {entry}")
    return Known(
        tests=tuple(entry.get("tests", ())),
        skips=tuple(entry.get("skips", ())),
        messages=tuple(entry.get("messages", ())),
        reason=entry["reason"].strip(),
        kind=entry.get("class", ""),
    )
