"""What may be wrong with a process on a card, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from aliquot.model import Bytes, format_bytes
from aliquot.policy.guard.data import Identity, Occupant
from aliquot.policy.guard.rules import Action


class Kind(StrEnum):
    """What is wrong."""

    STRANGER = "stranger"
    """It belongs to no slice."""
    WRONG_CARD = "wrong-card"
    """It belongs to a slice of other cards."""
    UNACCOUNTED = "unaccounted"
    """It holds more than its slice's account says."""
    OVER_LIMIT = "over-limit"
    """Its slice holds more than it may."""
    OUT_OF_TURN = "out-of-turn"
    """The card worked for its slice for longer than it was lent to it."""


class Key(NamedTuple):
    """What one suspicion is about."""

    kind: Kind
    process: Identity
    card: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Something that is wrong in one snapshot, or over several: it counts when it lasts."""

    kind: Kind
    occupant: Occupant
    slice: str = ""
    """The slice's path; empty where there is none."""
    has: int = 0
    """By the driver: bytes, or percent of the card for OUT_OF_TURN. The least of all looks."""
    may: int = 0
    """By the slice: what the account says, what the limit allows, what was lent. The most of all looks."""

    @property
    def key(self) -> Key:
        """What makes it the same at the next look."""
        return Key(self.kind, self.occupant.process, self.occupant.card)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A suspicion that has lasted."""

    suspicion: Suspicion
    since_ns: int
    """CLOCK_MONOTONIC of the look that first showed it."""
    action: Action

    @property
    def reason(self) -> str:
        """One sentence for people."""
        seen = self.suspicion
        name = seen.slice.rpartition("/")[2]
        match seen.kind:
            case Kind.STRANGER:
                held = seen.occupant.vram_bytes
                much = "is on the card" if held is None else f"holds {format_bytes(Bytes(held))}"
                return f"{much} and belongs to no slice"
            case Kind.WRONG_CARD:
                return f"belongs to the slice {name}, which does not have this card"
            case Kind.UNACCOUNTED:
                return (
                    f"holds {_text(seen.has)} by the driver, and the account of its slice {name} says "
                    f"{_text(seen.may)}"
                )
            case Kind.OVER_LIMIT:
                return (
                    f"its slice {name} holds {_text(seen.has)} by the driver and may hold {_text(seen.may)}"
                )
            case Kind.OUT_OF_TURN:
                return f"the card works {seen.has}% for its slice {name}, and was lent to it for {seen.may}%"


def _text(size: int) -> str:
    return format_bytes(Bytes(size))
