"""The mix of claims that are likely to come: given, or learned from those that came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from aliquot.placement.demand import Demand

_FIRST_REFRESH: Final = 8
"""Claims after which a learned mix is first used."""
_GROWTH: Final = 1.25
"""A learned mix is looked at anew when this many times as many claims have come."""
_DRIFT: Final = 0.05
"""The part of claims by which it must differ from the mix in use to take its place."""
_MEMORY: Final = 20_000
"""Claims after which all counts are halved, so that the mix follows what people ask for now."""


class Mix:
    """How often each demand is asked for, as parts of 1."""

    def __init__(self, weights: Mapping[Demand, float]) -> None:
        total = sum(weights.values())
        self.frequencies: dict[Demand, float] = {
            demand: weights[demand] / total for demand in sorted(weights, key=order) if weights[demand] > 0
        }

    @staticmethod
    def of(demands: Iterable[Demand]) -> Mix:
        """The mix of a list of claims."""
        return Mix(Counter(demands))


class LearnedMix:
    """Counts what comes; older claims count less and less."""

    def __init__(self) -> None:
        self._counts: dict[Demand, float] = {}
        self._seen = 0.0
        self._next_refresh = float(_FIRST_REFRESH)
        self._in_use: Mix | None = None

    def observe(self, demand: Demand) -> None:
        """A claim came."""
        self._counts[demand] = self._counts.get(demand, 0) + 1
        self._seen += 1

    def refreshed(self) -> Mix | None:
        """The mix so far if enough has come since it was last asked for, and it moved; None otherwise."""
        if self._seen < self._next_refresh:
            return None
        mix = Mix(self._counts)
        if self._seen >= _MEMORY:
            self._counts = {demand: count / 2 for demand, count in self._counts.items() if count >= 0.25}
            self._seen = sum(self._counts.values())
        self._next_refresh = self._seen * _GROWTH
        if self._in_use is not None and distance(mix, self._in_use) < _DRIFT:
            return None
        self._in_use = mix
        return mix


def distance(one: Mix, other: Mix) -> float:
    """The part of claims that would have to be other ones to make one mix the other (total variation)."""
    demands = one.frequencies.keys() | other.frequencies.keys()
    return sum(abs(one.frequencies.get(each, 0) - other.frequencies.get(each, 0)) for each in demands) / 2


def order(demand: Demand) -> tuple[object, ...]:
    """A total order of demands in which alike ones are neighbours."""
    return (demand.count, demand.shares, demand.cpu_milli, demand.memory_mib)
