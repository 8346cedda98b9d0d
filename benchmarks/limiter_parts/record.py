"""What a card's own record says: who had its engine, for how long, and what that is of the whole. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Somebody had the engine. CLOCK_MONOTONIC, ns."""

    start: int
    end: int
    tenant: str


def clipped(intervals: Iterable[Interval], begin: int, end: int) -> list[Interval]:
    """What lies within a window, in the order of time."""
    cut = (Interval(max(each.start, begin), min(each.end, end), each.tenant) for each in intervals)
    return sorted((each for each in cut if each.start < each.end), key=lambda each: each.start)


def busy(intervals: Iterable[Interval]) -> dict[str, int]:
    """Time for which each tenant's work ran."""
    found: dict[str, int] = defaultdict(int)
    for each in intervals:
        found[each.tenant] += each.end - each.start
    return dict(found)


def at_disposal(intervals: Sequence[Interval]) -> dict[str, int]:
    """Time for which each tenant had the card at its disposal: its work, and the gaps in it in which nobody
    else's ran."""
    found: dict[str, int] = defaultdict(int)
    for each, following in zip(intervals, [*intervals[1:], None], strict=True):
        end = following.start if following and following.tenant == each.tenant else each.end
        found[each.tenant] += max(end, each.end) - each.start
    return dict(found)


def union(intervals: Sequence[Interval]) -> int:
    """Time for which the engine was busy for anybody. The intervals are in the order of time."""
    total, until = 0, 0
    for each in intervals:
        total += max(0, each.end - max(each.start, until))
        until = max(until, each.end)
    return total


def shares(times: Mapping[str, int], tenants: Sequence[str]) -> dict[str, float]:
    """Each tenant's percent of the sum; 0 for one that had nothing."""
    whole = sum(times.get(tenant, 0) for tenant in tenants) or 1
    return {tenant: 100 * times.get(tenant, 0) / whole for tenant in tenants}


def shares_over_time(
    intervals: Sequence[Interval], tenants: Sequence[str], begin: int, end: int, step: int
) -> list[dict[str, float]]:
    """The shares of each step of time from `begin` to `end`."""
    return [
        shares(busy(clipped(intervals, at, at + step)), tenants) for at in range(begin, end - step + 1, step)
    ]
