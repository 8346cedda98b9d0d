"""The terms that scores are made of: each a formula over a node's room before and after one placement.

The slow, obvious form; the compiled core (native/placement/terms.cpp) computes the same numbers with the same
order of arithmetic, and the tests hold one against the other bit by bit. Where a baseline's paper leaves a
constant open, it is that of its authors' published simulator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aliquot.placement.demand import WHOLE_MILLI, Demand, Share
from aliquot.placement.packing.shapes import DeviceShape, NodeShape
from aliquot.placement.strategies.outlook import Outlook, fits, holds

_LARGEST_CPU: Final = 128000.0
_LARGEST_GPU: Final = 8000.0
_WORD: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to put a demand onto a node. Devices of both rooms are sorted; `chosen` indexes `before`'s."""

    demand: Demand
    before: NodeShape
    after: NodeShape
    chosen: tuple[int, ...]
    node: int
    kinds: Mapping[int, int]
    """How many claims of each kind stand on the node (`kind_of`)."""
    seed: int
    """Of this decision."""


class Terms:
    """Computes terms for one outlook. `vram_of_model` is the largest device met of each model, in MiB."""

    def __init__(self, outlook: Outlook, vram_of_model: Mapping[int, int]) -> None:
        self._outlook = outlook
        self._vram = vram_of_model
        self._by_name: dict[str, Callable[[Candidate], float]] = {
            "random": _random,
            "best_fit": _best_fit,
            "dot_product": _dot_product,
            "gpu_packing": _gpu_packing,
            "gpu_clustering": _gpu_clustering,
            "fgd": self._fgd,
            "fragmentation": self._fragmentation,
            "rollout": self._rollout,
            "hosts": self._hosts,
            "free_after": lambda candidate: free_milli(candidate.after) / _LARGEST_GPU,
            "node_fill": _node_fill,
            "device_fill": _device_fill,
            "cpu_fill": lambda candidate: 1 - candidate.after.cpu_milli / _LARGEST_CPU,
        }

    def value(self, name: str, candidate: Candidate) -> float:
        """The term of that name."""
        return self._by_name[name](candidate)

    def filled(self, room: NodeShape) -> int:
        """Thousandths of devices that the outlook's sequences fill on a room, summed over the sequences."""
        return sum(self._run(room, sequence) for sequence in self._outlook.sequences)

    def fragmentation(self, room: NodeShape) -> float:
        """Free thousandths that a typical claim cannot use, on average (FGD, section 3)."""
        total = 0.0
        for demand, frequency in self._outlook.typical:
            total += frequency * (free_milli(room) - _usable(demand, room))
        return total

    def _fgd(self, candidate: Candidate) -> float:
        """Whole points of 100, as published: the exact gradient gives worse results."""
        return float(math.trunc(100 / (1 + math.exp(-self._saved(candidate) / 1000))))

    def _fragmentation(self, candidate: Candidate) -> float:
        return self._saved(candidate) / 1000

    def _saved(self, candidate: Candidate) -> float:
        return self.fragmentation(candidate.before) - self.fragmentation(candidate.after)

    def _rollout(self, candidate: Candidate) -> float:
        """Devices that likely claims would fill on the node afterwards, less those before."""
        if not self._outlook.sequences:
            return 0.0
        gained = self.filled(candidate.after) - self.filled(candidate.before)
        return gained / (1000.0 * len(self._outlook.sequences))

    def _hosts(self, candidate: Candidate) -> float:
        lost = 0.0
        for demand, worth in self._outlook.hosts:
            if fits(demand, candidate.before) and not fits(demand, candidate.after):
                lost += worth
        return -lost

    def _run(self, room: NodeShape, sequence: tuple[Demand, ...]) -> int:
        cpu, memory, filled = room.cpu_milli, room.memory_mib, 0
        gaps = [device for device in room.devices if device.compute_milli or device.vram_mib]
        for demand in sequence:
            if not gaps:
                break
            if demand.cpu_milli > cpu or demand.memory_mib > memory:
                continue
            share = next((each for each in demand.shares if _count(each, gaps) >= demand.count), None)
            if demand.count and share is None:
                continue
            cpu, memory = cpu - demand.cpu_milli, memory - demand.memory_mib
            if share is not None:
                _put(demand.count, share, gaps)
                filled += self._worth(demand.count, share)
        return filled

    def _worth(self, count: int, share: Share) -> int:
        """Thousandths of devices taken: by compute or by VRAM, whichever is more."""
        vram = self._vram.get(share.model, 0)
        return count * max(share.compute_milli, WHOLE_MILLI * share.vram_mib // vram if vram else 0)


def kind_of(demand: Demand) -> int:
    """What GPU clustering tells apart: -1 with no device, 0 for shares, the count for whole devices."""
    if not demand.count:
        return -1
    return 0 if demand.shares[0].compute_milli < WHOLE_MILLI else demand.count


def free_milli(room: NodeShape) -> int:
    """Free compute of all devices, in thousandths of a device."""
    return sum(device.compute_milli for device in room.devices)


def scrambled(word: int) -> int:
    """SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    word = (word + 0x9E3779B97F4A7C15) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def _random(candidate: Candidate) -> float:
    return (scrambled(candidate.seed ^ candidate.node) >> 11) * 2.0**-53


def _best_fit(candidate: Candidate) -> float:
    """What is left, over the largest node: the less the better."""
    room = candidate.after
    left = room.cpu_milli / _LARGEST_CPU * 0.5 + free_milli(room) / _LARGEST_GPU * 0.5
    return float(math.trunc((1.0 - left) * 100))


def _dot_product(candidate: Candidate) -> float:
    """The more request and free room point the same way, the worse: full nodes are preferred."""
    free = free_milli(candidate.before)
    asked = free - free_milli(candidate.after)
    product = candidate.before.cpu_milli / _LARGEST_CPU * (
        candidate.demand.cpu_milli / _LARGEST_CPU
    ) + free / _LARGEST_GPU * (asked / _LARGEST_GPU)
    return float(math.trunc(100 * (1 - product / 2)))


def _gpu_packing(candidate: Candidate) -> float:
    """Shared devices first, then free ones of nodes in use, then empty nodes."""
    if not candidate.demand.count:
        return 0.0
    devices = candidate.before.devices
    whole = sum(device.compute_milli >= WHOLE_MILLI for device in devices)
    if whole == len(devices):
        return float(max(33 - whole, whole))
    chosen = [devices[index].compute_milli for index in candidate.chosen]
    opened = sum(milli >= WHOLE_MILLI for milli in chosen)
    if opened:
        return float(max(50 - opened, 33))
    return float(max(100 - sum(milli * 100 // WHOLE_MILLI for milli in chosen) // 10, 50))


def _gpu_clustering(candidate: Candidate) -> float:
    """Claims of one kind together; among equals the fuller node."""
    if not candidate.demand.count:
        return 0.0
    used = 8000 - free_milli(candidate.before)
    fill = 25 * used // 8000 if used >= 0 else -(25 * -used // 8000)
    if candidate.kinds.get(kind_of(candidate.demand)):
        return float(fill + (75 if len(candidate.kinds) == 1 else 50))
    return float(fill + (0 if candidate.kinds else 25))


def _node_fill(candidate: Candidate) -> float:
    devices = len(candidate.before.devices)
    return 1 - free_milli(candidate.after) / (1000.0 * devices) if devices else 0.0


def _device_fill(candidate: Candidate) -> float:
    """How full the chosen devices were."""
    count = len(candidate.chosen)
    before = sum(candidate.before.devices[index].compute_milli for index in candidate.chosen)
    return 1 - before / (1000.0 * count) if count else 0.0


def _usable(demand: Demand, room: NodeShape) -> int:
    usable = 0
    for share in demand.shares:
        fitting = [device.compute_milli for device in room.devices if holds(device, share)]
        if len(fitting) >= demand.count and demand.cpu_milli <= room.cpu_milli:
            usable += sum(fitting)
    return usable


def _count(share: Share, gaps: list[DeviceShape]) -> int:
    return sum(holds(gap, share) for gap in gaps)


def _put(count: int, share: Share, gaps: list[DeviceShape]) -> None:
    """Puts shares onto the smallest gaps that hold them; gaps stay sorted, those with nothing free go."""
    chosen = [index for index, gap in enumerate(gaps) if holds(gap, share)][:count]
    for index in chosen:
        gap = gaps[index]
        gaps[index] = DeviceShape(
            gap.model, gap.compute_milli - share.compute_milli, gap.vram_mib - share.vram_mib
        )
    gaps[:] = sorted(gap for gap in gaps if gap.compute_milli or gap.vram_mib)
