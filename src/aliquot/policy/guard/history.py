"""What is kept from one look to the next. Immutable: a look makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aliquot.policy.guard.data import FileId
from aliquot.policy.guard.findings import Key, Kind, Suspicion


class Share(NamedTuple):
    """One slice on one card."""

    account: FileId
    card: str


class Loan(NamedTuple):
    """How a slice used a card at one look."""

    at_ns: int
    epoch: int
    """Of the arbiter: figures of two are not compared."""
    held_ns: int
    percent: int
    """The part of the last second in which the card worked for it, by the driver."""


class Lasting(NamedTuple):
    """A suspicion, and when it first arose."""

    suspicion: Suspicion
    since_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """The memory of a slice on a card over the looks for which it was too much."""

    least_held: int
    most_allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that earlier looks left behind."""

    lasting: Mapping[Key, Lasting] = field(default_factory=dict[Key, Lasting])
    allowances: Mapping[Share, int] = field(default_factory=dict[Share, int])
    """What each slice may hold of each card, in bytes: a limit that was lowered takes nothing away."""
    excesses: Mapping[Share, Sum] = field(default_factory=dict[Share, Sum])
    loans: Mapping[Share, tuple[Loan, ...]] = field(default_factory=dict[Share, tuple[Loan, ...]])

    def suspect_since(self, now: Suspicion) -> int | None:
        """Since when the process has been wrong on the card in any way; None where it has not.

        Who goes from one wrong to another is no newcomer, and neither is a stranger who takes the place of
        another one of the same user: together they have been there. Compute has a window of its own.
        """
        if now.kind is Kind.OUT_OF_TURN:
            return None
        found = (each.since_ns for each in self.lasting.values() if _continues(each.suspicion, now))
        return min(found, default=None)


def _continues(before: Suspicion, now: Suspicion) -> bool:
    if before.kind is Kind.OUT_OF_TURN or before.occupant.card != now.occupant.card:
        return False
    both_strangers = before.kind is now.kind is Kind.STRANGER and before.occupant.uid == now.occupant.uid
    return both_strangers or before.occupant.process == now.occupant.process
