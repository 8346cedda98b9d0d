"""Amounts that people write and read: `2Gi`, `512MiB`, `1.5GB`, `812 ms`.

Binary prefixes (Ki, Mi, ...) are powers of 1024 and decimal ones (K, M, ...) powers of 1000, as IEC 80000-13
has them and Kubernetes reads them. A trailing `B` changes nothing; a bare number is bytes.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, NewType

from aliquot.errors import InvalidValueError

Bytes = NewType("Bytes", int)
"""A size in bytes, never negative."""

Ppm = NewType("Ppm", int)
"""A part of one card's compute, in millionths of the whole card: `WHOLE_CARD` is all of it."""

WHOLE_CARD: Final = Ppm(1_000_000)
UNSTATED: Final = Ppm(0)
"""No part was asked for; as a ceiling, there is none."""

MIB: Final = 1 << 20

MAXIMUM_BYTES: Final = 2**63 - 1
"""The largest size that fits the driver's signed 64-bit fields."""

_FACTORS: Final[dict[str, int]] = {
    "": 1,
    **{prefix: 1000**power for power, prefix in enumerate("kmgtpe", start=1)},
    **{f"{prefix}i": 1024**power for power, prefix in enumerate("kmgtpe", start=1)},
}
_PATTERN: Final = re.compile(
    r"\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<prefix>[kmgtpe]i?)?b?\s*", re.I | re.ASCII
)


def parse_bytes(text: str) -> Bytes:
    """Reads a size in bytes, e.g. `2Gi` or `1.5 GB`.

    A fraction of a byte is an error rather than rounded, so that what is enforced is what was written.
    Raises `InvalidValueError`.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise _not_a_size(text, "a size is a number and a unit")
    size = Fraction(match["number"]) * _FACTORS[(match["prefix"] or "").lower()]
    if size.denominator != 1:
        raise _not_a_size(text, "it is not a whole number of bytes")
    if size > MAXIMUM_BYTES:
        raise _not_a_size(text, "it is more than 8 EiB")
    return Bytes(int(size))


def parse_mib(text: str) -> int:
    """Reads a size in MiB, e.g. `24GB` or `512Mi`, rounded up to a whole one. Raises `InvalidValueError`."""
    return -(-parse_bytes(text) // MIB)


def format_bytes(size: int) -> str:
    """A size for people, three significant digits, binary prefixes: `1.50 GiB`, `812 MiB`, `0 B`."""
    if abs(size) < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        value /= 1024
        if abs(value) < 999.5 or unit == "EiB":
            return f"{_three_digits(value)} {unit}"
    raise AssertionError("unreachable: the last unit ends the loop")


def percent(value: float) -> Ppm:
    """A part of a card from percent: `percent(30)`. Raises `InvalidValueError` outside of 0 to 100."""
    if not 0 <= value <= 100:
        raise InvalidValueError(f"{value} percent is not a part of a card", hint="a part is 0 to 100 percent")
    return Ppm(round(value * WHOLE_CARD / 100))


def format_percent(part: int) -> str:
    """A part of a card for people: `30%`, `12.5%`, `0.25%`."""
    return f"{part * 100 / WHOLE_CARD:.2f}".rstrip("0").rstrip(".") + "%"


def format_duration(nanoseconds: int) -> str:
    """A length of time for people, three significant digits: `2.31 s`, `812 ms`, `40.0 us`, `5 ns`."""
    if nanoseconds < 1000:
        return f"{nanoseconds} ns"
    value = float(nanoseconds)
    for unit in ("us", "ms", "s"):
        value /= 1000
        if value < 999.5:
            return f"{_three_digits(value)} {unit}"
    return f"{value:.0f} s"


def _three_digits(value: float) -> str:
    for digits, limit in ((2, 9.995), (1, 99.95)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def _not_a_size(text: str, why: str) -> InvalidValueError:
    return InvalidValueError(f"{text!r} is not a size: {why}", hint="examples: 2Gi, 512MiB, 1.5GB, 1048576")
