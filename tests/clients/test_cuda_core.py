"""cuda.core, unchanged: what its programs do, and its example, on a card and on a share of one."""

from __future__ import annotations

FEATURES = "core_features"


def test_feature(feature_run, feature):
    feature_run.expect(feature)


def test_example(example):
    example("fluid", "--size", 48, "--steps", 12, expect="checked against NumPy: largest difference")


def test_example_on_a_share(example_on_share):
    example_on_share("fluid", "--size", 32, "--steps", 6)


def test_is_refused_more_than_its_share(feature_on_share):
    done = feature_on_share("out_of_memory")
    assert "refused" in done.stderr
