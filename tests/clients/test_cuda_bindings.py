"""cuda.bindings, unchanged: the driver's API, NVRTC, and the example that asks for too much."""

from __future__ import annotations

FEATURES = "bindings_features"


def test_feature(feature_run, feature):
    feature_run.expect(feature)


def test_greedy_gets_what_fits(example):
    example("greedy", "--ask", 256, "--piece", 64, expect="got 256 MiB, all that was asked for")


def test_greedy_is_refused_on_a_share(example_on_share):
    done = example_on_share("greedy", "--ask", 1024, "--piece", 64, vram="300Mi")
    assert "then CUDA_ERROR_OUT_OF_MEMORY: out of memory" in done.stdout
    assert "what it holds still works" in done.stdout
    got = int(done.stdout.split("got ")[1].split(" MiB")[0])
    assert 0 < got <= 300
