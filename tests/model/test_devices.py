from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.model import Bytes, Device, DeviceKind, Share


def make_device(vram: int = 80 << 30, used: int = 0, utilisation: int = 0) -> Device:
    return Device(
        index=0,
        uuid="GPU-00000000-0000-0000-0000-000000000001",
        name="NVIDIA H100 (simulated)",
        kind=DeviceKind.SIMULATED,
        vram=Bytes(vram),
        vram_used=Bytes(used),
        utilisation=utilisation,
    )


@given(st.integers(1, 2**48), st.integers(0, 2**48))
def test_free_memory_is_never_negative_nor_more_than_there_is(vram: int, used: int) -> None:
    free = make_device(vram, used).vram_free
    assert 0 <= free <= vram
    assert used > vram or free + used == vram


@pytest.mark.parametrize(("vram", "used", "utilisation"), [(0, 0, 0), (1, -1, 0), (1, 0, 101), (1, 0, -1)])
def test_impossible_devices_are_refused(vram: int, used: int, utilisation: int) -> None:
    with pytest.raises(InvalidValueError):
        make_device(vram, used, utilisation)


@given(st.integers(1, 2**40), st.integers(1, 2**40))
def test_a_share_fits_exactly_up_to_the_whole_device(share: int, vram: int) -> None:
    device = make_device(vram)
    if share <= vram:
        Share(vram=Bytes(share)).check_fits(device)
    else:
        with pytest.raises(InvalidValueError, match="was asked for"):
            Share(vram=Bytes(share)).check_fits(device)


@pytest.mark.parametrize("vram", [0, -1])
def test_a_share_of_nothing_is_refused(vram: int) -> None:
    with pytest.raises(InvalidValueError, match="share of no memory"):
        Share(vram=Bytes(vram))
