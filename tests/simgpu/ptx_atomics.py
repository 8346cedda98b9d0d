"""What atomic operations leave in memory, from what was there and the operand (PTX ISA 9.7.13)."""

from __future__ import annotations

from collections.abc import Callable

import ieee
from ieee import F32, F64

Rule = Callable[[int, int], int]


def increment(old: int, bound: int) -> int:
    return 0 if old >= bound else old + 1


def decrement(old: int, bound: int) -> int:
    return bound if old == 0 or old > bound else old - 1


ATOMICS: list[tuple[str, tuple[str, ...], Rule]] = [
    ("add", ("u32", "s32", "u64"), lambda a, b: a + b),
    ("min", ("u32", "s32", "u64", "s64"), min),
    ("max", ("u32", "s32", "u64", "s64"), max),
    ("inc", ("u32",), increment),
    ("dec", ("u32",), decrement),
    ("and", ("b32", "b64"), lambda a, b: a & b),
    ("or", ("b32", "b64"), lambda a, b: a | b),
    ("xor", ("b32", "b64"), lambda a, b: a ^ b),
    ("exch", ("b32", "b64"), lambda _, b: b),
    ("add", ("f32",), lambda a, b: ieee.add(F32, a, b)),
    ("add", ("f64",), lambda a, b: ieee.add(F64, a, b)),
]
"""Operation, types, and the new value from the old one and the operand."""
