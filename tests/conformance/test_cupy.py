"""A sample of CuPy's own tests, chosen at random once, so that every change is tried on it.

Chosen with: python -m conformance cupy --sample 1000 --seed 4 --write-tests FILE
`make conformance SUITE=cupy` runs all of them. The tests come from CuPy's source archive, which is fetched
the first time; where it cannot be had these tests fail and say so.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conformance import suites
from conformance.record import FAILED, SKIPPED, Result
from conformance.run import Selection, SuiteRun
from conformance.suite import Suite

SAMPLE = (Path(suites.__file__).parent / "cupy.sample.txt").read_text(encoding="utf-8").splitlines()
PROCESSES = max(2, min(4, os.cpu_count() or 1))
"""Importing CuPy takes longer than most of its tests; the first time, compiling kernels takes longest."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def suite() -> Suite:
    return suites.suite("cupy")


@pytest.fixture(scope="module")
def results(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What became of each test of the sample, by its name."""
    modules = len({test.partition("::")[0] for test in SAMPLE})
    chosen = Selection(tests=SAMPLE, together=-(-modules // PROCESSES))
    run = SuiteRun(suite, tmp_path_factory.mktemp("cupy"))
    return {each.test: each for each in run.run(chosen, jobs=PROCESSES, progress=lambda *_: None)}


def test_sample_is_in_order():
    assert sorted(set(SAMPLE)) == SAMPLE


def test_known_failures_are_few(suite: Suite, results: dict[str, Result]):
    failed = [each for each in results.values() if each.outcome == FAILED]
    assert len(failed) <= len(SAMPLE) * (100 - suite.goal_of_all) / 100


@pytest.mark.parametrize("name", SAMPLE)
def test_cupy(suite: Suite, results: dict[str, Result], name: str):
    result = results[name]
    skip = result.message if result.outcome == SKIPPED else None
    failure = result.message if result.outcome == FAILED else None
    if failure and any(each.fits(name, skip, failure) for each in (*suite.exclusions, *suite.known_failures)):
        pytest.xfail("excluded or a known failure: see cupy.toml")
    assert result.outcome != FAILED, f"{result.log}\n{result.message}"
