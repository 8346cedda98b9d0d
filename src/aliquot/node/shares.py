"""What a share is on a card: TFLOPS become a part of the card by the catalogue's figure for its model."""

from __future__ import annotations

from aliquot.catalog import UnknownModelError, by_product_name
from aliquot.errors import InvalidValueError
from aliquot.limits import Slice
from aliquot.model import UNSTATED, WHOLE_CARD, ComputeRequest, Device, Ppm


def part_of(device: Device, compute: ComputeRequest) -> Ppm:
    """The part of `device` that is asked for; `UNSTATED` where nothing is.

    Raises `InvalidValueError` for more than the card has, and for TFLOPS of a card that is not in the
    catalogue.
    """
    if not compute.tflops:
        return compute.part
    try:
        model = by_product_name(device.name)
    except UnknownModelError as error:
        raise InvalidValueError(
            f"how many TFLOPS {device.name} has is not known", hint="ask for a part of it: --compute 30%"
        ) from error
    return compute.of(model.compute.fp16_tflops)


def fits(device: Device, compute: ComputeRequest) -> bool:
    """Whether the device has so much compute."""
    try:
        part_of(device, compute)
    except InvalidValueError:
        return False
    return True


def asked_of(device: Device, slices: list[Slice] | None = None) -> int:
    """What the slices of a device ask for together, in millionths of it: above `WHOLE_CARD`, each gets less.

    Only those on which programs run count; the rest want nothing.
    """
    total = 0
    for each in Slice.all() if slices is None else slices:
        usage = each.usage()
        if usage.processes:
            total += sum(
                of.limit.compute_request_ppm for of in usage.devices if of.limit.device == device.uuid
            )
    return total


def ceiling(part: Ppm, *, hard: bool) -> Ppm:
    """The most that a slice of that part gets; `UNSTATED` where it may take what others leave."""
    return min(part, WHOLE_CARD) if hard else UNSTATED
