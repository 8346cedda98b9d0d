"""Compute: for how long the card worked for a slice, by the driver, against for how long it was lent to it.

The driver's figure of a process is that of about the last second. So it is compared with what the arbiter
lent in the same second, look by look, and both are averaged over the rules' window.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from aliquot.policy.guard.history import Loan
from aliquot.policy.guard.rules import Rules

_SECOND_NS: Final = 1_000_000_000
"""What the driver's figure is of."""
_SPARE_NS: Final = 2 * _SECOND_NS


def with_look(before: Sequence[Loan], now: Loan, rules: Rules) -> tuple[Loan, ...]:
    """The looks that are still of use: of one arbiter, and not too old."""
    oldest = now.at_ns - rules.compute_window_ns - _SPARE_NS
    kept = [each for each in before if each.epoch == now.epoch and oldest <= each.at_ns < now.at_ns]
    return (*kept, now)


def used_and_lent(loans: Sequence[Loan], rules: Rules) -> tuple[int, int] | None:
    """Percent of the card over the window: what the driver says, what the arbiter lent.

    None before the looks reach far enough back.
    """
    begin = loans[-1].at_ns - rules.compute_window_ns
    looks = [each for each in loans if each.at_ns >= begin]
    if not looks or looks[0].at_ns - _SECOND_NS < loans[0].at_ns or loans[0].at_ns > begin - _SECOND_NS:
        return None
    lent = [100 * (each.held_ns - _held_at(loans, each.at_ns - _SECOND_NS)) / _SECOND_NS for each in looks]
    used = sum(min(100, each.percent) for each in looks) / len(looks)
    return round(used), round(sum(min(100.0, max(0.0, each)) for each in lent) / len(looks))


def _held_at(loans: Sequence[Loan], at_ns: int) -> float:
    """Between two looks it is taken to have grown evenly."""
    for before, after in pairwise(loans):
        if before.at_ns <= at_ns <= after.at_ns:
            part = (at_ns - before.at_ns) / (after.at_ns - before.at_ns)
            return before.held_ns + part * (after.held_ns - before.held_ns)
    return loans[0].held_ns
