"""What a share is on a card."""

from __future__ import annotations

import pytest

from aliquot.catalog import by_key
from aliquot.errors import InvalidValueError
from aliquot.model import UNSTATED, Bytes, ComputeRequest, Device, DeviceKind, Share, percent
from aliquot.node import cards, shares


def device(index: int, name: str) -> Device:
    return Device(
        index=index,
        uuid=f"GPU-{index}",
        name=name,
        kind=DeviceKind.SIMULATED,
        vram=Bytes(2**34),
        vram_used=Bytes(index),
        utilisation=0,
    )


H100, T4 = by_key("h100"), by_key("t4")
CARDS = [device(0, T4.name), device(1, f"{H100.name} (simulated)"), device(2, "NVIDIA Unheard Of")]


def test_tflops_become_a_part_by_the_catalogue() -> None:
    part = shares.part_of(CARDS[1], ComputeRequest(tflops=H100.compute.fp16_tflops / 4))
    assert part == percent(25)
    assert shares.part_of(CARDS[2], ComputeRequest(part=percent(25))) == percent(25)
    assert shares.part_of(CARDS[2], ComputeRequest()) == UNSTATED


def test_a_card_that_is_not_in_the_catalogue_has_no_tflops() -> None:
    with pytest.raises(InvalidValueError) as refused:
        shares.part_of(CARDS[2], ComputeRequest(tflops=1))
    assert "--compute" in refused.value.hint


def test_a_card_is_chosen_that_is_fast_enough() -> None:
    asked = Share(vram=Bytes(1), compute=ComputeRequest(tflops=T4.compute.fp16_tflops + 1))
    assert cards.choose(CARDS, asked).index == 1
    with pytest.raises(InvalidValueError):
        cards.choose(CARDS, asked, "0")
    with pytest.raises(cards.NoDeviceError):
        cards.choose(CARDS, Share(vram=Bytes(1), compute=ComputeRequest(tflops=1e6)))


def test_a_ceiling_is_for_hard_shares_only() -> None:
    assert shares.ceiling(percent(30), hard=True) == percent(30)
    assert shares.ceiling(percent(30), hard=False) == UNSTATED
