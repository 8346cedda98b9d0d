"""Test suites that others wrote for real cards, run unchanged on the simulated one.

    python -m conformance numba-cuda

It runs a suite, keeps what became of each test, and compares the figures with the suite's goals. It knows
nothing of what a suite tests; what is particular to one is in `suites/`. It judges the installed native
parts (`aliquot.native`) and is no part of the product: nothing imports it but tests.
"""
