"""The one benchmark harness of the project.

A benchmark is a module in the tree's `benchmarks/` folder that registers a function with `@benchmark`; the
function fills a `Report`. This package finds them, computes medians and spread, and writes the table and the
JSON. What is measured, and how, belongs into the benchmarks themselves.
"""

from aliquot.bench.registry import Benchmark, benchmark, load_benchmarks
from aliquot.bench.report import BenchmarkUnavailable, Better, Report, Result
from aliquot.bench.tools import native_program

__all__ = [
    "Benchmark",
    "BenchmarkUnavailable",
    "Better",
    "Report",
    "Result",
    "benchmark",
    "load_benchmarks",
    "native_program",
]
