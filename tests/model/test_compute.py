"""How much compute is asked for, as people write it and as a part of a card."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.model import (
    UNSTATED,
    WHOLE_CARD,
    Bytes,
    ComputeRequest,
    Ppm,
    QosLevel,
    Share,
    format_percent,
    parse_percent,
    parse_tflops,
    percent,
)


@pytest.mark.parametrize(
    ("text", "part"),
    [("30%", 300_000), ("12.5 %", 125_000), (" 100% ", 1_000_000), ("0.0001%", 1), ("33.3333%", 333_333)],
)
def test_percent_is_read_exactly(text: str, part: int) -> None:
    assert parse_percent(text) == part


@pytest.mark.parametrize("text", ["30", "0.3", "", "%", "-5%", "0%", "100.1%", "1e1%", "0.00001%", "\uff13%"])
def test_what_is_not_a_part_of_a_card(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_percent(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e300", "fast", ""])
def test_what_is_not_a_speed(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_tflops(text)


@given(st.integers(1, WHOLE_CARD))
def test_parts_survive_being_shown_where_two_digits_suffice(part: int) -> None:
    shown = parse_percent(format_percent(part)) if format_percent(part) != "0%" else 0
    assert abs(shown - part) <= 50  # half of the last digit that is shown


def test_parts_for_people() -> None:
    assert [format_percent(each) for each in (300_000, 125_000, 1_000_000, 3_333)] == [
        "30%",
        "12.5%",
        "100%",
        "0.33%",
    ]
    assert percent(30) == Ppm(300_000)
    for wrong in (-1, 101, float("nan")):
        with pytest.raises(InvalidValueError):
            percent(wrong)


def test_tflops_are_a_different_part_of_each_card() -> None:
    request = ComputeRequest(tflops=20)
    assert request.of(1000) == 20_000
    assert request.of(20) == WHOLE_CARD
    assert ComputeRequest(tflops=1e-6).of(1000) == 1
    with pytest.raises(InvalidValueError):
        request.of(19.9)


@given(st.floats(0.001, 1e4), st.floats(0.001, 1e4))
def test_a_part_is_never_more_than_the_card(asked: float, card: float) -> None:
    try:
        part = ComputeRequest(tflops=asked).of(card)
    except InvalidValueError:
        assert asked > card
    else:
        assert 1 <= part <= WHOLE_CARD
        assert abs(part - asked / card * WHOLE_CARD) <= 1


def test_compute_is_asked_for_once() -> None:
    assert not ComputeRequest().stated
    assert ComputeRequest().of(100) == UNSTATED
    wrongs: tuple[dict[str, Any], ...] = (
        {"part": percent(30), "tflops": 20},
        {"part": Ppm(-1)},
        {"part": Ppm(WHOLE_CARD + 1)},
        {"tflops": float("nan")},
    )
    for wrong in wrongs:
        with pytest.raises(InvalidValueError):
            ComputeRequest(**wrong)


def test_a_hard_share_needs_an_amount() -> None:
    Share(vram=Bytes(1), compute=ComputeRequest(part=percent(30)), hard=True)
    with pytest.raises(InvalidValueError) as refused:
        Share(vram=Bytes(1), hard=True)
    assert "--compute" in refused.value.hint


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "n" * 16}, {"name": "é"}, {"rank": -1}, {"idle_window_ns": -1}]
)
def test_levels_that_make_no_sense(wrong: dict) -> None:
    right = {
        "name": "x",
        "rank": 1,
        "preempts": False,
        "neighbour_in_flight_ns": 0,
        "idle_window_ns": 0,
    }
    QosLevel(**right)
    with pytest.raises(InvalidValueError):
        QosLevel(**{**right, **wrong})
