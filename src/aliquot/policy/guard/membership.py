"""Which slice a process belongs to, and who needs none.

An account is written by its tenants. A claim in it counts only for processes of the user whose account it is,
for root's, and for those that have the file mapped: otherwise somebody could have a stranger's process judged
by an account that he writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aliquot.policy.guard.data import START_BITS, Claim, Occupant, SliceView
from aliquot.policy.guard.rules import Rules

_START_MASK: Final = (1 << START_BITS) - 1

Claims = Mapping[int, list[tuple[SliceView, Claim]]]
"""By pid in the process' own namespace."""


def claims_by_pid(slices: Iterable[SliceView]) -> Claims:
    """All claims, so that a process' own are found at once."""
    found: dict[int, list[tuple[SliceView, Claim]]] = {}
    for each in slices:
        for claim in each.claims if each.judged else ():
            found.setdefault(claim.pid, []).append((each, claim))
    return found


def slice_of(occupant: Occupant, claims: Claims) -> tuple[SliceView, Claim] | None:
    """The slice whose account names the process, and how; of several, the one that it has mapped, then one
    that has the card."""
    fitting = [each for each in claims.get(occupant.namespace_pid, ()) if _names(*each, occupant)]
    if not fitting:
        return None
    return max(
        fitting, key=lambda each: (each[0].account in occupant.accounts, occupant.card in each[0].terms)
    )


def is_left_alone(occupant: Occupant, slices: Iterable[SliceView]) -> bool:
    """It has the account of a slice mapped that cannot be read as this version reads slices."""
    return any(not each.judged and each.account in occupant.accounts for each in slices)


def is_exempt(occupant: Occupant, rules: Rules) -> bool:
    """The rules let it be on a card without a slice, or leave its user to somebody else."""
    if rules.only_uid is not None and occupant.uid != rules.only_uid:
        return True
    return any(
        (not each.program or each.program in occupant.runs) and each.uid in (None, occupant.uid)
        for each in rules.exempt
    )


def _names(view: SliceView, claim: Claim, occupant: Occupant) -> bool:
    same = claim.start_ticks in (0, occupant.process.start_ticks & _START_MASK) and (
        claim.namespace == occupant.namespace or 0 in (claim.namespace, occupant.namespace)
    )
    return same and (occupant.uid in (0, view.account_uid) or view.account in occupant.accounts)
