"""Claims that stand somewhere already, put into the state where somebody says that they are."""

from __future__ import annotations

from collections.abc import Sequence

from aliquot.model.claims import Claim
from aliquot.model.grants import Grant, GrantedDevice
from aliquot.model.sharing import Mechanism
from aliquot.placement import mig
from aliquot.placement.amounts import Offer, offer
from aliquot.placement.cluster import Cluster
from aliquot.placement.eligibility import mechanisms_for
from aliquot.placement.errors import IllegalGrantError
from aliquot.placement.occupancy import instances


def grant_at(
    cluster: Cluster,
    claim: Claim,
    node: str,
    devices: Sequence[int],
    *,
    mechanism: Mechanism | None = None,
    mig_starts: Sequence[int] = (),
) -> Grant:
    """The grant of a claim that stands on these devices of a node.

    Without a mechanism it is the first that the claim accepts; without `mig_starts`, instances begin where
    they cost others least. Raises `IllegalGrantError` where the devices cannot serve the claim so, and
    `InvalidValueError` for a node that is not there.
    """
    how = mechanism or mechanisms_for(claim)[0]
    number = cluster.inventory.node(node)
    if mig_starts and len(mig_starts) != len(devices):
        raise IllegalGrantError(f"{claim.name} has {len(devices)} devices and {len(mig_starts)} MIG starts")
    if any(not 0 <= index < len(cluster.inventory.nodes[number].devices) for index in devices):
        raise IllegalGrantError(f"{claim.name}: node {node} has no such devices: {list(devices)}")
    granted = tuple(
        _granted(cluster, claim, cluster.inventory.flat(number, index), how, mig_starts[place : place + 1])
        for place, index in enumerate(devices)
    )
    return Grant(
        claim=claim.name,
        node=node,
        mechanism=how,
        devices=granted,
        cpu_milli=claim.host.cpu_milli,
        memory_mib=claim.host.memory_mib,
    )


def _granted(
    cluster: Cluster, claim: Claim, flat: int, mechanism: Mechanism, start: Sequence[int]
) -> GrantedDevice:
    placed = cluster.inventory.devices[flat]
    offered = offer(claim, placed.kind, mechanism)
    if not isinstance(offered, Offer):
        raise IllegalGrantError(
            f"{claim.name} cannot stand on {cluster.inventory.name(flat)} by {mechanism}: {offered.text}"
        )
    at = -1
    layout = placed.kind.facts.mig
    profile = mig.profile_of(layout, offered.mig_profile) if layout and offered.mig_profile else None
    if layout and profile:
        best = mig.best_start(layout, instances(cluster.holdings(flat)), profile)
        at = start[0] if start else (-1 if best is None else best)
    return GrantedDevice(
        index=placed.index,
        compute_milli=offered.share.compute_milli,
        vram_mib=offered.share.vram_mib,
        mig_profile=offered.mig_profile,
        mig_start=at,
    )
