"""One claim: where it goes, or that it fits nowhere.

Rules restrict, preferences order, the score decides among equals. The order in which parts of the cluster are
tried: pools with different strategies, the mechanisms that the claim accepts, what it likes better (its own
lists), preferred separation, closeness. The first part in which anything fits wins; a claim is never refused
while it fits somewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from aliquot.model.claims import Claim
from aliquot.model.grants import Grant
from aliquot.model.sharing import Mechanism
from aliquot.placement import masks
from aliquot.placement.closeness import by_closeness
from aliquot.placement.cluster import Cluster
from aliquot.placement.demand import Demand
from aliquot.placement.eligibility import Option
from aliquot.placement.packing import Choice
from aliquot.placement.preferences import Candidates
from aliquot.placement.reasons import Reason
from aliquot.placement.separation import excluded

DEFAULT_STRATEGY: Final = "default"
_EVERYTHING: Final = Candidates()


@dataclass(frozen=True, slots=True)
class Chosen:
    """Where a claim goes, and why there."""

    claim: Claim
    grant: Grant
    strategy: str
    score: float
    terms: tuple[tuple[str, float], ...]
    """What the score consists of, by name."""
    candidates: Candidates = field(repr=False)
    """The part of the cluster in which the score decided."""
    demand: Demand = field(repr=False)


def decide(
    cluster: Cluster, claim: Claim, *, strategy: str = "", within: Candidates = _EVERYTHING
) -> Chosen | None:
    """Where the claim goes now, None where it fits nowhere. Nothing is reserved.

    `strategy` overrides that of the pools; `within` restricts the search. Raises `InvalidValueError` for a
    strategy that does not exist.
    """
    for name, pools in _strategies(cluster, claim, strategy):
        for option, candidates in _parts(cluster, claim, within.also(nodes=pools.nodes)):
            if option.demand is None:
                continue
            found = _best(cluster, claim, option.demand, candidates, name)
            if found:
                choice, part = found
                return _chosen(cluster, claim, option, choice, part, name)
    return None


def fits(cluster: Cluster, claim: Claim, *, within: Candidates = _EVERYTHING) -> bool:
    """Whether the claim fits anywhere, which `decide` would find; quicker, since nothing is scored."""
    for option in cluster.options.of(claim):
        candidates = required(cluster, claim, option, within)
        if option.demand is None or candidates.none:
            continue
        parts = (candidates,)
        if claim.topology.required and option.demand.count > 1:
            parts = (
                each for same in by_closeness(cluster, claim, option.demand, candidates) for each in same
            )
        if any(cluster.packing.feasible(option.demand, part.nodes, part.devices) for part in parts):
            return True
    return False


def required(cluster: Cluster, claim: Claim, option: Option, within: Candidates) -> Candidates:
    """Nodes and devices that every rule allows. How much is free is the core's to say."""
    candidates = within.also(nodes=option.nodes, devices=option.devices)
    candidates = candidates.also(devices=_joinable(cluster, option))
    apart = excluded(cluster, claim, option, required=True).candidates
    candidates = candidates.also(nodes=apart.nodes, devices=apart.devices)
    return candidates if claim.devices.count else Candidates(candidates.nodes)


# --- the parts of the cluster, the best first


def _strategies(cluster: Cluster, claim: Claim, strategy: str) -> Iterator[tuple[str, Candidates]]:
    """Strategies with the nodes of their pools, in the order of the claim's pools. Scores of two strategies
    cannot be compared, so pools with different ones are tried one after the other."""
    pools = cluster.inventory.pools
    names = {name: strategy or pool.strategy or DEFAULT_STRATEGY for name, pool in pools.items()}
    order = [name for name in claim.constraints.pools if name in names] or list(names)
    used = list(dict.fromkeys(names[name] for name in order))
    if len(used) <= 1:
        yield (used[0] if used else strategy or DEFAULT_STRATEGY), _EVERYTHING
        return
    for each in used:
        nodes = bytes(names[node.pool] == each for node in cluster.inventory.nodes)
        yield each, Candidates(nodes=nodes)


def _parts(cluster: Cluster, claim: Claim, within: Candidates) -> Iterator[tuple[Option, Candidates]]:
    for option in cluster.options.of(claim):
        allowed = required(cluster, claim, option, within)
        if allowed.none:
            continue
        for liked in cluster.preferences.narrowed(claim, allowed):
            yield from ((option, part) for part in _separated(cluster, claim, option, liked))


def _separated(
    cluster: Cluster, claim: Claim, option: Option, candidates: Candidates
) -> Iterator[Candidates]:
    apart = excluded(cluster, claim, option, required=False).candidates
    if apart != _EVERYTHING:
        better = candidates.also(nodes=apart.nodes, devices=apart.devices)
        if not better.none:
            yield better
    yield candidates


def _joinable(cluster: Cluster, option: Option) -> masks.Mask:
    """Devices whose tenants let one more in by the option's mechanism."""
    demand = option.demand
    if demand is None or not demand.count:
        return None
    takes = all(share.compute_milli or share.vram_mib for share in demand.shares)
    values = cluster.live(
        ("joinable", option.mechanism, option.profiles, takes),
        lambda flat: _may_join(cluster, flat, option, takes=takes),
    )
    return None if 0 not in values else values


def _may_join(cluster: Cluster, flat: int, option: Option, *, takes: bool) -> bool:
    """Where the core's numbers refuse by themselves, the answer is yes: masks are not free."""
    held = cluster.holdings(flat)
    if option.mechanism is Mechanism.WHOLE:
        return not any(each.empty for each in held)
    if held and held[0].mechanism is Mechanism.WHOLE and takes:
        return True
    profile = option.profile(cluster.inventory.devices[flat].kind.number)
    return cluster.joining(flat, option.mechanism, profile) is Reason.ELIGIBLE


# --- the best of a part


def _best(
    cluster: Cluster, claim: Claim, demand: Demand, candidates: Candidates, strategy: str
) -> tuple[Choice, Candidates] | None:
    scorer = cluster.scorer(strategy)
    for equals in by_closeness(cluster, claim, demand, candidates):
        found = [(scorer.choose(demand, part.nodes, part.devices), part) for part in equals]
        chosen = [(choice, part) for choice, part in found if choice is not None]
        if chosen:
            return max(chosen, key=lambda each: (each[0].score, -each[0].placement.node))
    return None


def _chosen(
    cluster: Cluster, claim: Claim, option: Option, choice: Choice, part: Candidates, strategy: str
) -> Chosen:
    placement = choice.placement
    profile = ""
    if placement.devices:
        flat = cluster.inventory.flat(placement.node, placement.devices[0])
        profile = option.profile(cluster.inventory.devices[flat].kind.number)
    grant = cluster.grant_for(claim, placement, option.mechanism, profile)
    return Chosen(claim, grant, strategy, choice.score, choice.terms, part, placement.demand)
