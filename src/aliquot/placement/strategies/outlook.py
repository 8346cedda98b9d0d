"""What a mix of claims means for one cluster: sequences and typical claims, and what hosts are worth."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from typing import Final

from aliquot.placement.demand import WHOLE_MILLI, Demand, Share
from aliquot.placement.packing.shapes import NodeShape
from aliquot.placement.strategies.mix import Mix, order
from aliquot.placement.strategies.strategy import OutlookParameters

_TYPICAL_PART: Final = 0.95
"""The most frequent claims that make up this much are the typical ones (as in FGD's published runs)."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the terms that look ahead go by."""

    sequences: tuple[tuple[Demand, ...], ...] = ()
    typical: tuple[tuple[Demand, float], ...] = ()
    """Typical claims without their host memory, and their frequencies."""
    hosts: tuple[tuple[Demand, float], ...] = ()
    """Claims of several devices, and what one more node that can host each is worth, in devices."""


def outlook_of(
    mix: Mix, shapes: Mapping[NodeShape, int], parameters: OutlookParameters, seed: int
) -> Outlook:
    """The outlook for a cluster that has so many nodes of each shape. The seed decides what is drawn."""
    return Outlook(
        sequences=_draw(mix, parameters, seed),
        typical=_typical(mix),
        hosts=_hosts(mix, shapes, parameters),
    )


def _draw(mix: Mix, parameters: OutlookParameters, seed: int) -> tuple[tuple[Demand, ...], ...]:
    """Stratified: one draw in each of equally likely parts of the distribution, then shuffled."""
    demands = list(mix.frequencies)
    weighted = (mix.frequencies[each] * (1 if each.count else parameters.cpu_only_weight) for each in demands)
    sums = list(accumulate(weighted))
    generator = random.Random(seed)
    count = parameters.sequences * parameters.length
    drawn = [
        demands[min(bisect_left(sums, (at + generator.random()) / count * sums[-1]), len(demands) - 1)]
        for at in range(count)
    ]
    for at in range(count - 1, 0, -1):
        other = int(generator.random() * (at + 1))
        drawn[at], drawn[other] = drawn[other], drawn[at]
    return tuple(tuple(drawn[at : at + parameters.length]) for at in range(0, count, parameters.length))


def _typical(mix: Mix) -> tuple[tuple[Demand, float], ...]:
    merged: dict[Demand, float] = {}
    for demand, frequency in mix.frequencies.items():
        without_memory = Demand(demand.cpu_milli, 0, demand.count, demand.shares)
        merged[without_memory] = merged.get(without_memory, 0.0) + frequency
    ranked = sorted(merged.items(), key=lambda entry: (-entry[1], order(entry[0])))
    kept: list[tuple[Demand, float]] = []
    total = 0.0
    for demand, frequency in ranked:
        if total >= _TYPICAL_PART:
            break
        kept.append((demand, frequency))
        total += frequency
    return tuple((demand, frequency / total) for demand, frequency in kept)


def _hosts(
    mix: Mix, shapes: Mapping[NodeShape, int], parameters: OutlookParameters
) -> tuple[tuple[Demand, float], ...]:
    """Asked for in all until the cluster is full, over the nodes that can host it."""
    devices = sum(len(shape.devices) * count for shape, count in shapes.items())
    size = {demand: _size(demand) for demand in mix.frequencies}
    mean = sum(frequency * size[demand] for demand, frequency in mix.frequencies.items())
    if not mean:
        return ()
    pressure = _pressure(mix, shapes, devices / mean)
    worth = parameters.host_worth * max(1.0, pressure) ** parameters.host_pressure_power
    result: list[tuple[Demand, float]] = []
    for demand, frequency in mix.frequencies.items():
        if demand.count < 2:
            continue
        hosts = sum(count for shape, count in shapes.items() if fits(demand, shape))
        if hosts:
            result.append((demand, worth * (devices / mean) * frequency * size[demand] / hosts))
    return tuple(result)


def _pressure(mix: Mix, shapes: Mapping[NodeShape, int], claims: float) -> float:
    """CPU or memory that so many claims ask for, over what there is; whichever is scarcer."""
    scarcest = 0.0
    for amount_of in (attrgetter("cpu_milli"), attrgetter("memory_mib")):
        there = sum(amount_of(shape) * count for shape, count in shapes.items())
        asked = claims * sum(amount_of(demand) * part for demand, part in mix.frequencies.items())
        scarcest = max(scarcest, asked / there if there else 0.0)
    return scarcest


def _size(demand: Demand) -> float:
    """Devices that a claim takes, on the model where it takes least."""
    return min((demand.size_milli(share.model) for share in demand.shares), default=0) / WHOLE_MILLI


def fits(demand: Demand, room: NodeShape) -> bool:
    """Whether there is room for the demand."""
    if demand.cpu_milli > room.cpu_milli or demand.memory_mib > room.memory_mib:
        return False
    return not demand.count or any(
        sum(holds(device, share) for device in room.devices) >= demand.count for share in demand.shares
    )


def holds(device: tuple[int, int, int], share: Share) -> bool:
    """Whether a device with so much free has room for a share."""
    return device[0] == share[0] and device[1] >= share[1] and device[2] >= share[2]
