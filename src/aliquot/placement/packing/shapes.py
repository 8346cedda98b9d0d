"""The words of the numeric state: what a node is, where a demand was put, what a choice was scored by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from aliquot.errors import AliquotError, InvalidValueError
from aliquot.placement.demand import MAXIMUM, Demand

MAXIMUM_DEVICES: Final = 64
"""The most devices of one node."""


class DoesNotFitError(AliquotError):
    """A placement was asked for that the node has no room for."""

    code = "does-not-fit"
    exit_status = 6


class DeviceShape(NamedTuple):
    """A device's capacity, or what of it is free. Over 1000 milli only where a pool oversubscribes."""

    model: int
    compute_milli: int = 1000
    vram_mib: int = 0


@dataclass(frozen=True, slots=True)
class NodeShape:
    """A node's capacity, or what of it is free. Raises `InvalidValueError` outside of the core's ranges."""

    cpu_milli: int
    memory_mib: int
    devices: tuple[DeviceShape, ...] = ()

    def __post_init__(self) -> None:
        amounts = [self.cpu_milli, self.memory_mib, *(amount for device in self.devices for amount in device)]
        if not all(0 <= amount <= MAXIMUM for amount in amounts):
            raise InvalidValueError(f"an amount of a node is 0 to {MAXIMUM}")
        if len(self.devices) > MAXIMUM_DEVICES:
            raise InvalidValueError(f"a node has at most {MAXIMUM_DEVICES} devices, not {len(self.devices)}")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a demand stands, or would stand: `devices` are indices on the node, ascending."""

    demand: Demand
    node: int
    devices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A placement that a strategy proposes. The largest score wins; ties go to the lowest node."""

    placement: Placement
    score: float
    terms: tuple[tuple[str, float], ...]
    """The named terms, each with its weight applied; `score` is their sum, in this order."""
