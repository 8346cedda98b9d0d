"""Levels of service: what a slice's neighbours do for its sake."""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.errors import InvalidValueError

_MOST_NAME_BYTES = 15
_MOST_RANK = 2**16
_MOST_NS = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class QosLevel:
    """What a level of service means. `aliquot.catalog.qos_levels` has the ones that there are."""

    name: str
    """ASCII, up to 15 characters."""
    rank: int
    """Of two slices that want the card and are within their shares, the one of the higher rank goes first."""
    preempts: bool
    """It begins at once while it is within its share; slices of lower rank stop admitting work."""
    neighbour_in_flight_ns: int
    """How much work slices of lower rank may have in flight while it lives; 0 is one operation."""
    idle_window_ns: int
    """How long it keeps a turn without work while others want the card; 0 leaves it to the arbiter."""
    summary: str = ""
    """For the person who chooses one."""

    def __post_init__(self) -> None:
        fits = self.name.isascii() and self.name.isprintable() and 0 < len(self.name) <= _MOST_NAME_BYTES
        times = (self.neighbour_in_flight_ns, self.idle_window_ns)
        if not fits or not 0 <= self.rank <= _MOST_RANK or not all(0 <= each <= _MOST_NS for each in times):
            raise InvalidValueError(f"a level of service cannot be like this: {self!r}")
