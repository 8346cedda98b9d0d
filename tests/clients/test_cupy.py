"""CuPy, unchanged: what its programs do, and its example, on a card and on a share of one."""

from __future__ import annotations

FEATURES = "cupy_features"


def test_feature(feature_run, feature):
    feature_run.expect(feature)


def test_prints_from_the_device(feature_run):
    assert {"block 0 of CuPy", "block 1 of CuPy"} <= set(feature_run.process.stdout.splitlines())


def test_example(example):
    example("reaction_diffusion", "--size", 50, "--steps", 200, expect="checked against NumPy")


def test_example_on_a_share(example_on_share):
    example_on_share("reaction_diffusion", "--size", 32, "--steps", 100)


def test_is_refused_more_than_its_share(feature_on_share):
    done = feature_on_share("out_of_memory")
    assert "refused" in done.stderr
