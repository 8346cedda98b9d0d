"""Devices in one line, as people write them: `H100:2`, `A100,H100:80GB`, `24GB..:2`, `20TFLOPS`, `30%`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from aliquot.errors import InvalidValueError
from aliquot.model.compute import ComputeRequest, parse_percent, parse_tflops
from aliquot.model.constraints import CardMemory
from aliquot.model.quantities import MIB, parse_bytes

_SIZE: Final = r"[0-9]+(?:\.[0-9]+)?\s*[kmgt]i?b?"
_RANGE: Final = re.compile(rf"(?P<least>{_SIZE})?(?P<dots>\.\.)?(?P<most>{_SIZE})?", re.I)
_TFLOPS: Final = re.compile(r"(?P<number>[0-9.]+)\s*tflops", re.I)
_NAME: Final = re.compile(r"[a-z][a-z0-9. _/-]*", re.I)
_EXAMPLES: Final = "examples: H100:2, A100,H100:80GB, 24GB..:2, nvidia:20TFLOPS, l4:30%"
_MOST_OVER_NAME: Final = 1.08
"""A card sold as "80 GB" reports between 80 * 10^9 bytes and this much more: vendors mean 2^30 by GB and then
take some for error correction and firmware. Over the catalogue the ratio is 1.006 (A10) to 1.074 (A100)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpecification:
    """What one line says. Names are as written: vendors and models are told apart by who knows them."""

    names: tuple[str, ...] = ()
    count: int = 1
    card_memory: CardMemory = CardMemory()
    """Of the card itself, not of the share."""
    compute: ComputeRequest = ComputeRequest()


def parse_device_specification(text: str) -> DeviceSpecification:
    """Reads parts that are separated by colons, in any order.

    A whole number is how many devices; names (several separated by commas, the preferred first) are models or
    vendors; a size is that of the card: `80GB` a card of that size, `24GB..` at least, `16GB..24GB` between;
    `20TFLOPS` and `30%` are the part of each card. Raises `InvalidValueError`.
    """
    found = DeviceSpecification()
    seen: set[str] = set()
    for part in (each.strip() for each in text.split(":")):
        kind, found = _with_part(found, part, text)
        if kind in seen and kind != "names":
            raise _unclear(text, f"it says the {kind} twice")
        seen.add(kind)
    return found


def _with_part(found: DeviceSpecification, part: str, text: str) -> tuple[str, DeviceSpecification]:
    if part.isdecimal():
        return "number of devices", replace(found, count=int(part))
    if part.endswith("%"):
        return "compute", replace(found, compute=ComputeRequest(part=parse_percent(part)))
    if match := _TFLOPS.fullmatch(part):
        return "compute", replace(found, compute=ComputeRequest(tflops=parse_tflops(match["number"])))
    if (size := _RANGE.fullmatch(part)) and (size["least"] or size["most"]):
        return "size of the card", replace(found, card_memory=_card_memory(size))
    names = tuple(each.strip() for each in part.split(","))
    if all(_NAME.fullmatch(name) for name in names):
        return "names", replace(found, names=found.names + names)
    raise _unclear(text, f"{part!r} is neither a name, a number, a size, TFLOPS nor a percentage")


def _card_memory(match: re.Match[str]) -> CardMemory:
    """Sizes are meant as sold, `80GB` and `80Gi` alike; see `_MOST_OVER_NAME`."""
    least, most = (_decimal(match[end]) if match[end] else 0 for end in ("least", "most"))
    if not match["dots"]:
        most = least
    return CardMemory(at_least_mib=least // MIB, at_most_mib=int(most * _MOST_OVER_NAME) // MIB)


def _decimal(size: str) -> int:
    return parse_bytes(size.lower().replace("i", ""))


def _unclear(text: str, why: str) -> InvalidValueError:
    return InvalidValueError(f"{text!r} does not describe devices: {why}", hint=_EXAMPLES)
