"""Other workloads from one trace, so that a strategy is not fitted to the lists at hand.

Each changes what is asked for or what there is, in one way; the seed decides what is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from aliquot.placement.demand import Demand, on_models
from aliquot.placement.packing import NodeShape
from benchmarks.placement_parts.traces import Pod, Trace


def variants(trace: Trace, seed: int = 0) -> dict[str, Trace]:
    """Variants by name."""
    generator = random.Random(seed)
    made: dict[str, Callable[[], Trace]] = {
        "cpu-heavy": lambda: _weighed(trace, generator, lambda pod: 6 if not pod.demand.count else 1),
        "large-pods": lambda: _weighed(trace, generator, lambda pod: 8 if pod.demand.count > 1 else 1),
        "eight-cards": lambda: _weighed(trace, generator, lambda pod: 20 if pod.demand.count == 8 else 1),
        "shares-only": lambda: _weighed(trace, generator, _is_share),
        "few-shares": lambda: _weighed(trace, generator, lambda pod: 0.15 if _is_share(pod) else 1),
        "thirsty": lambda: replace(trace, pods=tuple(_thirsty(pod) for pod in trace.pods)),
        "few-cores": lambda: replace(trace, shapes=tuple(_fewer_cores(shape) for shape in trace.shapes)),
        "small-cluster": lambda: replace(trace, shapes=tuple(generator.sample(trace.shapes, 100))),
        "tiny-cluster": lambda: replace(trace, shapes=tuple(generator.sample(trace.shapes, 16))),
        "odd-shares": lambda: replace(trace, pods=tuple(_odd(pod, generator) for pod in trace.pods)),
        "one-model": lambda: replace(trace, shapes=_most_frequent(trace)),
        "bound-to-models": lambda: replace(trace, pods=tuple(_bound(pod, generator) for pod in trace.pods)),
    }
    return {name: replace(make(), name=f"{trace.name}.{name}") for name, make in made.items()}


def _weighed(trace: Trace, generator: random.Random, weight: Callable[[Pod], float]) -> Trace:
    pods = generator.choices(trace.pods, [float(weight(pod)) for pod in trace.pods], k=len(trace.pods))
    return replace(trace, pods=tuple(pods))


def _is_share(pod: Pod) -> bool:
    return pod.demand.count == 1 and pod.size_milli < 1000


def _thirsty(pod: Pod) -> Pod:
    """Half as much CPU again."""
    return replace(pod, demand=replace(pod.demand, cpu_milli=pod.demand.cpu_milli * 3 // 2))


def _fewer_cores(shape: NodeShape) -> NodeShape:
    return replace(shape, cpu_milli=shape.cpu_milli * 7 // 10)


def _odd(pod: Pod, generator: random.Random) -> Pod:
    """Shares of any size, as people would write who are free to."""
    if not _is_share(pod):
        return pod
    return _asking(pod, 10 * generator.randint(3, 95), [share.model for share in pod.demand.shares])


def _bound(pod: Pod, generator: random.Random) -> Pod:
    """A third of those with cards want one certain model."""
    if not pod.demand.count or generator.random() > 0.33:
        return pod
    models = [generator.choice([share.model for share in pod.demand.shares])]
    return _asking(pod, pod.demand.shares[0].compute_milli, models)


def _asking(pod: Pod, milli: int, models: list[int]) -> Pod:
    old: Demand = pod.demand
    demand = on_models(
        models, compute_milli=milli, count=old.count, cpu_milli=old.cpu_milli, memory_mib=old.memory_mib
    )
    return replace(pod, demand=demand, size_milli=old.count * milli)


def _most_frequent(trace: Trace) -> tuple[NodeShape, ...]:
    kinds = list(trace.shapes)
    most = max(set(kinds), key=lambda shape: (kinds.count(shape), repr(shape)))
    return tuple(shape for shape in kinds if shape == most)
