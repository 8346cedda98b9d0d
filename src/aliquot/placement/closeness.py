"""Devices that stand close together: chosen for claims of several, and not broken up by claims of one.

What is lost with a group that shrinks from f to f - n free devices is counted in the pairs, fours and eights
that it can no longer hold: loss(f, n) = sum over k in 2, 4, 8 of floor(f / k) - floor((f - n) / k). Jobs of
several devices come in powers of two: the odd device of a group of three costs nothing, the first of a group
of eight costs three. Candidates are tried from the smallest loss up; the score decides among equals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from aliquot.model.claims import Claim
from aliquot.model.topology import Nearness
from aliquot.placement import masks
from aliquot.placement.cluster import Cluster
from aliquot.placement.demand import Demand
from aliquot.placement.inventory import Group
from aliquot.placement.preferences import Candidates

_SIZES: Final = (2, 4, 8)
_ISLAND_WEIGHT: Final = 4
"""Losing a place among linked devices always counts more than losing one below a PCIe root (at most 3)."""


def loss(free: int, taken: int) -> int:
    """How many pairs, fours and eights a group of free devices loses."""
    return sum(free // size - (free - taken) // size for size in _SIZES)


def by_closeness(
    cluster: Cluster, claim: Claim, demand: Demand, candidates: Candidates
) -> Iterator[tuple[Candidates, ...]]:
    """The candidates in parts, the best first. Those in one tuple are equally good."""
    if demand.count <= 1:
        for part in _unbroken(cluster, candidates) if demand.count else (candidates,):
            yield (part,)
        return
    for nearness in Nearness:
        if nearness is not Nearness.NODE:
            yield from _together(cluster, demand, candidates, nearness)
        elif not claim.topology.required or claim.topology.nearness is Nearness.NODE:
            yield (candidates,)
        if claim.topology.required and nearness is claim.topology.nearness:
            return


# --- several devices


def _together(
    cluster: Cluster, demand: Demand, candidates: Candidates, nearness: Nearness
) -> Iterator[tuple[Candidates, ...]]:
    """Groups that have room for all, by what they lose; in each tuple one group of each node."""
    if not _known(cluster, nearness):
        return
    by_loss: dict[int, dict[int, list[Group]]] = {}
    for node in cluster.packing.feasible(demand, candidates.nodes, candidates.devices):
        for lost, group in _groups(cluster, demand, candidates, node, nearness):
            by_loss.setdefault(lost, {}).setdefault(node, []).append(group)
    for lost in sorted(by_loss):
        yield tuple(_layers(cluster, by_loss[lost], candidates))


def _known(cluster: Cluster, nearness: Nearness) -> bool:
    if nearness is Nearness.LINK:
        return bool(cluster.inventory.islands)
    if nearness is Nearness.PCIE:
        return bool(cluster.inventory.roots)
    return any(each.device.numa >= 0 for each in cluster.inventory.devices)


def _groups(
    cluster: Cluster, demand: Demand, candidates: Candidates, node: int, nearness: Nearness
) -> Iterator[tuple[int, Group]]:
    """Those of the node's groups in which enough devices of one kind have room, with what they would lose."""
    large = [group for group in cluster.inventory.groups(node, nearness) if len(group) >= demand.count]
    if not large:
        return
    first, free = cluster.inventory.first[node], cluster.free(node).devices
    mask = candidates.devices
    for model, milli, vram in demand.shares:
        for group in large:
            members = tuple(
                flat
                for flat in group
                if free[flat - first].model == model
                and free[flat - first].compute_milli >= milli
                and free[flat - first].vram_mib >= vram
                and (mask is None or mask[flat])
            )
            if len(members) >= demand.count:
                yield loss(len(members), demand.count), members


def _layers(
    cluster: Cluster, by_node: dict[int, list[Group]], candidates: Candidates
) -> Iterator[Candidates]:
    size = len(cluster.inventory.devices)
    for layer in range(max(map(len, by_node.values()))):
        groups = [groups[layer] for groups in by_node.values() if layer < len(groups)]
        yield Candidates(candidates.nodes, masks.of(size, (flat for group in groups for flat in group)))


# --- one device


def _unbroken(cluster: Cluster, candidates: Candidates) -> Iterator[Candidates]:
    """First the devices that break the least."""
    inventory = cluster.inventory
    if not inventory.islands and not inventory.roots:
        yield candidates
        return
    losses = cluster.live(
        "loss", lambda flat: _lost_by(cluster, flat), also=lambda flat: _mates(cluster, flat)
    )
    for lost in sorted(set(losses)):
        part = candidates.also(devices=masks.only(losses, lost))
        if not part.none:
            yield part


def _lost_by(cluster: Cluster, flat: int) -> int:
    """What is lost when the device is taken; nothing where somebody is on it already."""
    inventory = cluster.inventory
    pool = inventory.nodes[inventory.devices[flat].node].pool
    if not cluster.is_free(flat) or not inventory.pools[pool].keep_groups:
        return 0
    linked, below = inventory.islands.get(flat, ()), inventory.roots.get(flat, ())
    return _ISLAND_WEIGHT * _loss_of_one(cluster, linked) + _loss_of_one(cluster, below)


def _loss_of_one(cluster: Cluster, group: Group) -> int:
    return loss(sum(cluster.is_free(each) for each in group), 1) if group else 0


def _mates(cluster: Cluster, flat: int) -> Iterable[int]:
    inventory = cluster.inventory
    return (*inventory.islands.get(flat, ()), *inventory.roots.get(flat, ()))
