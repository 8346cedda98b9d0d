"""Runs the approximate functions on the simulated card, on every instruction set that there is."""

from __future__ import annotations

import numpy as np
import pytest
from ptx_approximate import CASES, Bound, acceptable, patterns
from ptx_cases import Answers, Case, instruction_sets, run_cases


def test_bounds_can_fail() -> None:
    """A result one unit past its bound is refused, as is a zero of the other sign."""
    want = np.array([3.0])
    exact, bound = patterns("f32", want), Bound("", ulps=2)
    assert acceptable("f32", bound, False, exact + np.uint32(2), want).all()
    assert not acceptable("f32", bound, False, exact + np.uint32(3), want).any()
    assert acceptable("f32", Bound("", absolute=2.0**-20), False, exact + np.uint32(4), want).all()
    assert not acceptable("f32", Bound("", absolute=2.0**-20), False, exact + np.uint32(5), want).any()
    assert not acceptable("f32", bound, False, np.array([0x80000000], np.uint32), np.array([0.0])).any()
    assert not acceptable("f32", bound, True, np.array([1], np.uint32), np.array([2.0**-149])).any()


@pytest.fixture(scope="module", params=instruction_sets())
def answers(request: pytest.FixtureRequest, native_dir, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_cases(
        CASES, native_dir / "simgpu/libcuda.so.1", tmp_path_factory.mktemp("approximate"), request.param
    )


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_approximate(answers: Answers, one: Case) -> None:
    answers.check(one)
