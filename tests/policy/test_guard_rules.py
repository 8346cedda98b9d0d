"""The rules of the guard: what ships with it, what a file may say, and what it may not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.policy.guard import Action, Kind, default_rules, parse_rules
from aliquot.policy.guard.rules import Rules

CARD, OTHER = "GPU-a", "GPU-b"


def test_found_and_stopped_within_five_seconds() -> None:
    rules = default_rules()
    found = 2 * rules.interval_ns + rules.grace_ns
    assert found + rules.kill_after_ns + rules.interval_ns < 5_000_000_000
    # Compute has a window in the place of the grace, and a second before it.
    assert 1_000_000_000 + rules.compute_window_ns + 2 * rules.interval_ns < 5_000_000_000


def test_by_default_nobody_is_stopped() -> None:
    rules = default_rules()
    assert {rules.action_for(kind, CARD, compute=True) for kind in Kind} == {Action.REPORT}


def test_stopping_leaves_desktops_and_long_kernels_alone() -> None:
    rules = default_rules().with_action(Action.STOP)
    assert rules.action_for(Kind.STRANGER, CARD, compute=True) is Action.STOP
    assert rules.action_for(Kind.OVER_LIMIT, CARD, compute=True) is Action.STOP
    assert rules.action_for(Kind.STRANGER, CARD, compute=False) is Action.REPORT
    assert rules.action_for(Kind.OUT_OF_TURN, CARD, compute=True) is Action.REPORT


def test_a_card_may_have_an_action_of_its_own() -> None:
    rules = parse_rules(f'[[device]]\nuuid = "{CARD}"\naction = "stop"')
    assert rules.action_for(Kind.STRANGER, CARD, compute=True) is Action.STOP
    assert rules.action_for(Kind.STRANGER, OTHER, compute=True) is Action.REPORT
    spared = parse_rules(f'action = "stop"\n[[device]]\nuuid = "{CARD}"\naction = "report"')
    assert spared.with_action(Action.STOP).action_for(Kind.STRANGER, CARD, compute=True) is Action.REPORT


def test_a_kind_may_have_an_action_of_its_own() -> None:
    rules = parse_rules('[kinds]\nover-limit = "stop"\nout-of-turn = "stop"\ndrawing = "stop"')
    assert rules.action_for(Kind.OVER_LIMIT, CARD, compute=False) is Action.STOP
    assert rules.action_for(Kind.OUT_OF_TURN, CARD, compute=True) is Action.STOP
    assert rules.action_for(Kind.STRANGER, CARD, compute=True) is Action.REPORT


def test_own_rules_come_in_addition() -> None:
    rules = parse_rules(
        'grace_ms = 100\nhomes = ["/srv/slices"]\n[[exempt]]\nuid = 42\n[slack]\nmemory_bytes = 0'
    )
    assert rules.grace_ns == 100_000_000
    assert rules.homes == ("/srv/slices",)
    assert rules.interval_ns == default_rules().interval_ns
    assert len(rules.exempt) == len(default_rules().exempt) + 1
    assert (rules.memory_slack_bytes, rules.compute_slack_percent) == (
        0,
        default_rules().compute_slack_percent,
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("no toml", "TOML"),
        ("grace = 1", "'grace'"),
        ("grace_ms = -1", "grace_ms"),
        ("grace_ms = true", "grace_ms"),
        ("interval_ms = 0", "interval_ms"),
        ('action = "kill"', "report or stop"),
        ("action = []", "action"),
        ('kinds = "stop"', "kinds"),
        ('[kinds]\nghost = "stop"', "'ghost'"),
        ("[slack]\ncompute_percent = 0", "compute_percent"),
        ("exempt = 1", "exempt"),
        ("exempt = [1]", "exempt"),
        ("[[exempt]]", "everybody"),
        ('[[exempt]]\nprogram = "Xorg"', "absolute"),
        ("[[exempt]]\nname = 'x'", "'name'"),
        ("[[device]]\naction = 'stop'", "names it"),
        ("[[device]]\nuuid = 'GPU-a'", "GPU-a"),
        ('homes = ["here"]', "absolute"),
    ],
)
def test_what_makes_no_sense_is_said(text: str, word: str) -> None:
    with pytest.raises(InvalidValueError, match=word):
        parse_rules(text)


@given(st.text(max_size=200))
def test_any_text_gives_rules_or_a_reason(text: str) -> None:
    with suppress(InvalidValueError):
        assert isinstance(parse_rules(text), Rules)
