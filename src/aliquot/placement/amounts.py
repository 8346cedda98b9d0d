"""How much of a device a claim takes, by kind of device and mechanism: TFLOPS and parts become numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

from aliquot.catalog.models import MigLayout, MigProfile
from aliquot.model.claims import Claim, DeviceNeeds
from aliquot.model.quantities import WHOLE_CARD
from aliquot.model.sharing import Mechanism
from aliquot.placement import mig
from aliquot.placement.demand import WHOLE_MILLI, Share
from aliquot.placement.hardware import Kind, ModelFacts
from aliquot.placement.reasons import Reason

_PPM_PER_MILLI = WHOLE_CARD // WHOLE_MILLI


class Offer(NamedTuple):
    """What a claim would take of one device of a kind."""

    share: Share
    mig_profile: str = ""


def offer(claim: Claim, kind: Kind, mechanism: Mechanism) -> Offer | Reason:
    """What the claim takes of a device of that kind, or why such a device cannot serve it.

    Amounts are rounded up to thousandths of the card and MiB. A whole card takes all that may be promised of
    it. Time slices guarantee nothing that was not asked for.
    """
    if mechanism is Mechanism.MIG:
        return _instance(claim, kind)
    wanted = _wanted(claim.devices, kind.facts)
    if isinstance(wanted, Reason):
        return wanted
    if mechanism is Mechanism.WHOLE:
        return Offer(Share(kind.number, kind.compute_milli, kind.vram_mib))
    if mechanism is Mechanism.TIMESLICE and claim.devices.whole:
        return Offer(Share(kind.number, 0, 0))
    return Offer(Share(kind.number, *wanted))


def _wanted(needs: DeviceNeeds, facts: ModelFacts) -> tuple[int, int] | Reason:
    """Compute in thousandths and VRAM in MiB."""
    milli, vram = _compute(needs, facts), _vram(needs, facts)
    if milli is None or vram > facts.vram_mib:
        return Reason.TOO_LARGE
    return milli, vram


def _compute(needs: DeviceNeeds, facts: ModelFacts) -> int | None:
    if needs.whole:
        return WHOLE_MILLI
    if needs.compute.tflops:
        if needs.compute.tflops > facts.tflops:
            return None
        return math.ceil(needs.compute.tflops / facts.tflops * WHOLE_MILLI)
    return -(-needs.compute.part // _PPM_PER_MILLI)


def _vram(needs: DeviceNeeds, facts: ModelFacts) -> int:
    if needs.vram.mib:
        return needs.vram.mib
    part = needs.vram.part
    if not needs.vram.stated:
        milli = _compute(needs, facts)
        part = (milli or 0) * _PPM_PER_MILLI
    return -(-facts.vram_mib * part // WHOLE_CARD)


def _instance(claim: Claim, kind: Kind) -> Offer | Reason:
    layout = kind.facts.mig
    if layout is None:
        return Reason.MECHANISM
    if claim.devices.whole and not claim.sharing.mig_profile:
        return Reason.PROFILE
    wanted = _wanted(claim.devices, kind.facts)
    if isinstance(wanted, Reason):
        return wanted
    profile = (
        mig.profile_of(layout, claim.sharing.mig_profile)
        if claim.sharing.mig_profile
        else _smallest(layout, claim.devices, kind.facts)
    )
    if profile is None or not _suffices(profile, layout, claim.devices, kind.facts):
        return Reason.PROFILE
    share = Share(kind.number, mig.compute_milli(layout, profile), profile.memory_mib)
    return Offer(share, profile.name)


def _smallest(layout: MigLayout, needs: DeviceNeeds, facts: ModelFacts) -> MigProfile | None:
    """Of the profiles that suffice, the one with the least memory, then compute; media engines come last."""
    enough = [each for each in layout.profiles if _suffices(each, layout, needs, facts)]
    order = {each.name: place for place, each in enumerate(layout.profiles)}
    return min(
        enough,
        key=lambda each: (each.memory_slices, each.compute_slices, "+" in each.name, order[each.name]),
        default=None,
    )


def _suffices(profile: MigProfile, layout: MigLayout, needs: DeviceNeeds, facts: ModelFacts) -> bool:
    """Whether an instance has what is asked for. A claim by profile alone asks for nothing else."""
    if needs.whole:
        return True
    milli, vram = _compute(needs, facts), _vram(needs, facts) if needs.vram.stated else 0
    of_card = facts.sm_count or max(each.sm_count for each in layout.profiles)
    part = profile.sm_count * WHOLE_MILLI // of_card
    return milli is not None and part >= milli and profile.memory_mib >= vram
