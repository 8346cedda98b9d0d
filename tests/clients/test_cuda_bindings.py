"""cuda.bindings, unchanged: the driver's API, NVRTC, and the example that asks for too much."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

FEATURES = "bindings_features"


def test_feature(feature_run, feature):
    feature_run.expect(feature)


def test_greedy_gets_what_fits(example):
    example("greedy", "--ask", 256, "--piece", 64, expect="got 256 MiB, all that was asked for")


def test_greedy_is_refused_on_a_share(example_on_share):
    done = example_on_share("greedy", "--ask", 1024, "--piece", 64, vram="764Mi")
    assert "then CUDA_ERROR_OUT_OF_MEMORY: out of memory" in done.stdout
    assert "what it holds still works" in done.stdout
    got = int(done.stdout.split("got ")[1].split(" MiB")[0])
    assert 0 < got <= 300  # the context has the other 464 MiB


def test_is_refused_more_than_its_share(feature_on_share):
    done = feature_on_share("out_of_memory")
    assert "refused" in done.stderr


def test_greedy_harms_nobody(example_on_share):
    """Both sit on one card; the other one compares what it computes with NumPy."""
    with ThreadPoolExecutor() as pool:
        other = pool.submit(example_on_share, "fluid", "--size", 32, "--steps", 20)
        greedy = example_on_share("greedy", "--ask", 1024, "--piece", 64, vram="764Mi")
        assert "CUDA_ERROR_OUT_OF_MEMORY" in greedy.stdout
        assert "checked against NumPy" in other.result().stdout
