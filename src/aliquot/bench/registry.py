"""Finds the benchmarks of a source tree. A wheel carries none: they need the tree's tests and programs."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aliquot import native
from aliquot.bench.report import BenchmarkUnavailable, Report
from aliquot.errors import InvalidValueError

Measure = Callable[[Report], None]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A registered benchmark: `measure` fills a report."""

    name: str
    summary: str
    measure: Measure
    takes_arguments: bool = False
    """It has options of its own; otherwise any is an error."""

    def run(self, *, quick: bool = False, arguments: list[str] | None = None) -> Report:
        """Runs it once in a scratch folder of its own. What the benchmark raises is passed on."""
        if arguments and not self.takes_arguments:
            raise InvalidValueError(f"the benchmark {self.name} takes no {' '.join(arguments)}")
        with tempfile.TemporaryDirectory(prefix=f"aliquot-bench-{self.name}-") as scratch:
            report = Report(
                benchmark=self.name, scratch=Path(scratch), quick=quick, arguments=list(arguments or [])
            )
            self.measure(report)
        return report


_registered: dict[str, Benchmark] = {}


def benchmark(name: str, *, summary: str, arguments: bool = False) -> Callable[[Measure], Measure]:
    """Registers the decorated function as benchmark `name`; with `arguments` it reads `Report.arguments`.

    A name taken twice raises `InvalidValueError`.
    """

    def register(measure: Measure) -> Measure:
        if name in _registered:
            raise InvalidValueError(f"two benchmarks are called {name!r}")
        _registered[name] = Benchmark(name=name, summary=summary, measure=measure, takes_arguments=arguments)
        return measure

    return register


def load_benchmarks(folder: Path | None = None) -> dict[str, Benchmark]:
    """Imports every module in `folder`, by default the checkout's `benchmarks/`; returns what is registered.

    Raises `BenchmarkUnavailable` where there is no checkout.
    """
    folder = folder or _default_folder()
    _registered.clear()
    sys.path.insert(0, str(folder.parent))
    try:
        for file in sorted(folder.glob("[!_]*.py")):
            _import_file(file)
    finally:
        sys.path.remove(str(folder.parent))
    return dict(sorted(_registered.items()))


def _default_folder() -> Path:
    root = native.checkout()
    if root is None or not (root / "benchmarks").is_dir():
        raise BenchmarkUnavailable(
            "the benchmarks are not part of an installed wheel",
            hint="clone the source tree and run there: make bench",
        )
    return root / "benchmarks"


def _import_file(file: Path) -> None:
    name = f"{file.parent.name}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InvalidValueError(f"{file} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
