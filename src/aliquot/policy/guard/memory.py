"""Memory: what the driver says that processes hold, against what accounts say and limits allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aliquot.policy.guard.data import CardTerms, Claim, Occupant, SliceView, Snapshot
from aliquot.policy.guard.findings import Kind, Suspicion
from aliquot.policy.guard.history import Share, Sum
from aliquot.policy.guard.rules import Rules

Member = tuple[Occupant, Claim]


def unaccounted(view: SliceView, members: Sequence[Member], rules: Rules) -> list[Suspicion]:
    """Processes that hold more than their account says, others' memory that they have opened included."""
    found: list[Suspicion] = []
    for occupant, claim in members:
        said = claim.held.get(occupant.card, 0) + claim.opened.get(occupant.card, 0)
        if occupant.vram_bytes is not None and occupant.vram_bytes > said + rules.memory_slack_bytes:
            found.append(
                Suspicion(
                    kind=Kind.UNACCOUNTED,
                    occupant=occupant,
                    slice=view.path,
                    has=occupant.vram_bytes,
                    may=said,
                )
            )
    return found


def held_together(members: Sequence[Member], card: str, counted_twice: int) -> int | None:
    """What they hold of a card; None where the driver does not say it of all of them.

    What they have open of others may be counted to both; no more than the card counts twice is left out.
    """
    figures = [occupant.vram_bytes for occupant, _ in members]
    known = [each for each in figures if each is not None]
    if len(known) < len(figures):
        return None
    opened = sum(claim.opened.get(card, 0) for _, claim in members)
    return sum(known) - min(opened, counted_twice)


def counted_twice(snapshot: Snapshot, card: str) -> int:
    """By how much the driver's figures of processes exceed what the whole card has in use."""
    listed = sum(each.vram_bytes or 0 for each in snapshot.occupants if each.card == card)
    return max(0, listed - snapshot.used_bytes.get(card, 0)) if card in snapshot.used_bytes else 0


def allowance(view: SliceView, terms: CardTerms, before: int | None, held: int) -> int:
    """What the slice may hold: its limit, or what it held already when that was lowered.

    Of a slice that is seen for the first time, over a limit that was changed before, nobody knows; it is not
    accused.
    """
    if before is None:
        return terms.vram_bytes if view.generation <= 1 else max(terms.vram_bytes, held)
    return max(terms.vram_bytes, min(before, held))


def excess(share: Share, held: int, allowed: int, before: Mapping[Share, Sum], slack: int) -> Sum | None:
    """The sum over the looks so far, if it is too much at every one of them."""
    last = before.get(share)
    found = Sum(
        least_held=held if last is None else min(held, last.least_held),
        most_allowed=allowed if last is None else max(allowed, last.most_allowed),
    )
    return found if found.least_held > found.most_allowed + slack else None


def over_limit(view: SliceView, members: Sequence[Member], found: Sum) -> list[Suspicion]:
    """Those who hold most, as many as it takes to come back to what is allowed."""
    left, accused = found.least_held, list[Suspicion]()
    for occupant, _ in sorted(members, key=lambda each: (-(each[0].vram_bytes or 0), each[0].process)):
        if left <= found.most_allowed:
            break
        left -= occupant.vram_bytes or 0
        accused.append(
            Suspicion(
                kind=Kind.OVER_LIMIT,
                occupant=occupant,
                slice=view.path,
                has=found.least_held,
                may=found.most_allowed,
            )
        )
    return accused
