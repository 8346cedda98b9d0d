"""numba-cuda's own tests, which lie inside its wheel (numba.cuda.tests)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from conformance.suite import Module, SuiteError

_LEFT_OUT: Final = ("cudasim", "benchmarks")
"""Tests of numba's own simulator, which must not be reached here, and benchmarks (pytest-benchmark)."""


def root() -> Path:
    """The folder of the tests. Raises `SuiteError` where numba-cuda is not installed."""
    try:
        installed = distribution("numba-cuda")
    except PackageNotFoundError as error:
        raise SuiteError("numba-cuda is not installed") from error
    return Path(str(installed.locate_file("numba_cuda/numba/cuda/tests")))


def modules() -> list[Module]:
    """Each file of tests; numba has them imported by the name of its package, not by their path."""
    folder = root()
    files = sorted(path.relative_to(folder) for path in folder.glob("*/test_*.py"))
    return [
        Module(
            str(path), ("--pyargs", "numba.cuda.tests." + ".".join(path.with_suffix("").parts)), (str(path),)
        )
        for path in files
        if path.parts[0] not in _LEFT_OUT
    ]
