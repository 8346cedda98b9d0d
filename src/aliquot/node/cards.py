"""Which card a program gets on this machine: a real one that works, or a simulated one.

A simulated card never takes the place of a broken one silently: a card on the bus whose driver fails is an
error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aliquot.errors import AliquotError, InvalidValueError, UnavailableError
from aliquot.model import Device, Share, format_bytes
from aliquot.node import shares
from aliquot.vendors import nvidia


class DriverFailedError(UnavailableError):
    """A GPU is on the bus, and its driver cannot be used."""

    code = "driver-failed"


class NoDeviceError(UnavailableError):
    """There is no card that fits what was asked for."""

    code = "no-device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """The cards that programs get on this machine, and why these."""

    devices: Sequence[Device]
    reason: str
    """One sentence for the person where the cards are simulated; empty where they are real."""


def available_cards(*, simulate: bool = False) -> Cards:
    """The machine's cards; the simulated machine's where it has none, or where `simulate` asks for them.

    Raises `DriverFailedError` for a card whose driver fails, and what the simulated GPU's discovery raises.
    """
    if simulate:
        return Cards(devices=nvidia.find_simulated_cards(), reason="simulated cards, as asked for")
    real = nvidia.find_real_cards()
    if real.fault:
        raise DriverFailedError(
            f"a GPU is on the bus ({', '.join(real.on_bus)}), and its driver fails: {real.fault}",
            hint="repair the driver (nvidia-smi should list the card), or use a simulated card: --simulate",
        )
    if real.devices:
        return Cards(devices=real.devices, reason="")
    return Cards(
        devices=nvidia.find_simulated_cards(), reason="this machine has no GPU: using a simulated one"
    )


def choose(devices: Sequence[Device], share: Share, wanted: str | None = None) -> Device:
    """The card for a share: the one that `wanted` names by number or UUID, or the emptiest on which it fits.

    What others have taken for the moment does not rule a card out: shares may overlap in time.
    Raises `InvalidValueError` and `NoDeviceError`.
    """
    if wanted is not None:
        device = _named(devices, wanted)
        share.check_fits(device)
        shares.part_of(device, share.compute)
        return device
    large = [device for device in devices if device.vram >= share.vram]
    if not large:
        raise NoDeviceError(f"no card has {format_bytes(share.vram)} of memory: {_listed(devices)}")
    fitting = [device for device in large if shares.fits(device, share.compute)]
    if not fitting:
        raise NoDeviceError(
            f"no card is known to have {share.compute.tflops:g} TFLOPS (fp16, dense): {_listed(devices)}",
            hint="ask for less, or for a part of a card: --compute 30%",
        )
    return max(fitting, key=lambda device: (device.vram_free, -device.index))


def find(uuid: str) -> Device | None:
    """The card of this machine, real or simulated, that has a UUID; None where there is none."""
    try:
        devices = [*nvidia.find_real_cards().devices, *nvidia.find_simulated_cards()]
    except AliquotError:
        return None
    return next((device for device in devices if device.uuid == uuid), None)


def _named(devices: Sequence[Device], wanted: str) -> Device:
    for device in devices:
        if wanted in (str(device.index), device.uuid):
            return device
    raise InvalidValueError(f"there is no device {wanted}", hint=f"there are: {_listed(devices)}")


def _listed(devices: Sequence[Device]) -> str:
    return ", ".join(f"{each.index} ({each.name}, {format_bytes(each.vram)})" for each in devices) or "none"
