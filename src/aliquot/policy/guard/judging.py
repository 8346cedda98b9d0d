"""The comparison: a history and a snapshot in, the next history and the findings out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from aliquot.policy.guard import compute, memory
from aliquot.policy.guard.data import Claim, Occupant, SliceView, Snapshot
from aliquot.policy.guard.findings import Finding, Kind, Suspicion
from aliquot.policy.guard.history import History, Lasting, Loan, Share, Sum
from aliquot.policy.guard.membership import claims_by_pid, is_exempt, is_left_alone, slice_of
from aliquot.policy.guard.rules import Rules


def judge(history: History, snapshot: Snapshot, rules: Rules) -> tuple[History, list[Finding]]:
    """Adds a look to the history; the findings are those suspicions that have lasted for the grace."""
    occupants = [each for each in snapshot.occupants if not is_exempt(each, rules)]
    sorted_out = _sort_out(occupants, snapshot)
    shares = {share: _weigh(group, snapshot, history, rules) for share, group in sorted_out.shares.items()}
    suspicions = [*sorted_out.outside]
    for weighed in shares.values():
        suspicions += weighed.suspicions
    lasting = {each.key: _continued(each, history, snapshot, rules) for each in suspicions}
    lasting = {key: each for key, each in lasting.items() if each is not None}
    following = History(
        lasting=lasting,
        allowances={share: each.allowed for share, each in shares.items() if each.allowed is not None},
        excesses={share: each.excess for share, each in shares.items() if each.excess is not None},
        loans={share: each.loans for share, each in shares.items() if each.loans},
    )
    return following, [
        _finding(each, rules) for each in lasting.values() if _has_lasted(each, snapshot, rules)
    ]


@dataclass(slots=True)
class _Group:
    """A slice on a card that it has, with those of its processes that are there."""

    view: SliceView
    card: str
    members: list[memory.Member]


@dataclass(slots=True)
class _SortedOut:
    outside: list[Suspicion]
    shares: dict[Share, _Group]


@dataclass(slots=True)
class _Weighed:
    suspicions: list[Suspicion]
    allowed: int | None = None
    excess: Sum | None = None
    loans: tuple[Loan, ...] = ()


def _sort_out(occupants: Iterable[Occupant], snapshot: Snapshot) -> _SortedOut:
    """Who belongs where. Slices without processes on a card are there, too: their loans go on being kept."""
    found = _SortedOut([], {})
    for view in snapshot.slices:
        for card in view.terms if view.judged else ():
            found.shares[Share(view.account, card)] = _Group(view, card, [])
    claims = claims_by_pid(snapshot.slices)
    for occupant in occupants:
        membership = slice_of(occupant, claims)
        if membership is None:
            if not is_left_alone(occupant, snapshot.slices):
                found.outside.append(Suspicion(kind=Kind.STRANGER, occupant=occupant))
        elif occupant.card not in membership[0].terms:
            found.outside.append(Suspicion(kind=Kind.WRONG_CARD, occupant=occupant, slice=membership[0].path))
        else:
            _add(found, occupant, *membership)
    return found


def _add(found: _SortedOut, occupant: Occupant, view: SliceView, claim: Claim) -> None:
    found.shares[Share(view.account, occupant.card)].members.append((occupant, claim))


def _weigh(group: _Group, snapshot: Snapshot, history: History, rules: Rules) -> _Weighed:
    found = _Weighed(memory.unaccounted(group.view, group.members, rules))
    share, terms = Share(group.view.account, group.card), group.view.terms[group.card]
    twice = memory.counted_twice(snapshot, group.card)
    held = memory.held_together(group.members, group.card, twice)
    before = history.allowances.get(share)
    found.allowed = before
    if held is not None:
        found.allowed = memory.allowance(group.view, terms, before, held)
        found.excess = memory.excess(share, held, found.allowed, history.excesses, rules.memory_slack_bytes)
    if found.excess is not None:
        found.suspicions += memory.over_limit(group.view, group.members, found.excess)
    found.loans = _loans(group, share, terms.held_ns, snapshot, history, rules)
    found.suspicions += _out_of_turn(group, found.loans, rules)
    return found


def _loans(
    group: _Group, share: Share, held_ns: int, snapshot: Snapshot, history: History, rules: Rules
) -> tuple[Loan, ...]:
    """The looks at a slice whose arbiter lives, as far as the driver tells what its processes use."""
    percents = [occupant.gpu_percent for occupant, _ in group.members]
    known = [each for each in percents if each is not None]
    if group.view.arbiter_epoch is None or len(known) < len(percents):
        return ()
    now = Loan(snapshot.at_ns, group.view.arbiter_epoch, held_ns, sum(known))
    return compute.with_look(history.loans.get(share, ()), now, rules)


def _out_of_turn(group: _Group, loans: tuple[Loan, ...], rules: Rules) -> Iterator[Suspicion]:
    """Its processes for which the card works, if it works for them much longer than it was lent.

    Who may begin without a turn works for a moment of others' turns, too, so that only one that had none is
    suspicious.
    """
    figures = compute.used_and_lent(loans, rules) if loans else None
    if figures is None:
        return
    used, lent = figures
    if used <= lent + rules.compute_slack_percent or (group.view.preempts and lent > 0):
        return
    for occupant, _ in group.members:
        if (occupant.gpu_percent or 0) > 0:
            yield Suspicion(
                kind=Kind.OUT_OF_TURN, occupant=occupant, slice=group.view.path, has=used, may=lent
            )


def _continued(now: Suspicion, history: History, snapshot: Snapshot, rules: Rules) -> Lasting | None:
    """The suspicion together with what earlier looks said of it.

    Of memory that comes and goes, the driver may be asked at the high moments and the account at the low
    ones. So the least that the driver ever said must exceed the most that the account ever said.
    """
    before = history.lasting.get(now.key)
    if before is None:
        since = history.suspect_since(now)
        return Lasting(now, snapshot.at_ns if since is None else since)
    if now.kind is not Kind.UNACCOUNTED:
        return Lasting(now, before.since_ns)
    both = replace(now, has=min(now.has, before.suspicion.has), may=max(now.may, before.suspicion.may))
    if both.has <= both.may + rules.memory_slack_bytes:
        return None
    return Lasting(both, before.since_ns)


def _has_lasted(each: Lasting, snapshot: Snapshot, rules: Rules) -> bool:
    """The window over which compute is averaged is its grace: one more look confirms it."""
    age = snapshot.at_ns - each.since_ns
    return age > 0 if each.suspicion.kind is Kind.OUT_OF_TURN else age >= rules.grace_ns


def _finding(each: Lasting, rules: Rules) -> Finding:
    occupant = each.suspicion.occupant
    action = rules.action_for(each.suspicion.kind, occupant.card, compute=occupant.compute)
    return Finding(suspicion=each.suspicion, since_ns=each.since_ns, action=action)
