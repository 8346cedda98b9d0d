"""Whom one may disturb for another's sake, and how much: what preemption and moves have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from aliquot.model.budgets import DisruptionBudget
from aliquot.placement.cluster import Cluster, Held

MOST_SETS: Final = 20_000
"""How many sets are tried on one node before the search settles for the best found so far."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Claims that are disturbed together: one, or all members of a gang, wherever they are."""

    members: tuple[Held, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of its claims."""
        return tuple(held.claim.name for held in self.members)

    @property
    def priority(self) -> int:
        """The highest of its claims."""
        return max(held.claim.priority for held in self.members)

    @property
    def milli(self) -> int:
        """Thousandths of cards that its claims hold."""
        return sum(each.compute_milli for held in self.members for each in held.grant.devices)


def units_on(cluster: Cluster, node: int, may: Callable[[Held], bool]) -> list[Unit]:
    """Those with a claim on the node of whom every claim may be disturbed, in the order of their names."""
    found: dict[str, Unit] = {}
    for name in cluster.on_node(node):
        unit = _unit(cluster, cluster.held(name))
        if all(may(held) and not held.claim.protected for held in unit.members):
            found[unit.names[0]] = unit
    return [found[name] for name in sorted(found)]


def _unit(cluster: Cluster, held: Held) -> Unit:
    if not held.gang:
        return Unit((held,))
    members = [each for each in cluster.claims.values() if each.gang == held.gang]
    return Unit(tuple(sorted(members, key=lambda each: each.claim.name)))


class Budgets:
    """Disruption budgets, with what has been disturbed already."""

    def __init__(self, cluster: Cluster, budgets: Iterable[DisruptionBudget]) -> None:
        self._budgets = tuple(budgets)
        self._standing = {
            each.workload: sum(cluster.nodes_of(each.workload).values()) for each in self._budgets
        }
        self._disturbed: Counter[str] = Counter()

    def allow(self, units: Iterable[Unit]) -> bool:
        """Whether all of them may be disturbed together, beside those before."""
        more = Counter(held.claim.workload for unit in units for held in unit.members)
        return all(
            budget.allows(
                self._disturbed[budget.workload] + more[budget.workload], self._standing[budget.workload]
            )
            for budget in self._budgets
            if more[budget.workload]
        )

    def take(self, units: Iterable[Unit]) -> None:
        """They are going to be disturbed."""
        self._disturbed.update(held.claim.workload for unit in units for held in unit.members)


Cost = tuple[int, int, int]
"""Of a set: the highest priority, how many claims, how many thousandths of cards. The smallest is best."""


def cost(units: Iterable[Unit]) -> Cost:
    """What a set costs; nothing costs least."""
    chosen = tuple(units)
    if not chosen:
        return (-(2**63), 0, 0)
    return (
        max(unit.priority for unit in chosen),
        sum(len(unit.members) for unit in chosen),
        sum(unit.milli for unit in chosen),
    )


def cheapest(
    candidates: Sequence[Unit],
    suffices: Callable[[Sequence[Unit]], bool],
    allowed: Budgets,
    *,
    below: Cost | None = None,
) -> tuple[tuple[Unit, ...], bool] | None:
    """The cheapest set without which something becomes possible, and whether that is certain.

    `suffices` says whether it is possible without a set; with a larger set it stays so. None where no set
    does it that the budgets allow and that costs less than `below`. Lower priorities are tried first; at
    each, an irreducible set is found by giving back one after the other, then up to `MOST_SETS` smaller ones
    are tried.
    """
    if not suffices(candidates):
        return None
    for priority in sorted({unit.priority for unit in candidates}):
        if below is not None and priority > below[0]:
            return None
        expendable = [unit for unit in candidates if unit.priority <= priority]
        if suffices(expendable):
            found, certain = _smallest(expendable, suffices, allowed, below)
            if found or not certain:
                return (found, certain) if found else None
    return None


def _smallest(
    candidates: Sequence[Unit],
    suffices: Callable[[Sequence[Unit]], bool],
    allowed: Budgets,
    below: Cost | None,
) -> tuple[tuple[Unit, ...], bool]:
    best: tuple[Unit, ...] = ()
    if below is None or below[0] > max(unit.priority for unit in candidates):
        best = _irreducible(candidates, suffices)
        best = best if allowed.allow(best) else ()
    tried = 0
    for size in range(1, len(candidates) + 1):
        most = cost(best)[1] if best else below[1] if below else len(candidates)
        if size > most:
            break
        for chosen in combinations(candidates, size):
            tried += 1
            if tried > MOST_SETS:
                return best, False
            least = cost(best) if best else below
            if (least is None or cost(chosen) < least) and allowed.allow(chosen) and suffices(chosen):
                best = chosen
    return best, True


def _irreducible(candidates: Sequence[Unit], suffices: Callable[[Sequence[Unit]], bool]) -> tuple[Unit, ...]:
    """All of them, less those that can be given back, the most valuable first."""
    kept = list(candidates)
    for unit in sorted(candidates, key=lambda each: (-each.priority, -each.milli, each.names)):
        without = [each for each in kept if each is not unit]
        if suffices(without):
            kept = without
    return tuple(kept)
