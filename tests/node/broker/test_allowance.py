"""Who may have what: nobody's memory or time is promised twice, whatever is asked for."""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.catalog import qos_level
from aliquot.errors import AliquotError, InvalidValueError
from aliquot.limits import SliceAccessError
from aliquot.model import WHOLE_CARD, Bytes, Device, DeviceKind, Ppm
from aliquot.node.broker.allowance import (
    Allowance,
    Given,
    check_changeable,
    check_count,
    check_qos,
    check_room,
    check_whose,
)
from aliquot.node.broker.wire import AllowanceExceededError

GIB = 2**30
CARDS = [
    Device(
        index=number,
        uuid=f"GPU-{number}",
        name="card",
        kind=DeviceKind.SIMULATED,
        vram=Bytes(16 * GIB),
        vram_used=Bytes(0),
        utilisation=0,
    )
    for number in range(2)
]
HALF = Allowance(vram=Ppm(500_000), compute=Ppm(400_000), slices=3)
asked = st.tuples(
    st.integers(1, 4),
    st.integers(0, 1),
    st.integers(1, 20 * GIB),
    st.integers(0, WHOLE_CARD),
)


def given_to(owner: int, gib: int, compute: int = 0, card: int = 0, *, fixed: bool = False) -> Given:
    return Given(owner=owner, device=CARDS[card].uuid, vram_bytes=gib * GIB, compute=compute, fixed=fixed)


@given(st.lists(asked, max_size=30))
def test_no_promise_is_made_twice(wishes: list[tuple[int, int, int, int]]) -> None:
    held: list[Given] = []
    for owner, card, vram, compute in wishes:
        wanted = Given(owner=owner, device=CARDS[card].uuid, vram_bytes=vram, compute=compute)
        with suppress(AliquotError):
            check_count(owner, owner, held, HALF)
            check_room(owner, wanted, CARDS[card], held, HALF)
            held.append(wanted)
    for card in CARDS:
        here = sorted((each for each in held if each.device == card.uuid), key=lambda each: each.owner)
        assert sum(each.vram_bytes for each in here) <= card.vram
        assert sum(each.compute for each in here) <= WHOLE_CARD
        for _, group in groupby(here, key=lambda each: each.owner):
            mine = list(group)
            assert sum(each.vram_bytes for each in mine) <= card.vram // 2
            assert sum(each.compute for each in mine) <= 400_000
    assert all(sum(each.owner == owner for each in held) <= 3 for owner in range(1, 5))


def test_what_fits_is_given() -> None:
    held = [given_to(1, 8, 400_000), given_to(2, 4, 400_000)]
    check_room(2, given_to(2, 4, 0), CARDS[0], held, HALF)
    check_room(3, given_to(3, 4, 200_000), CARDS[0], held, HALF)
    check_room(1, given_to(1, 8, 400_000, card=1), CARDS[1], held, HALF)
    for wanted in (given_to(2, 5, 0), given_to(2, 1, 1), given_to(3, 5, 0), given_to(3, 1, 200_001)):
        with pytest.raises(AllowanceExceededError) as refused:
            check_room(wanted.owner, wanted, CARDS[0], held, HALF)
        assert "left" in refused.value.reason


def test_what_root_made_counts_for_the_card_and_not_for_the_person() -> None:
    held = [given_to(1, 12, fixed=True)]
    check_room(1, given_to(1, 4), CARDS[0], held, HALF)
    check_count(1, 1, held * 3, HALF)
    with pytest.raises(AllowanceExceededError):
        check_room(2, given_to(2, 5), CARDS[0], held, HALF)
    with pytest.raises(AllowanceExceededError):
        check_count(1, 1, [given_to(1, 1)] * 3, HALF)


def test_root_may_promise_more_than_there_is_but_not_more_than_a_card() -> None:
    held = [given_to(1, 16, WHOLE_CARD)] * 5
    check_room(0, given_to(1, 16, WHOLE_CARD), CARDS[0], held, HALF)
    check_count(0, 1, held, HALF)
    check_qos(0, qos_level("critical"), HALF)
    with pytest.raises(InvalidValueError):
        check_room(0, given_to(1, 17), CARDS[0], held, HALF)


def test_whose_and_who() -> None:
    for asker, owner in ((0, 5), (5, 5), (0, 0)):
        check_whose(asker, owner)
    for asker, owner in ((5, 6), (5, 0)):
        with pytest.raises(SliceAccessError):
            check_whose(asker, owner)
    check_changeable(5, fixed=False)
    check_changeable(0, fixed=True)
    with pytest.raises(SliceAccessError):
        check_changeable(5, fixed=True)
    check_qos(5, qos_level("high"), HALF)
    with pytest.raises(AllowanceExceededError):
        check_qos(5, qos_level("critical"), HALF)


@pytest.mark.parametrize("values", [{"vram": 0}, {"vram": WHOLE_CARD + 1}, {"compute": -1}, {"slices": -1}])
def test_allowances_that_cannot_be(values: dict[str, int]) -> None:
    with pytest.raises(InvalidValueError):
        Allowance(**values)  # type: ignore[arg-type]
