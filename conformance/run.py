"""Runs a suite or a part of it: which tests, how many at once; keeps what became of them."""

from __future__ import annotations

import glob
import random
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from conformance import record
from conformance.modules import ModuleRun
from conformance.record import Record, Result, Use
from conformance.suite import Module, Suite, SuiteError
from conformance.surroundings import Inside, surroundings

Progress = Callable[[str, Record, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which tests of a suite to run. All of them, unless something is said."""

    patterns: Sequence[str] = ()
    """Parts of the names of modules."""
    tests: Sequence[str] | None = None
    """Names of tests."""
    together: int = 1
    """How many modules run in one process; more than one costs isolation and saves starting the client."""

    @property
    def is_everything(self) -> bool:
        """Whether this leaves nothing out."""
        return not self.patterns and self.tests is None


class SuiteRun:
    """A suite's results in a folder: resumed where they are, made where they are not."""

    def __init__(self, suite: Suite, folder: Path, inside: Inside | None = None) -> None:
        self._suite = suite
        self._folder = folder
        self._inside = inside
        self._stop = threading.Event()
        self.use = Use()
        """What the modules of the last `run` used of their slices, also in earlier runs that it resumed."""

    def stop(self) -> None:
        """Ends a run that is under way: it raises `Stopped` once its processes and folders are gone."""
        self._stop.set()

    def forget(self, patterns: Sequence[str]) -> None:
        """Removes the results of the modules in whose names one of `patterns` occurs; of all without one."""
        if not patterns:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        for module in _modules(self._suite, Selection(patterns=patterns)):
            files = self._files(module)
            for file in files.parent.glob(f"{glob.escape(files.name)}.*"):
                file.unlink()

    def forget_failures(self, patterns: Sequence[str] = ()) -> None:
        """Has the tests that failed run again, of the modules in whose names one of `patterns` occurs."""
        for module in _modules(self._suite, Selection(patterns=patterns)):
            file = self._files(module).with_name(self._files(module).name + ".jsonl")
            failed = [
                each.test for each in record.read(file).results.values() if each.outcome == record.FAILED
            ]
            if any(test.endswith(record.COLLECTION) for test in failed):
                file.unlink()
            elif failed:
                record.append(file, "again", tests=failed)

    def run(self, selection: Selection, *, jobs: int, progress: Progress) -> list[Result]:
        """Runs what has no result yet, and returns all results of the selection, in their order."""
        modules = _modules(self._suite, selection)
        with ThreadPoolExecutor(jobs) as pool:
            records = list(pool.map(lambda each: self._run_module(each, selection.tests, progress), modules))
        self.use = Use()
        for each in records:
            self.use.add(each.use)
        return [
            result
            for module, each in zip(modules, records, strict=True)
            for result in _results(each, _chosen(module, selection.tests))
        ]

    def sample(self, count: int, seed: int) -> list[str]:
        """`count` names of tests, chosen at random; the same for the same seed and version of the suite.

        A file of names has one a line: a name with a line break is not chosen.
        """
        names = sorted(name for name in self._collect() if "\n" not in name)
        return sorted(random.Random(seed).sample(names, min(count, len(names))))

    def _collect(self) -> list[str]:
        everything = _together(self._suite.modules)
        run = ModuleRun(self._suite, everything, self._folder / "collected", self._stop)
        with surroundings(self._suite) as around:
            return run.complete(around, chosen=()).tests

    def _run_module(self, module: Module, tests: Sequence[str] | None, progress: Progress) -> Record:
        chosen = _chosen(module, tests)
        with surroundings(self._suite, self._inside) as around:
            files = self._files(module)
            done = ModuleRun(self._suite, module, files, self._stop).complete(around, chosen)
        progress(module.name, done, sum(each.seconds for each in done.results.values()))
        return done

    def _files(self, module: Module) -> Path:
        return self._folder / module.name.replace("/", ".").removesuffix(".py")


def _modules(suite: Suite, selection: Selection) -> list[Module]:
    named = None if selection.tests is None else {_module_of(test) for test in selection.tests}
    found = [
        module
        for module in suite.modules
        if (named is None or not named.isdisjoint(module.files))
        and (not selection.patterns or any(pattern in module.name for pattern in selection.patterns))
    ]
    if not found:
        raise SuiteError(f"{suite.name} has no such modules")
    processes = -(-len(found) // selection.together)
    # Every so many'th, not a row of them: neighbours in a folder take about as long as each other.
    return [_together(found[start::processes]) for start in range(processes)]


def _together(modules: Sequence[Module]) -> Module:
    if len(modules) == 1:
        return modules[0]
    names = sorted(file for module in modules for file in module.files)
    arguments = tuple(part for module in modules for part in module.arguments)
    return Module(f"{names[0]}--{len(names)}", arguments, tuple(names))


def _chosen(module: Module, tests: Sequence[str] | None) -> list[str] | None:
    return None if tests is None else [test for test in tests if _module_of(test) in module.files]


def _module_of(test: str) -> str:
    return test.partition("::")[0]


def _results(of: Record, tests: Sequence[str] | None) -> Iterable[Result]:
    if tests is None:
        return [of.results[test] for test in of.tests]
    gone = "there is no such test, or it could not be collected"
    return [of.results.get(each) or Result(test=each, outcome=record.FAILED, message=gone) for each in tests]
