"""What the rules need of the numeric core: the state in numbers, and what chooses by a strategy."""

from __future__ import annotations

from typing import Protocol

from aliquot.placement.demand import Demand
from aliquot.placement.packing import Choice


class Scorer(Protocol):
    """Chooses by a strategy on one state."""

    def choose(
        self, demand: Demand, node_mask: bytes | None = None, device_mask: bytes | None = None
    ) -> Choice | None:
        """The best placement; None where there is none."""
        ...

    def choices(
        self,
        demand: Demand,
        node_mask: bytes | None = None,
        device_mask: bytes | None = None,
        most: int | None = None,
    ) -> list[Choice]:
        """The best on each node that has room, best first."""
        ...

    def observe(self, demand: Demand) -> None:
        """Such a demand arrived."""
        ...
