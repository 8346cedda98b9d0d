"""The ways to give a part of a device, and what keeps its tenants apart, as words that a claim may use."""

from __future__ import annotations

from enum import StrEnum


class Isolation(StrEnum):
    """What keeps the tenants of a card apart, the weakest first."""

    NONE = "none"
    SOFTWARE = "software"
    HARDWARE = "hardware"

    @property
    def rank(self) -> int:
        """0 for the weakest."""
        return tuple(Isolation).index(self)

    def covers(self, wanted: Isolation) -> bool:
        """Whether this is at least as strong as `wanted`."""
        return self.rank >= wanted.rank


class Mechanism(StrEnum):
    """How a share of a device is made real."""

    WHOLE = "whole"
    """The card by itself, visible to one tenant."""
    MIG = "mig"
    """An instance in hardware, of a profile, at a place."""
    LIMITER = "limiter"
    """Any share, enforced inside the process."""
    MPS = "mps"
    """Processes on one card at once, each with a part of its threads and pinned memory."""
    TIMESLICE = "timeslice"
    """Replicas that take turns, with nothing between them."""

    @property
    def isolation(self) -> Isolation:
        """What it keeps apart."""
        return _ISOLATION[self]


_ISOLATION = {
    Mechanism.WHOLE: Isolation.HARDWARE,
    Mechanism.MIG: Isolation.HARDWARE,
    Mechanism.LIMITER: Isolation.SOFTWARE,
    Mechanism.MPS: Isolation.SOFTWARE,
    Mechanism.TIMESLICE: Isolation.NONE,
}
