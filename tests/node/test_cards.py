"""Which card a program gets, on machines with, without and with broken hardware."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.model import Bytes, Device, DeviceKind, Share
from aliquot.node import cards
from aliquot.vendors import nvidia, nvml

GIB = 1 << 30


def device(index: int, vram: int = 80 * GIB, used: int = 0, kind: DeviceKind = DeviceKind.REAL) -> Device:
    return Device(
        index=index,
        uuid=f"GPU-{index}",
        name=f"card {index}",
        kind=kind,
        vram=Bytes(vram),
        vram_used=Bytes(used),
        utilisation=0,
    )


SIMULATED = device(0, kind=DeviceKind.SIMULATED)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "find_simulated_cards", lambda: [SIMULATED])


def have(monkeypatch: pytest.MonkeyPatch, found: nvidia.RealCards) -> None:
    monkeypatch.setattr(nvidia, "find_real_cards", lambda: found)


@pytest.mark.usefixtures("simulated")
def test_a_real_card_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, nvidia.RealCards(devices=[device(0)], on_bus=["0000:01:00.0"], driver="580.0"))
    assert cards.available_cards() == cards.Cards(devices=[device(0)], reason="")
    assert cards.available_cards(simulate=True).devices == [SIMULATED]


@pytest.mark.usefixtures("simulated")
def test_without_hardware_the_cards_are_simulated_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, nvidia.RealCards())
    available = cards.available_cards()
    assert available.devices == [SIMULATED]
    assert "no GPU" in available.reason


@pytest.mark.usefixtures("simulated")
def test_a_broken_driver_is_an_error_unless_simulation_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, nvidia.RealCards(on_bus=["0000:3b:00.0"], fault="nvmlInit_v2 failed: driver/library"))
    with pytest.raises(cards.DriverFailedError) as caught:
        cards.available_cards()
    assert "0000:3b:00.0" in caught.value.reason
    assert "--simulate" in caught.value.hint
    assert cards.available_cards(simulate=True).devices == [SIMULATED]


def test_the_emptiest_card_that_is_large_enough_is_chosen() -> None:
    devices = [device(0, 16 * GIB), device(1, 80 * GIB, 70 * GIB), device(2, 80 * GIB, 20 * GIB)]
    assert cards.choose(devices, Share(vram=Bytes(2 * GIB))).index == 2
    assert cards.choose(devices, Share(vram=Bytes(2 * GIB)), "1").index == 1
    assert cards.choose(devices, Share(vram=Bytes(2 * GIB)), "GPU-0").index == 0


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(cards.NoDeviceError, match="no card has 100 GiB"):
        cards.choose([device(0)], Share(vram=Bytes(100 * GIB)))
    with pytest.raises(InvalidValueError, match="no device 7"):
        cards.choose([device(0)], Share(vram=Bytes(GIB)), "7")
    with pytest.raises(InvalidValueError, match="was asked for"):
        cards.choose([device(0)], Share(vram=Bytes(100 * GIB)), "0")


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 120)), max_size=6), st.integers(1, 120))
def test_a_chosen_card_always_fits_and_none_fitting_is_emptier(
    sizes: list[tuple[int, int]], wanted: int
) -> None:
    devices = [device(index, vram, used) for index, (vram, used) in enumerate(sizes)]
    fitting = [each for each in devices if each.vram >= wanted]
    if not fitting:
        with pytest.raises(cards.NoDeviceError):
            cards.choose(devices, Share(vram=Bytes(wanted)))
        return
    chosen = cards.choose(devices, Share(vram=Bytes(wanted)))
    assert chosen in fitting
    assert chosen.vram_free == max(each.vram_free for each in fitting)


def add_to_bus(bus: Path, address: str, vendor: str, device_class: str) -> None:
    entry = bus / address
    entry.mkdir(parents=True)
    (entry / "vendor").write_text(f"{vendor}\n")
    (entry / "class").write_text(f"{device_class}\n")


def test_only_display_devices_of_the_vendor_count_as_cards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "_NVML", str(tmp_path / "no-such-library.so"))
    add_to_bus(tmp_path, "0000:3b:00.0", "0x10de", "0x030200")
    add_to_bus(tmp_path, "0000:3b:00.1", "0x10de", "0x040300")  # the card's sound device
    add_to_bus(tmp_path, "0000:00:02.0", "0x8086", "0x030000")
    add_to_bus(tmp_path, "0000:af:00.0", "0x10de", "0x030000")
    add_to_bus(tmp_path, "0000:ff:00.0", "garbage", "0x030000")
    found = nvidia.find_real_cards(bus=tmp_path)
    assert found.on_bus == ["0000:3b:00.0", "0000:af:00.0"]
    assert found.devices == []
    assert "no-such-library.so" in found.fault


def test_a_machine_without_bus_or_library_has_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "_NVML", str(tmp_path / "no-such-library.so"))
    assert nvidia.find_real_cards(bus=tmp_path / "none") == nvidia.RealCards()


def test_a_library_without_the_functions_is_a_typed_error() -> None:
    with pytest.raises(nvml.NvmlError, match="cannot be used"), nvml.opened("libc.so.6"):
        pass
