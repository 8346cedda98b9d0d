"""Who stands on a device, and who may join: which mechanisms share a card, how many tenants it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from aliquot.catalog.models import MigLayout
from aliquot.model.sharing import Mechanism
from aliquot.placement import mig
from aliquot.placement.reasons import Reason

MPS_CLIENTS: Final = 48
"""Clients of one MPS server, which is one device's (NVIDIA Multi-Process Service, "Limitations", Volta and
later)."""


class Holding(NamedTuple):
    """A claim's slice of a device."""

    claim: str
    workload: str
    mechanism: Mechanism
    empty: bool
    """It holds neither compute nor memory in the books, so the books alone do not tell that it is there."""
    instance: mig.Instance | None = None


def joining(
    held: Sequence[Holding],
    mechanism: Mechanism,
    *,
    layout: MigLayout | None = None,
    profile: str = "",
    replicas: int = 0,
) -> Reason:
    """Why a slice by `mechanism` may not join those on a device; `Reason.ELIGIBLE` where it may.

    Mechanisms do not mix on a card: MIG changes what the card is, MPS and time slices let work run that the
    limiter does not see. How much is free is not asked here.
    """
    if not held:
        return Reason.ELIGIBLE
    if held[0].mechanism is Mechanism.WHOLE:
        return Reason.TAKEN_WHOLE
    if mechanism is Mechanism.WHOLE:
        return Reason.OCCUPIED
    if held[0].mechanism is not mechanism:
        return Reason.SHARED_OTHERWISE
    if mechanism is Mechanism.MIG:
        return _instance_joining(held, layout, profile)
    most = {Mechanism.TIMESLICE: replicas, Mechanism.MPS: MPS_CLIENTS}.get(mechanism)
    return Reason.REPLICAS if most is not None and len(held) >= most else Reason.ELIGIBLE


def instances(held: Sequence[Holding]) -> tuple[mig.Instance, ...]:
    """The MIG instances among the slices of a device."""
    return tuple(each.instance for each in held if each.instance is not None)


def _instance_joining(held: Sequence[Holding], layout: MigLayout | None, name: str) -> Reason:
    profile = mig.profile_of(layout, name) if layout else None
    if layout is None or profile is None:
        return Reason.PROFILE
    return Reason.ELIGIBLE if mig.legal_starts(layout, instances(held), profile) else Reason.MIG_GEOMETRY
