"""What a claim has been given."""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.model.sharing import Mechanism


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedDevice:
    """A slice of one device. For whole cards, all that the pool may promise of it."""

    index: int
    """Of the device on its node, from 0."""
    compute_milli: int
    """Guaranteed, in thousandths of the card."""
    vram_mib: int
    mig_profile: str = ""
    mig_start: int = -1
    """The memory slice at which the instance begins; -1 where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Slices given to a claim, all on one node and by one mechanism."""

    claim: str
    node: str
    mechanism: Mechanism
    devices: tuple[GrantedDevice, ...]
    cpu_milli: int = 0
    memory_mib: int = 0
