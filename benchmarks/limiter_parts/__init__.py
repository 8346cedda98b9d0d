"""The parts of the benchmark of the limiter, one topic each; `benchmarks/limiter.py` runs them."""
