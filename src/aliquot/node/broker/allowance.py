"""Who may have what of the machine: pure decisions over what has been given so far.

A person makes slices for herself alone. On each card her own stay within her allowance, and everybody's
together within the card, so that nobody's memory or guaranteed time is promised twice. Root makes slices for
anybody, bounded by the card itself and not by what others have: it may promise more than there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aliquot.errors import InvalidValueError
from aliquot.limits import SliceAccessError
from aliquot.model import WHOLE_CARD, Device, Ppm, QosLevel, format_bytes, format_percent
from aliquot.node.broker.wire import AllowanceExceededError

ROOT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What each person may give herself."""

    vram: Ppm = WHOLE_CARD
    """Of each card's memory, over all slices that she made on it."""
    compute: Ppm = WHOLE_CARD
    """Of each card's time, guaranteed."""
    slices: int = 16
    """At a time, on all cards."""
    highest_rank: int = 2
    """Of the level of service. Levels above preempt others: root gives those."""

    def __post_init__(self) -> None:
        if not 0 < self.vram <= WHOLE_CARD or not 0 <= self.compute <= WHOLE_CARD or self.slices < 0:
            raise InvalidValueError(f"nobody can have this: {self!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A slice of one card, as far as others must know of it."""

    owner: int
    device: str
    vram_bytes: int
    compute: int
    fixed: bool = False
    """Root made it: it does not count as what the person gave herself, and she may not change it."""


def check_whose(asker: int, owner: int) -> None:
    """Raises `SliceAccessError` unless the asker may do something to the owner's slices."""
    if asker not in (ROOT, owner):
        raise SliceAccessError(
            f"the slices of uid {owner} are not those of uid {asker}", hint="its owner or root can do that"
        )


def check_changeable(asker: int, *, fixed: bool) -> None:
    """Raises `SliceAccessError` where root made the slice for the asker."""
    if fixed and asker != ROOT:
        raise SliceAccessError("root made this slice: nobody else changes it", hint="ask for another size")


def check_qos(asker: int, level: QosLevel, allowance: Allowance) -> None:
    """Raises `AllowanceExceededError` for a level of service that only root gives."""
    if asker != ROOT and level.rank > allowance.highest_rank:
        raise AllowanceExceededError(
            f"the level {level.name} is root's to give on this machine", hint="ask for another with --qos"
        )


def check_room(
    asker: int, wanted: Given, device: Device, others: Iterable[Given], allowance: Allowance
) -> None:
    """Raises where the card, or the person's allowance of it, has no room beside what the others have.

    `InvalidValueError` for more than the card has, `AllowanceExceededError` for more than is left.
    """
    if wanted.vram_bytes > device.vram:
        raise InvalidValueError(
            f"{format_bytes(wanted.vram_bytes)} was asked for, "
            f"and {device.name} has {format_bytes(device.vram)}"
        )
    if asker == ROOT:
        return
    here = [each for each in others if each.device == device.uuid]
    mine = [each for each in here if each.owner == wanted.owner and not each.fixed]
    for whose, held, part in (("your", mine, allowance), ("all", here, Allowance())):
        _check_sum(whose, held, wanted, device, part)


def check_count(asker: int, owner: int, others: Iterable[Given], allowance: Allowance) -> None:
    """Raises `AllowanceExceededError` where the person has as many slices as she may."""
    count = sum(each.owner == owner and not each.fixed for each in others)
    if asker != ROOT and count >= allowance.slices:
        raise AllowanceExceededError(
            f"you have {count} slices, and nobody has more here", hint="aliquot slices remove SLICE"
        )


def _check_sum(whose: str, held: list[Given], wanted: Given, device: Device, part: Allowance) -> None:
    vram = device.vram * part.vram // WHOLE_CARD
    left = max(0, vram - sum(each.vram_bytes for each in held))
    if wanted.vram_bytes > left:
        raise AllowanceExceededError(
            f"{whose} slices of {device.name} may have {format_bytes(vram)} of memory together: "
            f"{format_bytes(left)} are left, {format_bytes(wanted.vram_bytes)} were asked for",
            hint="ask for less, wait until some is free, or choose another card with --device",
        )
    time = max(0, part.compute - sum(each.compute for each in held))
    if wanted.compute > time:
        raise AllowanceExceededError(
            f"{whose} slices of {device.name} may be guaranteed {format_percent(part.compute)} of its time "
            f"together: {format_percent(time)} are left, {format_percent(wanted.compute)} were asked for",
            hint="ask for less, wait until some is free, or choose another card with --device",
        )
