"""A sample of numba-cuda's own tests, chosen at random once, so that every change is tried on it.

Chosen with: python -m conformance numba-cuda --sample 120 --seed 4 --write-tests FILE
less the six that took more than five seconds. `make conformance` runs all of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import suites
from conformance.record import FAILED, Result
from conformance.run import Selection, SuiteRun

SAMPLE = (Path(suites.__file__).parent / "numba-cuda.sample.txt").read_text(encoding="utf-8").split()
PROCESSES = 2
"""Importing numba takes longer than most of its tests."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What became of each test of the sample, by its name."""
    suite = suites.suite("numba-cuda")
    modules = len({test.partition("::")[0] for test in SAMPLE})
    chosen = Selection(tests=SAMPLE, together=-(-modules // PROCESSES))
    run = SuiteRun(suite, tmp_path_factory.mktemp("numba-cuda"))
    return {each.test: each for each in run.run(chosen, jobs=PROCESSES, progress=lambda *_: None)}


def test_sample_is_in_order():
    assert sorted(set(SAMPLE)) == SAMPLE


@pytest.mark.parametrize("name", SAMPLE)
def test_numba_cuda(results: dict[str, Result], name: str):
    result = results[name]
    known = suites.suite("numba-cuda").known_failures
    if any(each.fits(name, None) for each in known):
        pytest.xfail("a known failure: see numba-cuda.toml")
    assert result.outcome != FAILED, f"{result.log}\n{result.message}"
