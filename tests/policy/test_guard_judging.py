"""The comparison of the guard, as the pure function that it is: what it must find, and whom it must not."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.policy.guard import (
    Action,
    CardTerms,
    Claim,
    Exemption,
    FileId,
    Finding,
    History,
    Identity,
    Kind,
    Occupant,
    Rules,
    SliceView,
    Snapshot,
    default_rules,
    judge,
)

CARD, OTHER = "GPU-a", "GPU-b"
MIB, GIB = 1 << 20, 1 << 30
MS, SECOND = 1_000_000, 1_000_000_000
ME = 1000
RULES = default_rules().with_action(Action.STOP)


def process(pid: int = 7, **changes: Any) -> Occupant:
    made = Occupant(
        process=Identity(pid, 50_000 + pid), card=CARD, uid=ME, vram_bytes=GIB, namespace=1, namespace_pid=pid
    )
    return replace(made, **changes)


def claim(of: Occupant, held: int | None = None, opened: int = 0, **changes: Any) -> Claim:
    held = (of.vram_bytes or 0) if held is None else held
    made = Claim(
        pid=of.namespace_pid,
        start_ticks=of.process.start_ticks,
        namespace=of.namespace,
        held={CARD: held},
        opened={CARD: opened},
    )
    return replace(made, **changes)


def slice_(*claims: Claim, limit: int = 4 * GIB, number: int = 1, **changes: Any) -> SliceView:
    made = SliceView(
        path=f"/slices/s{number}",
        account=FileId(9, number),
        account_uid=ME,
        terms={CARD: CardTerms(vram_bytes=limit)},
        claims=claims,
    )
    return replace(made, **changes)


def look(at_ms: int, occupants: Iterable[Occupant], *slices: SliceView, used: int | None = None) -> Snapshot:
    totals = {} if used is None else {CARD: used}
    return Snapshot(at_ns=at_ms * MS, occupants=tuple(occupants), slices=slices, used_bytes=totals)


def watch(looks: Iterable[Snapshot], rules: Rules = RULES) -> list[list[Finding]]:
    """What each look found, one after another."""
    history, found = History(), []
    for each in looks:
        history, findings = judge(history, each, rules)
        found.append(findings)
    return found


def kinds(findings: Sequence[Finding]) -> set[Kind]:
    return {each.suspicion.kind for each in findings}


def every(step_ms: int, until_ms: int) -> range:
    return range(0, until_ms + 1, step_ms)


def test_a_process_of_no_slice_is_found_when_it_has_been_there_for_the_grace() -> None:
    found = watch(look(at, [process()], slice_()) for at in every(400, 2000))
    assert [kinds(each) for each in found] == [set()] * 4 + [{Kind.STRANGER}] * 2
    assert found[-1][0].action is Action.STOP
    assert found[-1][0].since_ns == 0
    assert "belongs to no slice" in found[-1][0].reason


def test_a_member_is_not_found() -> None:
    one = process()
    assert not any(watch(look(at, [one], slice_(claim(one))) for at in every(400, 4000)))


def test_who_comes_and_goes_is_not_found() -> None:
    """Somebody is there at every other look: nobody has been there for the grace."""
    assert not any(
        watch(look(at, [process(10 + at)] if at % 800 else [], slice_()) for at in every(400, 8000))
    )
    # Nor are two users one stranger.
    assert not any(
        watch(look(at, [process(10 + at, uid=ME + at % 800)], slice_()) for at in every(400, 8000))
    )


def test_strangers_of_a_user_who_relieve_each_other_are_found() -> None:
    """None of them is there for the grace, and one of them always is."""
    found = watch(look(at, [process(10 + at)], slice_()) for at in every(400, 2400))
    assert [kinds(each) for each in found] == [set()] * 4 + [{Kind.STRANGER}] * 3
    assert found[-1][0].suspicion.occupant.process.pid == 2410


def test_a_pid_that_is_used_again_is_somebody_else() -> None:
    first = process()
    second = replace(first, process=Identity(first.process.pid, first.process.start_ticks + 1))
    both = slice_(claim(first))
    assert not any(watch(look(at, [first], both) for at in every(400, 4000)))
    assert kinds(watch(look(at, [second], both) for at in every(400, 4000))[-1]) == {Kind.STRANGER}


def test_a_start_time_is_compared_as_far_as_an_account_has_it() -> None:
    late = process(process=Identity(7, (1 << 35) + 5))
    assert not any(watch(look(at, [late], slice_(claim(late, start_ticks=5))) for at in every(400, 4000)))


@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        ({"namespace": 1}, set()),
        ({"namespace": 0}, set()),  # the process could not say
        ({"namespace": 2}, {Kind.STRANGER}),  # somebody of another namespace has that number
        ({"start_ticks": 0}, set()),
        ({"start_ticks": 1}, {Kind.STRANGER}),
    ],
)
def test_a_claim_names_a_process_within_its_namespace(names: dict[str, int], outcome: set[Kind]) -> None:
    one = process()
    found = watch(look(at, [one], slice_(claim(one, **names))) for at in every(400, 2000))
    assert kinds(found[-1]) == outcome


def test_a_container_names_a_process_by_its_own_number() -> None:
    inside = process(4711, namespace=5, namespace_pid=1)
    assert not any(watch(look(at, [inside], slice_(claim(inside))) for at in every(400, 4000)))


def test_nobody_has_others_judged_by_what_he_writes() -> None:
    """Somebody names another one's process in his account, with nothing held: it stays what it was."""
    victim = process(uid=2000)
    own = slice_(claim(victim), account_uid=2000, number=2)
    false = slice_(claim(victim, held=0), account_uid=ME)
    assert not any(watch(look(at, [victim], false, own) for at in every(400, 4000)))
    assert kinds(watch(look(at, [victim], false) for at in every(400, 2000))[-1]) == {Kind.STRANGER}


def test_of_several_claims_that_of_the_account_counts_which_the_process_has_mapped() -> None:
    one = process(accounts=frozenset({FileId(9, 2)}))
    lying, true = slice_(claim(one, held=0)), slice_(claim(one), number=2)
    for order in ((lying, true), (true, lying)):
        assert not any(watch(look(at, [one], *order) for at in every(400, 4000)))


def test_a_process_on_a_card_that_its_slice_does_not_have() -> None:
    one = process(card=OTHER)
    found = watch(look(at, [one], slice_(claim(one))) for at in every(400, 2000))
    assert kinds(found[-1]) == {Kind.WRONG_CARD}


def test_slices_of_another_version_have_their_processes_left_alone() -> None:
    theirs = slice_(number=3, judged=False, terms={})
    one = process(accounts=frozenset({theirs.account}))
    assert not any(watch(look(at, [one], theirs) for at in every(400, 4000)))
    assert watch(look(at, [process()], theirs) for at in every(400, 4000))[-1]


def test_who_is_exempt_is_not_found() -> None:
    rules = replace(RULES, exempt=(Exemption(program="/usr/bin/shown", uid=0), Exemption(uid=33)))
    outcomes = {
        process(uid=0, runs=frozenset({"/usr/bin/shown"})): False,
        process(uid=33): False,
        process(uid=ME, runs=frozenset({"/usr/bin/shown"})): True,  # anybody may run it, and preload into it
        process(uid=0, program="/usr/bin/shown"): True,  # only called so
    }
    for each, expected in outcomes.items():
        assert bool(watch((look(at, [each]) for at in every(400, 2000)), rules)[-1]) is expected, each
    own = replace(RULES, only_uid=ME)
    assert not watch((look(at, [process(uid=0)]) for at in every(400, 2000)), own)[-1]
    assert watch((look(at, [process()]) for at in every(400, 2000)), own)[-1]


def test_who_holds_more_than_the_account_says() -> None:
    one = process()
    slack = RULES.memory_slack_bytes
    for said, outcome in (
        (GIB - slack, set()),
        (GIB - slack - 1, {Kind.UNACCOUNTED}),
        (0, {Kind.UNACCOUNTED}),
    ):
        found = watch(look(at, [one], slice_(claim(one, held=said))) for at in every(400, 2000))
        assert kinds(found[-1]) == outcome, said


def test_an_unknown_figure_accuses_nobody() -> None:
    one = process(vram_bytes=None)
    assert not any(watch(look(at, [one], slice_(claim(one, held=0), limit=0)) for at in every(400, 4000)))


def test_memory_that_comes_and_goes_is_not_unaccounted() -> None:
    """The driver is always asked at a high moment, the account mostly at a low one."""
    one = process()
    low, high = slice_(claim(one, held=0)), slice_(claim(one))
    looks = [look(at, [one], high if at % 1200 == 0 else low) for at in every(400, 12_000)]
    assert not any(watch(looks))


def test_from_one_wrong_to_another_is_no_new_beginning() -> None:
    """In and out of the account at every look, with nothing held."""
    one = process()
    looks = [look(at, [one], slice_(claim(one, held=0)) if at % 800 else slice_()) for at in every(400, 2000)]
    assert any(watch(looks)[-1])


def test_others_memory_that_is_open_is_not_unaccounted() -> None:
    one = process(vram_bytes=3 * GIB)
    assert not any(watch(look(at, [one], slice_(claim(one, GIB, 2 * GIB))) for at in every(400, 4000)))


def test_who_claims_everything_is_found_at_the_limit() -> None:
    """He writes into the account what he holds, and it is more than the slice may."""
    liar, honest = process(7, vram_bytes=6 * GIB), process(8, vram_bytes=GIB)
    found = watch(look(at, [liar, honest], slice_(claim(liar), claim(honest))) for at in every(400, 2000))
    assert [(each.suspicion.kind, each.suspicion.occupant.process.pid) for each in found[-1]] == [
        (Kind.OVER_LIMIT, 7)
    ]


def test_memory_that_the_driver_counts_twice_is_no_excess() -> None:
    maker, opener = process(7, vram_bytes=3 * GIB), process(8, vram_bytes=3 * GIB)
    view = slice_(claim(maker), claim(opener, 0, 3 * GIB))
    assert not any(watch(look(at, [maker, opener], view, used=3 * GIB) for at in every(400, 4000)))
    # The card itself says that nothing was counted twice: then it is a lie.
    found = watch(look(at, [maker, opener], view, used=6 * GIB) for at in every(400, 2000))
    assert kinds(found[-1]) == {Kind.OVER_LIMIT}


def test_a_lowered_limit_takes_nothing_away() -> None:
    one = process(vram_bytes=3 * GIB)
    before = slice_(claim(one))
    after = slice_(claim(one), limit=GIB, generation=2)
    looks = [look(0, [one], before)] + [look(at, [one], after) for at in range(400, 6000, 400)]
    assert not any(watch(looks))
    # What is freed does not come back.
    less = replace(one, vram_bytes=2 * GIB)
    looks += [look(6000, [less], slice_(claim(less), limit=GIB, generation=2))]
    looks += [look(at, [one], after) for at in range(6400, 9000, 400)]
    assert kinds(watch(looks)[-1]) == {Kind.OVER_LIMIT}


def test_a_slice_that_was_lowered_before_the_first_look_is_not_accused() -> None:
    one = process(vram_bytes=3 * GIB)
    lowered = slice_(claim(one), limit=GIB, generation=2)
    assert not any(watch(look(at, [one], lowered) for at in every(400, 4000)))
    never = replace(lowered, generation=1)
    assert kinds(watch(look(at, [one], never) for at in every(400, 2000))[-1]) == {Kind.OVER_LIMIT}


@dataclass(frozen=True)
class Use:
    """How a slice uses a card: percent by the driver, percent lent."""

    used: int
    lent: int


def using(use: Use, until_ms: int = 6000, step_ms: int = 400, **changes: Any) -> list[list[Finding]]:
    looks: list[Snapshot] = []
    for at in every(step_ms, until_ms):
        one = process(gpu_percent=use.used if at > 1000 else 0)
        terms = {CARD: CardTerms(vram_bytes=4 * GIB, held_ns=max(0, at - 1000) * MS * use.lent // 100)}
        looks.append(look(at, [one], slice_(claim(one), **{"terms": terms, "arbiter_epoch": 1, **changes})))
    return watch(looks)


@pytest.mark.parametrize("use", [Use(100, 0), Use(60, 20), Use(30, 0)])
def test_work_out_of_turn_is_found_and_by_default_only_reported(use: Use) -> None:
    found = using(use)
    assert kinds(found[-1]) == {Kind.OUT_OF_TURN}
    assert found[-1][0].action is Action.REPORT
    assert (found[-1][0].suspicion.has, found[-1][0].suspicion.may) == (use.used, use.lent)


@pytest.mark.parametrize("use", [Use(100, 100), Use(30, 30), Use(0, 0), Use(20, 0), Use(50, 100)])
def test_work_in_turn_is_not_found(use: Use) -> None:
    assert not any(using(use))


def test_without_an_arbiter_there_are_no_turns() -> None:
    assert not any(using(Use(100, 0), arbiter_epoch=None))


def test_who_may_begin_without_a_turn_is_found_only_without_any() -> None:
    assert not any(using(Use(80, 20), preempts=True))
    assert using(Use(80, 0), preempts=True)[-1]


def test_figures_of_two_arbiters_are_not_compared() -> None:
    looks: list[Snapshot] = []
    for number, at in enumerate(every(400, 8000)):
        one = process(gpu_percent=100)
        view = slice_(claim(one), terms={CARD: CardTerms(vram_bytes=4 * GIB)}, arbiter_epoch=number // 5)
        looks.append(look(at, [one], view))
    assert not any(watch(looks))


def test_out_of_turn_is_found_within_five_seconds_of_the_first_look() -> None:
    found = using(Use(100, 0), until_ms=5000)
    assert found[-1]


# Everything honest: who is on a card is in his slice's account with at least what he holds, slices hold what
# they may, and the card works for them while it is lent to them. Looks come when they like.

sizes = st.integers(0, 4 * GIB)


@st.composite
def honest_looks(draw: st.DrawFn) -> list[Snapshot]:
    looks: list[Snapshot] = []
    at, held_ns = 0, 0
    limit = draw(st.integers(0, 8 * GIB))
    generation, allowed = 1, limit
    for _ in range(draw(st.integers(2, 14))):
        step = draw(st.integers(50, 1500))
        lent = draw(st.integers(0, step))
        at, held_ns = at + step, held_ns + lent * MS
        if draw(st.integers(0, 9)) == 0:
            limit, generation = draw(st.integers(0, 8 * GIB)), generation + 1
        occupants, claims, held = [], [], 0
        allowed = max(limit, allowed)
        for pid in draw(st.sets(st.integers(1, 6))):
            most = allowed - held
            charged = draw(st.integers(0, most))
            held += charged
            one = process(pid, vram_bytes=draw(st.integers(0, charged + RULES.memory_slack_bytes // 8)))
            occupants.append(one)
            claims.append(claim(one, held=charged))
        allowed = max(limit, min(allowed, sum(each.vram_bytes or 0 for each in occupants)))
        terms = {CARD: CardTerms(vram_bytes=limit, held_ns=held_ns)}
        view = slice_(*claims, terms=terms, generation=generation, arbiter_epoch=1)
        looks.append(look(at, occupants, view))
    return looks


@given(honest_looks())
@settings(max_examples=80, deadline=None)
def test_the_honest_are_never_found(looks: list[Snapshot]) -> None:
    assert not any(watch(looks))


@given(honest_looks(), st.integers(0, 13))
@settings(max_examples=60, deadline=None)
def test_a_stranger_among_the_honest_is_found_and_nobody_else(looks: list[Snapshot], first: int) -> None:
    stranger = process(99, vram_bytes=None)
    looks = [
        replace(each, occupants=(*each.occupants, stranger)) if number >= first else each
        for number, each in enumerate(looks)
    ]
    seen = [each.at_ns for each in looks[first:]]
    found = watch(looks)
    for each, findings in zip(looks, found, strict=True):
        expected = bool(seen) and each.at_ns - seen[0] >= RULES.grace_ns
        assert {one.suspicion.occupant.process.pid for one in findings} == ({99} if expected else set())


# Anything at all: no snapshot, however false, makes it fail.


def anything(dice: random.Random, at_ns: int) -> Snapshot:
    """Few names and numbers, so that much of it fits together by accident."""

    def few() -> int:
        return dice.randrange(4)

    def sizes_of_cards() -> dict[str, int]:
        return {card: dice.choice((0, 1, MIB, GIB, 2**63, 2**64)) for card in (CARD, OTHER) if few()}

    def some_claim() -> Claim:
        return Claim(
            pid=few(), start_ticks=few(), namespace=few(), held=sizes_of_cards(), opened=sizes_of_cards()
        )

    def some_occupant() -> Occupant:
        return Occupant(
            process=Identity(few(), few()),
            card=dice.choice((CARD, OTHER)),
            uid=few(),
            vram_bytes=dice.choice((None, 0, GIB, 2**64)),
            compute=bool(few()),
            gpu_percent=dice.choice((None, 0, 50, 100)),
            namespace=few(),
            namespace_pid=few(),
            accounts=frozenset(FileId(few(), few()) for _ in range(few())),
        )

    def some_slice() -> SliceView:
        return SliceView(
            path="/s/x",
            account=FileId(few(), few()),
            account_uid=few(),
            judged=bool(few()),
            terms={
                card: CardTerms(vram_bytes=size, held_ns=dice.randrange(2**63))
                for card, size in sizes_of_cards().items()
            },
            generation=few(),
            preempts=not few(),
            arbiter_epoch=dice.choice((None, 1, 1, 2)),
            claims=tuple(some_claim() for _ in range(few())),
        )

    return Snapshot(
        at_ns=at_ns,
        occupants=tuple(some_occupant() for _ in range(dice.randrange(6))),
        slices=tuple(some_slice() for _ in range(few())),
        used_bytes=sizes_of_cards(),
    )


@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_whatever_is_seen_it_says_only_of_those_who_are_there(seed: int) -> None:
    dice = random.Random(seed)
    looks = [anything(dice, at * 400 * MS) for at in range(12)]
    for each, findings in zip(looks, watch(looks), strict=True):
        there = {(one.process, one.card) for one in each.occupants}
        for finding in findings:
            assert (finding.suspicion.occupant.process, finding.suspicion.occupant.card) in there
            assert finding.since_ns <= each.at_ns
            assert finding.reason
