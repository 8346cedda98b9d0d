"""The spectrum of ways to enforce a slice, one module each.

A mechanism makes a decided slice real and says how a program gets it. It does not know who asked or why, and
decides nothing about placement. Each states its properties as data, so that they can be shown, chosen by and
measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.model import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """The five properties of a mechanism."""

    unit: str
    """The steps in which a device can be divided."""
    isolation: Isolation
    interference: str
    """What a neighbour can still do to a tenant."""
    dynamic_cost: str
    """What it costs to change a share."""
    compatibility: str
    """Which programs it works for."""


__all__ = ["Isolation", "Properties"]
