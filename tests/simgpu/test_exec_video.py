"""Video instructions, scalar and SIMD, against plain Python (PTX ISA 9.7.17 and 9.7.18)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from exec_runner import Runner, find_program, run_lanes

rng = np.random.default_rng(3)
WORDS = rng.integers(0, 2**32, (160, 3), dtype=np.uint64).astype(np.uint32)
WORDS[:27] = list(itertools.product([0, 0xFFFFFFFF, 0x80007F80], repeat=3))


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def field(word: int, shift: int, width: int, signed: bool) -> int:
    value = word >> shift & (2**width - 1)
    return value - 2**width if signed and value >> (width - 1) else value


def clamp(value: int, width: int, signed: bool) -> int:
    low, high = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if signed else (0, 2**width - 1)
    return min(max(value, low), high)


OPERATIONS: dict[str, Callable[..., int]] = {
    "vadd": lambda a, b: a + b,
    "vsub": lambda a, b: a - b,
    "vabsdiff": lambda a, b: abs(a - b),
    "vmin": min,
    "vmax": max,
}
SELECTORS = {"": (0, 32), ".b0": (0, 8), ".b3": (24, 8), ".h0": (0, 16), ".h1": (16, 16)}


@pytest.mark.parametrize("types", ["u32.u32.u32", "s32.s32.s32", "s32.u32.s32", "u32.s32.u32"])
@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("saturate", [False, True])
def test_scalar(runner: Runner, op: str, types: str, saturate: bool) -> None:
    """All selectors; the second operation is none, one of add, min and max, or a merge into a part of c."""
    signed = [t == "s32" for t in types.split(".")]
    name = f"{op}.{types}{'.sat' if saturate else ''}"
    forms = list(itertools.product(SELECTORS, repeat=2))
    seconds = ["", "add", "min", "max", "merge"]
    code, rules = "", []
    for place, (a, b) in enumerate(forms[::4]):
        second = seconds[place % 5]
        part = list(SELECTORS)[1 + place % 4] if second == "merge" else ""
        tail = f".{second}" if second not in ("", "merge") else ""
        code += f"{name}{tail} %o{place}{part}, %i0{a}, %i1{b}{', %i2' if second else ''};\n"
        rules.append((SELECTORS[a], SELECTORS[b], second, SELECTORS[part]))
    got = run_lanes(runner, code, WORDS, len(rules))
    for row, out in zip(WORDS.tolist(), got.tolist(), strict=True):
        for (a, b, second, part), found in zip(rules, out, strict=True):
            x, y = field(row[0], a[0], a[1], signed[1]), field(row[1], b[0], b[1], signed[2])
            value = OPERATIONS[op](x, y)
            if saturate:
                value = clamp(value, part[1] if second == "merge" else 32, signed[0])
            value &= 2**32 - 1
            x, c = (field(word, 0, 32, signed[0]) for word in (value, row[2]))
            if second == "merge":
                keep = (2 ** part[1] - 1) << part[0]
                value = (row[2] & ~keep) | (value << part[0] & keep)
            elif second:
                value = {"add": x + c, "min": min(x, c), "max": max(x, c)}[second]
            assert found == value & (2**32 - 1), (row, a, b, second)


def test_shifts_and_sets(runner: Runner) -> None:
    code = """
vshl.u32.u32.u32.clamp %o0, %i0, %i1.b0; vshl.u32.u32.u32.wrap %o1, %i0, %i1.b0;
vshr.s32.s32.u32.clamp %o2, %i0, %i1.b0; vshr.u32.u32.u32.wrap %o3, %i0, %i1.b0;
vset.s32.u32.lt %o4, %i0.h0, %i1.h1; vset.u32.u32.ge.add %o5, %i0, %i1, %i2;"""
    words = WORDS.copy()
    words[:40, 1] &= 63
    got = run_lanes(runner, code, words, 6)
    for (a, b, c), out in zip(words.tolist(), got.tolist(), strict=True):
        by, signed = b & 0xFF, field(a, 0, 32, True)
        expected = [
            a << min(by, 32),
            a << (by & 31),
            signed >> min(by, 32),
            a >> (by & 31),
            field(a, 0, 16, True) < b >> 16,
            (a >= b) + c,
        ]
        assert out == [x & (2**32 - 1) for x in expected]


def test_multiply_add(runner: Runner) -> None:
    code = """
vmad.u32.u32.u32 %o0, %i0.h0, %i1.h1, %i2; vmad.s32.s32.s32.sat %o1, %i0, %i1.h0, %i2;
vmad.s32.u32.u32.shr7 %o2, %i0.b1, %i1.b2, -%i2; vmad.u32.u32.u32.po %o3, %i0.h0, %i1.h0, %i2;
vmad.s32.s32.s32.shr15 %o4, -%i0.h1, %i1.h1, %i2;"""
    got = run_lanes(runner, code, WORDS, 5)
    for (a, b, c), out in zip(WORDS.tolist(), got.tolist(), strict=True):
        sa, sc = field(a, 0, 32, True), field(c, 0, 32, True)
        expected = [
            (a & 0xFFFF) * (b >> 16) + c,
            clamp(sa * field(b, 0, 16, True) + sc, 32, True),
            ((a >> 8 & 255) * (b >> 16 & 255) - sc) >> 7,
            (a & 0xFFFF) * (b & 0xFFFF) + c + 1,
            (-field(a, 16, 16, True) * field(b, 16, 16, True) + sc) >> 15,
        ]
        assert out == [x & (2**32 - 1) for x in expected], (hex(a), hex(b), hex(c))


AVERAGE: dict[str, Callable[[int, int], int]] = {
    **OPERATIONS,
    "vavrg": lambda a, b: (a + b + (a + b >= 0)) >> 1,
}


@pytest.mark.parametrize("lanes", [2, 4])
@pytest.mark.parametrize("types", ["u32.u32.u32", "s32.s32.s32", "u32.s32.u32"])
@pytest.mark.parametrize("op", AVERAGE)
def test_simd(runner: Runner, op: str, types: str, lanes: int) -> None:
    """Selectors, masks, saturation and the sum of lanes."""
    width, signed = 32 // lanes, [t == "s32" for t in types.split(".")]
    pick = ("h20", "h1") if lanes == 2 else ("b7142", "b310")
    name = f"{op}{lanes}.{types}"
    code = f"""
{name} %o0, %i0, %i1, %i2; {name}.sat %o1, %i0, %i1, %i2; {name}.add %o2, %i0, %i1, %i2;
{name} %o3, %i0.{pick[0]}, %i1, %i2; {name} %o4.{pick[1]}, %i0, %i1, %i2;"""
    got = run_lanes(runner, code, WORDS, 5)

    def rule(row: list[int], sources: list[int], chosen: set[int], saturate: bool, total: bool) -> int:
        both, out = row[1] << 32 | row[0], row[2]
        for lane in chosen:
            x = field(both, sources[lane] * width, width, signed[1])
            value = AVERAGE[op](x, field(row[1], lane * width, width, signed[2]))
            if saturate:
                value = clamp(value, width, signed[0])
            if total:
                out += value
            else:
                keep = (2**width - 1) << lane * width
                out = (out & ~keep) | (value << lane * width & keep)
        return out & (2**32 - 1)

    everyone, plain = set(range(lanes)), list(range(lanes))
    picked = [int(digit) for digit in reversed(pick[0][1:])]
    some = {int(digit) for digit in pick[1][1:]}
    for row, out in zip(WORDS.tolist(), got.tolist(), strict=True):
        assert out == [
            rule(row, plain, everyone, False, False),
            rule(row, plain, everyone, True, False),
            rule(row, plain, everyone, False, True),
            rule(row, picked, everyone, False, False),
            rule(row, plain, some, False, False),
        ], [hex(x) for x in row]


@pytest.mark.parametrize("lanes", [2, 4])
def test_simd_comparison(runner: Runner, lanes: int) -> None:
    words = WORDS.copy()
    words[:50, 1] = words[:50, 0]
    width = 32 // lanes
    code = f"vset{lanes}.s32.s32.le %o0, %i0, %i1, %i2; vset{lanes}.u32.u32.ne.add %o1, %i0, %i1, %i2;"
    got = run_lanes(runner, code, words, 2)
    for (a, b, c), out in zip(words.tolist(), got.tolist(), strict=True):
        at = [lane * width for lane in range(lanes)]
        less = sum((field(a, s, width, True) <= field(b, s, width, True)) << s for s in at)
        assert out == [
            less,
            (c + sum(field(a, s, width, False) != field(b, s, width, False) for s in at)) % 2**32,
        ]
