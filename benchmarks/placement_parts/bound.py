"""How much could be allocated at all: what no policy can pass, and what one that refuses nothing hardly can.

Both use conditions that every placement meets, over aggregates of nodes (a relaxation: claims may be cut up
and moved freely within it). For every set S of models, the claims that can only stand on models of S meet

- CPU and memory: they take no more than the nodes with those models have;
- devices: sum of f(share) <= devices of S, for every dual feasible function f (Fekete and Schepers, "New
  classes of fast lower bounds for bin packing problems", Mathematical Programming 91, 2001): shares above 1
  - e count as a whole device, shares below e as nothing. It says that two shares of 810 never stand on one
  device;
- nodes: sum of floor(count / n) <= sum over nodes of floor(devices / n), for n = 2 to 8.

The *bound* is the linear programme: of what arrived, the most compute that meets all conditions. It may
choose what to leave out, so it holds for every policy. The *ceiling* takes what comes, in order, as long as
all conditions hold: what refusing nothing leads to if packing were perfect. A real policy may pass it only
by packing badly early on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aliquot.placement.demand import WHOLE_MILLI, Demand
from aliquot.placement.packing import NodeShape
from benchmarks.placement_parts.traces import Pod, Sample

_NODE_SIZES = range(2, 9)
Matrix = NDArray[np.float64]


class Conditions:
    """Necessary conditions as rows: what one claim of each demand takes of each, and how much there is."""

    def __init__(self, demands: Sequence[Demand], shapes: Sequence[NodeShape]) -> None:
        self.demands = list(demands)
        sets = _closed_sets(self.demands, shapes)
        takes: list[Matrix] = []
        room: list[float] = []
        for models in sets:
            bound_to = np.array([self._is_bound(demand, models) for demand in self.demands], dtype=float)
            inside = [shape for shape in shapes if models is None or _has_model(shape, models)]
            for row, capacity in self._rows(inside):
                takes.append(row * bound_to)
                room.append(capacity)
        self.takes: Matrix = np.array(takes)
        self.room: Matrix = np.array(room)

    @staticmethod
    def _is_bound(demand: Demand, models: frozenset[int] | None) -> bool:
        """Whether the demand can only stand on nodes with such models; None stands for all nodes."""
        if models is None:
            return True
        return bool(demand.count) and all(share.model in models for share in demand.shares)

    def _rows(self, shapes: Sequence[NodeShape]) -> list[tuple[Matrix, float]]:
        rows: list[tuple[Matrix, float]] = [
            (self._each(lambda demand: demand.cpu_milli), sum(shape.cpu_milli for shape in shapes)),
            (self._each(lambda demand: demand.memory_mib), sum(shape.memory_mib for shape in shapes)),
        ]
        devices = sum(len(shape.devices) for shape in shapes)
        for least in _thresholds(self.demands):
            rows.append((self._each(lambda demand, e=least: _felt(demand, e)), devices))
        for size in _NODE_SIZES:
            hosts = sum(len(shape.devices) // size for shape in shapes)
            rows.append((self._each(lambda demand, n=size: _whole(demand) // n), hosts))
        return rows

    def _each(self, amount) -> Matrix:
        return np.array([float(amount(demand)) for demand in self.demands])


def ceiling_percent(drawn: Sample) -> float:
    """What is allocated if all that meets the conditions is accepted in the order of arrival."""
    conditions, numbers = _conditions_of(drawn)
    used = np.zeros_like(conditions.room)
    closed: set[int] = set()
    allocated = 0
    for pod in drawn.arrivals:
        number = numbers[pod.demand]
        if number in closed:
            continue
        after = used + conditions.takes[:, number]
        if np.all(after <= conditions.room + 1e-6):
            used = after
            allocated += pod.size_milli
        else:
            closed.add(number)  # what is used only grows
    return _percent(allocated, drawn.shapes)


def bound_percent(drawn: Sample) -> float:
    """The linear programme's value. Raises `ImportError` where scipy is not installed."""
    from scipy.optimize import linprog

    conditions, numbers = _conditions_of(drawn)
    came = Counter(numbers[pod.demand] for pod in drawn.arrivals)
    sizes = {numbers[pod.demand]: pod.size_milli for pod in drawn.arrivals}
    solved = linprog(
        c=[-sizes[number] for number in range(len(numbers))],
        A_ub=conditions.takes,
        b_ub=conditions.room,
        bounds=[(0, came[number]) for number in range(len(numbers))],
        method="highs",
    )
    if solved.status != 0:
        raise RuntimeError(f"the linear programme was not solved: {solved.message}")
    return _percent(-solved.fun, drawn.shapes)


def _conditions_of(drawn: Sample) -> tuple[Conditions, dict[Demand, int]]:
    numbers: dict[Demand, int] = {}
    for pod in drawn.arrivals:
        numbers.setdefault(pod.demand, len(numbers))
    return Conditions(list(numbers), drawn.shapes), numbers


def _closed_sets(demands: Sequence[Demand], shapes: Sequence[NodeShape]) -> list[frozenset[int] | None]:
    """All unions of what claims accept: by Hall's theorem other sets say nothing new."""
    present = {device.model for shape in shapes for device in shape.devices}
    accepted = {frozenset(share.model for share in each.shares) & present for each in demands if each.count}
    unions: set[frozenset[int]] = set()
    for each in accepted:
        unions |= {each | other for other in unions} | {each}
    unions.discard(frozenset(present))
    return [None, *sorted(unions, key=sorted)]


def _has_model(shape: NodeShape, models: frozenset[int]) -> bool:
    return any(device.model in models for device in shape.devices)


def _milli(demand: Demand) -> int:
    return min((share.compute_milli for share in demand.shares), default=0)


def _thresholds(demands: Sequence[Demand]) -> list[int]:
    """Values of e that differ in what they say: just above each share, or above what is left beside it."""
    shares = {_milli(demand) for demand in demands}
    beside = {min(milli, WHOLE_MILLI - milli) + 1 for milli in shares if 0 < milli < WHOLE_MILLI}
    return sorted({0} | {least for least in beside if 2 * least <= WHOLE_MILLI})


def _felt(demand: Demand, least: int) -> float:
    """The dual feasible function with e = `least`, in devices."""
    milli = _milli(demand)
    if milli > WHOLE_MILLI - least:
        return float(demand.count)
    return demand.count * milli / WHOLE_MILLI if milli >= least else 0.0


def _whole(demand: Demand) -> int:
    return demand.count if _milli(demand) >= WHOLE_MILLI else 0


def _percent(milli: float, shapes: Sequence[NodeShape]) -> float:
    devices = sum(len(shape.devices) for shape in shapes)
    return 100 * milli / (WHOLE_MILLI * devices)


def drawn_of(pods: Sequence[Pod], shapes: Sequence[NodeShape]) -> Sample:
    """A sample from parts, for tests."""
    return Sample(tuple(pods), tuple(shapes))
