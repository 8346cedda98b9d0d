"""Where devices stand to one another: links, PCIe, NUMA, hosts and the network between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aliquot.errors import InvalidValueError

NODE: Final = "node"
"""The level of one host; the levels of the network above it carry the operator's names: `rack`, `zone`."""
DEVICE: Final = "device"
"""The level of one card, for those who want to be kept apart."""


class Nearness(StrEnum):
    """How close the devices of one claim stand on their host, the closest first."""

    LINK = "link"
    """One island of NVLink, XGMI or the like."""
    PCIE = "pcie"
    """Below one PCIe root."""
    NUMA = "numa"
    """Of one NUMA node."""
    NODE = "node"
    """Of one host, wherever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyWish:
    """How close the devices of one claim are to stand."""

    nearness: Nearness = Nearness.LINK
    required: bool = False
    """Refuse rather than spread them wider; otherwise the closest that there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Keep the claims of one workload evenly over the places of a level."""

    level: str = NODE
    """`node`, or a level of the network such as `rack`."""
    max_skew: int = 1
    """How many more claims a place may have than the emptiest one that is eligible."""
    required: bool = True

    def __post_init__(self) -> None:
        if self.max_skew < 1 or not self.level or self.level == DEVICE:
            raise InvalidValueError(
                f"claims cannot be spread like this: {self!r}",
                hint="level is node or a level of the network; max_skew is at least 1",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Keep away from where claims of some workloads are."""

    workloads: tuple[str, ...]
    level: str = NODE
    """`device`, `node`, or a level of the network."""
    required: bool = True

    def __post_init__(self) -> None:
        if not self.workloads or not self.level:
            raise InvalidValueError(
                "anti-affinity needs the workloads to stay away from, and a level",
                hint="e.g. apart: [{workloads: [search], level: node}]",
            )
