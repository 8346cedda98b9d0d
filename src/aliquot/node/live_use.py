"""What slices use at this moment: two looks at each, and what lies between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aliquot.errors import AliquotError
from aliquot.limits import DeviceUsage, Slice, SliceUsage
from aliquot.model import QosLevel
from aliquot.node.places import label


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A slice at one moment of CLOCK_MONOTONIC."""

    name: str
    qos: QosLevel
    usage: SliceUsage
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a slice did with one device between two looks, in percent of the time between them."""

    gpu_percent: float
    """The device worked for it, by its processes' own account."""
    held_percent: float
    """The card was at its disposal, by the arbiter's."""
    waited_percent: float
    """It wanted the card and had no turn."""


def look(slices: Sequence[Slice]) -> list[Look]:
    """Looks at each; those that went meanwhile, or are damaged, are left out."""
    found: list[Look] = []
    for each in slices:
        with suppress(AliquotError):
            found.append(
                Look(name=label(each), qos=each.qos(), usage=each.usage(), at_ns=time.monotonic_ns())
            )
    return found


def rates(before: Look | None, now: Look) -> list[Rates]:
    """The rates of each device; all zero where there is no earlier look at the same slice."""
    if before is None or before.at_ns >= now.at_ns or len(before.usage.devices) != len(now.usage.devices):
        return [Rates(gpu_percent=0.0, held_percent=0.0, waited_percent=0.0) for _ in now.usage.devices]
    span = now.at_ns - before.at_ns
    pairs = zip(before.usage.devices, now.usage.devices, strict=True)
    return [_rates_of(old, new, span) for old, new in pairs]


def _rates_of(old: DeviceUsage, new: DeviceUsage, span_ns: int) -> Rates:
    def percent(field: str) -> float:
        """A process that took a dead one's place starts anew, so that a sum can fall."""
        return min(100.0, max(0.0, 100.0 * (getattr(new, field) - getattr(old, field)) / span_ns))

    return Rates(
        gpu_percent=percent("gpu_ns"), held_percent=percent("held_ns"), waited_percent=percent("waited_ns")
    )
