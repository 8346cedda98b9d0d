"""Benchmarks of the project, one module each; `aliquot bench --list` names them.

A module registers a function with `aliquot.bench.benchmark` that fills a report. See docs/contributing.md.
"""
