"""Sets of nodes and of devices, as one byte for each: nonzero is in. None is everything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Mask = bytes | None
"""None stands for all, and costs nothing."""

_ZERO_IS_IN: Final = bytes([1]) + bytes(255)
_ONLY: Final = [bytes(value == each for each in range(256)) for value in range(256)]


def eligible(codes: bytes | bytearray) -> bytes:
    """In where the code (a `Reason`) is 0."""
    return bytes(codes).translate(_ZERO_IS_IN)


def refused_as(mask: Mask, code: int) -> bytes | None:
    """The code where the mask has nothing; None where it is everything."""
    return None if mask is None else bytes(0 if each else code for each in mask)


def only(codes: bytes | bytearray, value: int) -> bytes:
    """In where the code is `value`."""
    return bytes(codes).translate(_ONLY[value])


def both(one: Mask, other: Mask) -> Mask:
    """In where both are. Both have the values 0 and 1 only."""
    if one is None or other is None:
        return other if one is None else one
    both_set = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return both_set.to_bytes(len(one), "little")


def empty(mask: Mask) -> bool:
    """Whether nothing is in it."""
    return mask is not None and 1 not in mask


def of(size: int, members: Iterable[int]) -> bytes:
    """In are the numbers that `members` iterates over."""
    made = bytearray(size)
    for member in members:
        made[member] = 1
    return bytes(made)


def first_of(*codes: bytes | bytearray) -> bytes:
    """For each place the first code that is not 0."""
    told = [each for each in codes if any(each)]
    if len(told) <= 1:
        return bytes(told[0] if told else codes[0])
    return bytes(next((code for code in column if code), 0) for column in zip(*told, strict=True))
