"""Keeping claims apart: anti-affinity towards workloads, and spreading the claims of one workload evenly.

Required rules refuse; preferred ones are followed as long as something else remains. Required anti-affinity
holds both ways: who came first keeps later ones away, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aliquot.model.claims import Claim
from aliquot.model.topology import DEVICE, Apart, Spread
from aliquot.placement import masks
from aliquot.placement.cluster import Cluster
from aliquot.placement.eligibility import Option
from aliquot.placement.preferences import Candidates
from aliquot.placement.reasons import Reason


class Excluded(NamedTuple):
    """Reasons by node and by device; None where there are no rules."""

    nodes: bytes | None = None
    devices: bytes | None = None

    @property
    def candidates(self) -> Candidates:
        """Those that are not excluded."""
        return Candidates(_mask(self.nodes), _mask(self.devices))


def _mask(reasons: bytes | None) -> masks.Mask:
    return masks.eligible(reasons) if reasons and any(reasons) else None


def excluded(cluster: Cluster, claim: Claim, option: Option, *, required: bool) -> Excluded:
    """Where the claim's rules, and those of others, do not want it."""
    rules = [each for each in claim.apart if each.required == required]
    keepers = list(_keepers(cluster, claim)) if required else []
    spread = claim.spread if claim.spread and claim.spread.required == required else None
    if not rules and not keepers and spread is None:
        return Excluded()
    nodes = bytearray(len(cluster.inventory.nodes))
    devices = bytearray(len(cluster.inventory.devices))
    for rule in rules:
        _keep_away_from_workloads(cluster, rule, nodes, devices)
    for level, claims in keepers:
        _keep_away(cluster, level, claims, nodes, devices)
    if spread:
        _even_out(cluster, claim.workload, spread, option, nodes)
    return Excluded(bytes(nodes), bytes(devices))


def _keepers(cluster: Cluster, claim: Claim) -> Iterator[tuple[str, list[str]]]:
    """Claims that keep this one's workload away, by level."""
    for held in cluster.guarded:
        for rule in held.claim.apart:
            if rule.required and claim.workload in rule.workloads:
                yield rule.level, [held.claim.name]


def _keep_away_from_workloads(cluster: Cluster, rule: Apart, nodes: bytearray, devices: bytearray) -> None:
    there = (number for workload in rule.workloads for number in cluster.nodes_of(workload))
    for number in there:
        if rule.level != DEVICE:
            _mark_place(cluster, rule.level, number, nodes)
            continue
        for placed in cluster.inventory.devices_of(number):
            flat = cluster.inventory.flat(number, placed.index)
            if any(each.workload in rule.workloads for each in cluster.holdings(flat)):
                devices[flat] = Reason.APART


def _keep_away(
    cluster: Cluster, level: str, claims: Iterable[str], nodes: bytearray, devices: bytearray
) -> None:
    for name in claims:
        grant = cluster.held(name).grant
        number = cluster.inventory.node(grant.node)
        if level != DEVICE:
            _mark_place(cluster, level, number, nodes)
            continue
        for each in grant.devices:
            devices[cluster.inventory.flat(number, each.index)] = Reason.APART


def _mark_place(cluster: Cluster, level: str, node: int, nodes: bytearray) -> None:
    place = cluster.inventory.place(node, level)
    for number in range(len(nodes)):
        if place and cluster.inventory.place(number, level) == place:
            nodes[number] = Reason.APART


def _even_out(cluster: Cluster, workload: str, spread: Spread, option: Option, nodes: bytearray) -> None:
    """Marks the places that would have more than `max_skew` above the emptiest eligible one."""
    inventory = cluster.inventory
    places = [inventory.place(number, spread.level) for number in range(len(nodes))]
    eligible = {places[number] for number in _eligible_nodes(cluster, option)} - {""}
    counts: Counter[str] = Counter()
    for number, count in cluster.nodes_of(workload).items():
        counts[places[number]] += count
    least = min((counts[place] for place in eligible), default=0)
    for number, place in enumerate(places):
        if not nodes[number] and (not place or counts[place] + 1 - least > spread.max_skew):
            nodes[number] = Reason.SPREAD


def _eligible_nodes(cluster: Cluster, option: Option) -> Iterator[int]:
    for number in range(len(cluster.inventory.nodes)):
        if option.nodes is not None and not option.nodes[number]:
            continue
        flats = (cluster.inventory.flat(number, each.index) for each in cluster.inventory.devices_of(number))
        wants_none = option.demand is not None and not option.demand.count
        if wants_none or option.devices is None or any(option.devices[flat] for flat in flats):
            yield number
