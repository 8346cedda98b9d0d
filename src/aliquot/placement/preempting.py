"""Preemption: whom to stop so that a claim of higher priority fits.

Only claims of a lower priority that are not protected are stopped, gangs as a whole, and never more of a
workload than its disruption budget allows. Of all sets on all nodes the cheapest is chosen: the one whose
highest priority is lowest, then the one with the fewest claims, then the one that holds the least of cards,
then the lowest node. Nobody is stopped in vain: the claim has been placed in a trial without the victims, and
would not have fitted with one of them fewer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aliquot.model.budgets import DisruptionBudget
from aliquot.model.claims import Claim, Gang
from aliquot.placement.cluster import Cluster, Held
from aliquot.placement.deciding import Chosen, decide, fits
from aliquot.placement.disturbing import Budgets, Cost, Unit, cheapest, cost, units_on
from aliquot.placement.preferences import Candidates


@dataclass(frozen=True, slots=True)
class Preemption:
    """Where a claim goes once its victims have gone."""

    chosen: Chosen
    victims: tuple[Held, ...]
    """In the order of their names; empty where the claim fits without."""
    certain: bool = True
    """Whether no cheaper set exists on that node: where there are too many to try, it is not known."""


def preempt(
    cluster: Cluster, claim: Claim, *, budgets: Iterable[DisruptionBudget] = (), strategy: str = ""
) -> Preemption | None:
    """Where the claim goes and who has to go for it; None where not even that helps. Nothing is changed."""
    return _preempt(cluster, claim, Budgets(cluster, budgets), strategy)


def preempt_gang(
    cluster: Cluster, gang: Gang, *, budgets: Iterable[DisruptionBudget] = (), strategy: str = ""
) -> tuple[Preemption, ...] | None:
    """The same for all members of a gang, or None where they do not all find room. Nothing is changed.

    Members are placed one after the other, so the victims of all together are not certain to be the cheapest.
    `within` is not sought.
    """
    allowed = Budgets(cluster, budgets)
    found: list[Preemption] = []
    with cluster.trial():
        for member in gang.members:
            one = _preempt(cluster, member, allowed, strategy)
            if one is None:
                return None
            for victim in one.victims:
                cluster.release(victim.claim.name)
            allowed.take([Unit((victim,)) for victim in one.victims])
            cluster.reserve(member, one.chosen.grant, gang=gang.name)
            found.append(one)
    return tuple(found)


def _preempt(cluster: Cluster, claim: Claim, allowed: Budgets, strategy: str) -> Preemption | None:
    chosen = decide(cluster, claim, strategy=strategy)
    if chosen:
        return Preemption(chosen, ())
    best: tuple[tuple[Unit, ...], int, bool] | None = None
    for node in range(len(cluster.inventory.nodes)):
        found = _on_node(cluster, claim, node, allowed, cost(best[0]) if best else None)
        if found:
            best = found[0], node, found[1]
    if best is None:
        return None
    units, node, certain = best
    victims = tuple(sorted((held for unit in units for held in unit.members), key=lambda h: h.claim.name))
    with cluster.trial():
        _release(cluster, units)
        chosen = decide(cluster, claim, strategy=strategy, within=_only(cluster, node))
    return Preemption(chosen, victims, certain) if chosen else None


def _on_node(
    cluster: Cluster, claim: Claim, node: int, allowed: Budgets, below: Cost | None
) -> tuple[tuple[Unit, ...], bool] | None:
    candidates = units_on(cluster, node, lambda held: held.claim.priority < claim.priority)
    within = _only(cluster, node)

    def suffices(units: Sequence[Unit]) -> bool:
        with cluster.trial():
            _release(cluster, units)
            return fits(cluster, claim, within=within)

    return cheapest(candidates, suffices, allowed, below=below) if candidates else None


def _release(cluster: Cluster, units: Iterable[Unit]) -> None:
    for unit in units:
        for name in unit.names:
            cluster.release(name)


def _only(cluster: Cluster, node: int) -> Candidates:
    return Candidates(nodes=bytes(number == node for number in range(len(cluster.inventory.nodes))))
