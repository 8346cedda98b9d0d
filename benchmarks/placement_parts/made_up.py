"""A cluster and a list of pods of our own making, for machines without a trace, and for tests.

The proportions are round numbers of ours, of the kind that published clusters have: shares of cards, whole
cards, some claims for several, some for none.
"""

from __future__ import annotations

import random

from aliquot.placement.demand import Demand, on_models
from aliquot.placement.packing import DeviceShape, NodeShape
from benchmarks.placement_parts.traces import Pod, Trace

_NODES = (
    (8, 96_000, 393_216, 0, 9),
    (2, 104_000, 524_288, 1, 6),
    (4, 64_000, 262_144, 2, 3),
    (1, 16_000, 65_536, 3, 2),
)
_SHARES = (100, 200, 250, 300, 400, 500, 600, 750, 800)
_CORES = (1, 2, 4, 6, 8, 12, 16)


def made_up(nodes: int, pods: int, seed: int, *, name: str = "made-up") -> Trace:
    """A trace with so many nodes and pods; the same seed makes the same one."""
    generator = random.Random(seed)
    weights = [weight for *_, weight in _NODES]
    shapes = [_node(generator.choices(_NODES, weights)[0]) for _ in range(nodes)]
    return Trace(name, tuple(shapes), tuple(_pod(generator) for _ in range(pods)), ("a", "b", "c", "d"))


def _node(kind: tuple[int, int, int, int, int]) -> NodeShape:
    count, cpu, memory, model, _ = kind
    return NodeShape(cpu, memory, tuple(DeviceShape(model) for _ in range(count)))


def _pod(generator: random.Random) -> Pod:
    cpu = 1000 * generator.choice(_CORES)
    kind = generator.random()
    lifetime = generator.expovariate(1 / 3600)
    if kind < 0.12:
        return Pod(Demand(cpu, 4 * cpu), 0, lifetime)
    if kind < 0.55:
        milli = generator.choice(_SHARES)
        return _with_devices(1, milli, cpu, lifetime)
    if kind < 0.97:
        return _with_devices(1, 1000, cpu, lifetime)
    count = generator.choice((2, 4, 8))
    return _with_devices(count, 1000, cpu * count // 2, lifetime)


def _with_devices(count: int, milli: int, cpu: int, lifetime: float) -> Pod:
    demand = on_models(range(4), compute_milli=milli, count=count, cpu_milli=cpu, memory_mib=4 * cpu)
    return Pod(demand, count * milli, lifetime)
