"""Arrivals only: pods come until more was asked for than there is; what does not fit is dropped for good.

The protocol of the published fragmentation study (Weng et al., USENIX ATC 2023, section 6). Nothing departs,
nothing moves, and nothing that fits is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import thread_time

from aliquot.placement.demand import WHOLE_MILLI
from aliquot.placement.packing.compiled import CompiledPacking
from aliquot.placement.strategies import Strategy, strategy
from aliquot.placement.strategies.compiled import CompiledScorer
from benchmarks.placement_parts.traces import Sample, Trace, sample

ONLINE = "-online"
"""A policy's name with this learns the mix from what arrives; otherwise it is given the trace's."""
_POINTS = 100


@dataclass(frozen=True, slots=True)
class Moment:
    """How things stand once so much was asked for. Percent of all cards, fragmentation of what is free."""

    asked_percent: float
    allocated_percent: float
    fragmentation_percent: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy made of one sample."""

    allocation_percent: float
    unallocated_gpus: float
    accepted_percent: dict[int, float]
    """Of the pods that ask for so many cards."""
    fragmentation_percent: float
    decisions_per_s: float
    curve: tuple[Moment, ...]


def make_scorer(trace: Trace, packing: CompiledPacking, policy: str, seed: int) -> CompiledScorer:
    """The scorer of a policy by name. Raises `InvalidValueError` for one that does not exist."""
    by: Strategy = strategy(policy.removesuffix(ONLINE))
    return CompiledScorer(packing, by, mix=None if policy.endswith(ONLINE) else trace.mix, seed=seed)


def run(trace: Trace, policy: str, seed: int, arrivals: float) -> Outcome:
    """Plays one sample. The same arguments give the same result but for the time it takes."""
    drawn = sample(trace, seed, arrivals)
    packing = CompiledPacking(drawn.shapes)
    scorer = make_scorer(trace, packing, policy, seed)
    judge = CompiledScorer(packing, "fragmentation-gradient", mix=trace.mix)
    return _play(drawn, trace.devices, scorer, judge)


def _play(drawn: Sample, devices: int, scorer: CompiledScorer, judge: CompiledScorer) -> Outcome:
    asked = allocated = 0
    seconds = 0.0
    came: dict[int, int] = {}
    accepted: dict[int, int] = {}
    curve: list[Moment] = []
    step = sum(pod.size_milli for pod in drawn.arrivals) / _POINTS
    for pod in drawn.arrivals:
        begun = thread_time()
        scorer.observe(pod.demand)
        placed = scorer.place(pod.demand)
        seconds += thread_time() - begun
        asked += pod.size_milli
        count = pod.demand.count
        came[count] = came.get(count, 0) + 1
        if placed is not None:
            allocated += pod.size_milli
            accepted[count] = accepted.get(count, 0) + 1
        if asked >= step * (len(curve) + 1):
            curve.append(_moment(asked, allocated, devices, judge))
    last = _moment(asked, allocated, devices, judge)
    return Outcome(
        allocation_percent=last.allocated_percent,
        unallocated_gpus=devices - allocated / WHOLE_MILLI,
        accepted_percent={count: 100 * accepted.get(count, 0) / each for count, each in came.items()},
        fragmentation_percent=last.fragmentation_percent,
        decisions_per_s=len(drawn.arrivals) / seconds,
        curve=(*curve, last),
    )


def _moment(asked: int, allocated: int, devices: int, judge: CompiledScorer) -> Moment:
    capacity = devices * WHOLE_MILLI
    free = capacity - allocated
    return Moment(
        asked_percent=100 * asked / capacity,
        allocated_percent=100 * allocated / capacity,
        fragmentation_percent=100 * judge.fragmentation() / free if free else 0.0,
    )
