"""Pods come, wait where there is no room, run, and go; optionally a few are moved.

Pods arrive in the order of time that the trace's own rate gives (exponential gaps, drawn by seed), each
drawn from the list with its own lifetime. Lifetimes are scaled by one factor, so that on average `load` of
all cards is asked for. The run begins in the middle: so many pods as are there on average, drawn by how long
they stay, each with a part of its life behind it. The first quarter of arrivals is not counted. Who waits is
tried again, in the order of arrival, whenever somebody goes; later ones may overtake those that do not fit.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from aliquot.errors import InvalidValueError
from aliquot.placement.demand import WHOLE_MILLI, Demand
from aliquot.placement.packing import Placement
from aliquot.placement.packing.compiled import CompiledPacking
from aliquot.placement.strategies.compiled import CompiledScorer
from benchmarks.placement_parts.arrivals import make_scorer
from benchmarks.placement_parts.traces import Pod, Trace

MOVING: Final = "-moving"
"""A policy's name with this may move one pod a minute."""
_MOVE_EVERY_S: Final = 60.0
_SAVED_MOVES: Final = 4
_TRIES: Final = 4
"""Pods looked at for a move after each event, while moves are left."""
_WORTH_MOVING: Final = 0.05
"""Devices that a move must gain by the score."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy made of one run, over the counted time. Times in seconds of the scaled trace."""

    allocation_percent: float
    fragmentation_percent: float
    waiting_mean_s: float
    waiting_p99_s: float
    waited_percent: float
    """Of the pods, those that did not start at once."""
    moves: int
    mean_lifetime_s: float


@dataclass(slots=True)
class _Running:
    pod: Pod
    node: int
    bits: int


@dataclass(slots=True)
class _Sums:
    """Integrals over the counted time."""

    seconds: float = 0.0
    allocated: float = 0.0
    fragmented: float = 0.0
    waits: list[float] = field(default_factory=list[float])


def with_lifetimes(trace: Trace, source: Trace, seed: int = 0) -> Trace:
    """The trace, where each pod without a lifetime has one of another trace's, drawn by seed."""
    known = [pod.lifetime_s for pod in source.pods if pod.lifetime_s is not None]
    if not known:
        raise InvalidValueError(
            f"the list {source.name} says nothing of times", hint="--lifetimes names a list that does"
        )
    generator = random.Random(seed)
    pods = tuple(
        pod if pod.lifetime_s is not None else replace(pod, lifetime_s=generator.choice(known))
        for pod in trace.pods
    )
    return replace(trace, pods=pods)


def run(
    trace: Trace, policy: str, seed: int, *, load: float = 0.95, arrivals: int = 12_000, gap_s: float = 1583.0
) -> Outcome:
    """Plays one run; the same arguments give the same result. `gap_s`: mean seconds between arrivals."""
    return _Play(trace, policy, seed, load, gap_s).run(arrivals)


class _Play:
    def __init__(self, trace: Trace, policy: str, seed: int, load: float, gap_s: float) -> None:
        self.generator = random.Random(seed)
        self.picker = random.Random(seed)  # of its own: every policy sees the same arrivals
        shapes = list(trace.shapes)
        self.generator.shuffle(shapes)
        self.trace, self.gap_s = trace, gap_s
        self.packing = CompiledPacking(shapes)
        self.scorer = make_scorer(trace, self.packing, policy.removesuffix(MOVING), seed)
        self.judge = CompiledScorer(self.packing, "fragmentation-gradient", mix=trace.mix)
        self.moving = policy.endswith(MOVING)
        self.lifetimes = [pod.lifetime_s or 0.0 for pod in trace.pods]
        asked = sum(pod.size_milli * life for pod, life in zip(trace.pods, self.lifetimes, strict=True))
        capacity = trace.devices * WHOLE_MILLI
        self.scale = load * capacity * gap_s * len(trace.pods) / asked
        self.mean_lifetime = self.scale * sum(self.lifetimes) / len(trace.pods)
        self.now, self.counting = 0.0, False
        self.leaving: list[tuple[float, int]] = []
        self.running: dict[int, _Running] = {}
        self.order: list[int] = []
        self.waiting: dict[Demand, deque[tuple[float, Pod, float]]] = {}
        self.allocated, self.next_id, self.moves, self.budget = 0, 0, 0, 0.0
        self.sums = _Sums()
        self.fragmented = 0.0

    def run(self, arrivals: int) -> Outcome:
        self._begin()
        for count in range(arrivals):
            self.counting = count >= arrivals // 4
            due = self.now + self.generator.expovariate(1 / self.gap_s)
            while self.leaving and self.leaving[0][0] <= due:
                self._pass_time(self.leaving[0][0])
                self._leave(heapq.heappop(self.leaving)[1])
            self._pass_time(due)
            at = self.generator.randrange(len(self.trace.pods))
            self._arrive(self.trace.pods[at], self.scale * self.lifetimes[at])
            self._move_some()
        return self._outcome()

    def _begin(self) -> None:
        """As many as are there on average, the long-lived more likely, each somewhere within its life."""
        there = round(self.mean_lifetime / self.gap_s)
        for at in self.generator.choices(range(len(self.trace.pods)), self.lifetimes, k=there):
            left = self.scale * self.lifetimes[at] * self.generator.random()
            self._arrive(self.trace.pods[at], left)

    def _pass_time(self, until: float) -> None:
        if self.counting:
            passed = until - self.now
            self.sums.seconds += passed
            self.sums.allocated += passed * self.allocated
            self.sums.fragmented += passed * self.judge.fragmentation()
        self.budget = min(_SAVED_MOVES, self.budget + (until - self.now) / _MOVE_EVERY_S)
        self.now = until

    def _arrive(self, pod: Pod, lifetime: float) -> None:
        self.scorer.observe(pod.demand)
        if pod.demand in self.waiting or not self._start(pod, lifetime):
            self.waiting.setdefault(pod.demand, deque()).append((self.now, pod, lifetime))
        elif self.counting:
            self.sums.waits.append(0.0)

    def _start(self, pod: Pod, lifetime: float) -> bool:
        placed = self.scorer.place(pod.demand)
        if placed is None:
            return False
        self.running[self.next_id] = _Running(pod, *placed)
        self.order.append(self.next_id)
        heapq.heappush(self.leaving, (self.now + lifetime, self.next_id))
        self.next_id += 1
        self.allocated += pod.size_milli
        return True

    def _leave(self, number: int) -> None:
        gone = self.running.pop(number)
        self.packing.give_back(gone.pod.demand, gone.node, gone.bits)
        self.allocated -= gone.pod.size_milli
        self._start_waiting()

    def _start_waiting(self) -> None:
        heads = [(queue[0][0], order, demand) for order, (demand, queue) in enumerate(self.waiting.items())]
        heapq.heapify(heads)
        while heads:
            _, order, demand = heapq.heappop(heads)
            since, pod, lifetime = self.waiting[demand][0]
            if not self._start(pod, lifetime):
                continue
            if self.counting:
                self.sums.waits.append(self.now - since)
            self.waiting[demand].popleft()
            if self.waiting[demand]:
                heapq.heappush(heads, (self.waiting[demand][0][0], order, demand))
            else:
                del self.waiting[demand]

    def _move_some(self) -> None:
        if not self.moving:
            return
        for _ in range(_TRIES):
            if self.budget < 1 or not self.order:
                break
            number = self._any_running()
            if number is not None and self._moved(self.running[number]):
                self.budget -= 1
                self.moves += self.counting
                self._start_waiting()

    def _any_running(self) -> int | None:
        """Forgets those that have gone as it meets them."""
        at = self.picker.randrange(len(self.order))
        number = self.order[at]
        if number in self.running:
            return number
        self.order[at] = self.order[-1]
        self.order.pop()
        return None

    def _moved(self, each: _Running) -> bool:
        demand = each.pod.demand
        if not demand.count:
            return False
        self.packing.give_back(demand, each.node, each.bits)
        devices = tuple(at for at in range(each.bits.bit_length()) if each.bits >> at & 1)
        here = Placement(demand, each.node, devices)
        stays = self.scorer.evaluate(here).score
        best = self.scorer.choose(demand)
        if best is None or best.score <= stays + _WORTH_MOVING:
            self.packing.take_again(here)
            return False
        self.packing.take_again(best.placement)
        each.node = best.placement.node
        each.bits = sum(1 << device for device in best.placement.devices)
        return True

    def _outcome(self) -> Outcome:
        still = [self.now - since for queue in self.waiting.values() for since, _, _ in queue]
        waits = sorted([*self.sums.waits, *still])
        free = self.trace.devices * WHOLE_MILLI * self.sums.seconds - self.sums.allocated
        return Outcome(
            allocation_percent=100
            * self.sums.allocated
            / (self.sums.seconds * self.trace.devices * WHOLE_MILLI),
            fragmentation_percent=100 * self.sums.fragmented / free if free else 0.0,
            waiting_mean_s=sum(waits) / len(waits),
            waiting_p99_s=waits[int(0.99 * (len(waits) - 1))],
            waited_percent=100 * sum(wait > 0 for wait in waits) / len(waits),
            moves=self.moves,
            mean_lifetime_s=self.mean_lifetime,
        )
