"""numba-cuda, unchanged: what its programs do, and its example, on a card and on a share of one."""

from __future__ import annotations

import pytest

FEATURES = "numba_features"


def test_feature(feature_run, feature):
    feature_run.expect(feature)


def test_prints_from_the_device(feature_run):
    assert "thread 3 holds 4.500000" in feature_run.process.stdout


@pytest.mark.parametrize("bodies", [192, 1000])
def test_example(example, bodies):
    example("nbody", "--size", bodies, "--steps", 8, expect="checked against NumPy: largest difference")


def test_example_on_a_share(example_on_share):
    example_on_share("nbody", "--size", 192, "--steps", 4)


def test_is_refused_more_than_its_share(feature_on_share):
    done = feature_on_share("out_of_memory")
    assert "refused" in done.stderr
