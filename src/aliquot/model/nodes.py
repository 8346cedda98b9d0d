"""Hosts, their devices and pools, as far as placing needs to know them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from aliquot.errors import InvalidValueError
from aliquot.model.sharing import Mechanism

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_MOST_RATIO: Final = 100


class MigMode(StrEnum):
    """Whether a device that can be partitioned may be."""

    DYNAMIC = "dynamic"
    """Switched on and off with the claims on it, while it is empty."""
    ON = "on"
    """Instances only."""
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDevice:
    """A device of a host: what it is, and what it is connected to."""

    model: str
    """Key of the catalogue, or of a model that the operator described."""
    uuid: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    island: str = ""
    """Devices of a host with the same name reach each other over NVLink, XGMI or the like."""
    pcie_root: str = ""
    numa: int = -1
    """-1 where it is not known."""
    mig_mode: MigMode = MigMode.DYNAMIC
    cordoned: str = ""
    """Why nothing new may come, e.g. a fault; empty where it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A host, with devices or without."""

    name: str
    cpu_milli: int
    memory_mib: int
    devices: tuple[NodeDevice, ...] = ()
    pool: str = "default"
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    network: Mapping[str, str] = field(default_factory=lambda: _NO_LABELS)
    """Its position, the widest level first: `{zone: a, rack: a7}`. Names count together with those above."""
    mechanisms: tuple[Mechanism, ...] = (Mechanism.WHOLE, Mechanism.LIMITER, Mechanism.MIG, Mechanism.MPS)
    """What its agent can do. A device offers those of them that its model has."""
    timeslice_replicas: int = 0
    """How many tenants may take turns on one device; 0 where time slicing is not offered."""
    serves_remote: bool = True
    """Programs on other hosts may use its devices."""
    cordoned: str = ""

    def __post_init__(self) -> None:
        if not self.name or self.cpu_milli < 0 or self.memory_mib < 0 or self.timeslice_replicas < 0:
            raise InvalidValueError(f"a node cannot be like this: {self.name or '(without a name)'}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversubscription:
    """How much may be promised for each unit that there is; 1 is no more than there is.

    What one claim asks for of a device still has to fit the device itself.
    """

    compute: Fraction = Fraction(1)
    vram: Fraction = Fraction(1)
    cpu: Fraction = Fraction(1)
    memory: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        ratios = (self.compute, self.vram, self.cpu, self.memory)
        if not all(1 <= ratio <= _MOST_RATIO for ratio in ratios):
            raise InvalidValueError(
                "an oversubscription ratio is at least 1 and at most 100", hint="e.g. compute: 1.5"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Nodes that one policy manages."""

    name: str
    oversubscription: Oversubscription = Oversubscription()
    strategy: str = ""
    """Name of the strategy that places here; empty for the default."""
    keep_groups: bool = True
    """Claims go first where they break no group of linked devices."""
