"""Decisions at an instant: which claim goes to which devices of which node, and why.

Pure: the same input gives the same answer. No I/O, no clock, no randomness without a seed that was given.
What decides over time (quota, prices, budgets) belongs into `aliquot.policy`, what makes a decision real into
the engine and the node agent. `packing` knows numbers only; names, labels and rules stand above it.
"""
