"""Properties of conversions over random operands: between all types, in every rounding."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import ieee
import ml_dtypes
import numpy as np
import pytest
from exec_runner import Runner, find_program
from hypothesis import given
from hypothesis import strategies as st
from ieee import F32, Format
from ptx_batches import ISAS, Line, Row, batch_settings, check, clamp, numbers, signed, whole
from ptx_cases import FORMATS

MODES = ("rn", "rz", "rm", "rp")
INTEGERS = [f"{sign}{width}" for sign in "us" for width in (8, 16, 32, 64)]


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def rows_of(operand: st.SearchStrategy[int]) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.tuples(operand), min_size=24, max_size=64)


def float_line(source: str, target: str, mode: str, notes: str) -> Line:
    """cvt between floating-point types; notes are .ftz, .sat, .relu and .satfinite."""
    start, end, words = FORMATS[source], FORMATS[target], notes.split(".")

    def rule(bits: int) -> int:
        bits = start.flush(bits) if "ftz" in words and start is F32 else bits
        out = ieee.convert(start, end, bits, mode.removeprefix(".") or "rn")
        out = end.flush(out) if "ftz" in words and end is F32 else out
        if "satfinite" in words and end.is_inf(out):
            out -= 1
        if "relu" in words and not end.is_nan(out) and end.is_negative(out):
            out = 0
        return ieee.saturate(end, out) if "sat" in words else out

    return Line(f"cvt{mode}{notes}.{target}.{source} $d, $a;", end.width, rule, end)


def narrowing(source: str, target: str, notes: tuple[str, ...]) -> list[Line]:
    return [float_line(source, target, "." + mode, note) for mode, note in product(MODES, notes)]


def integer_lines(source: str) -> list[Line]:
    """To every integer type, clamped, and to integral values of the type itself."""
    fmt, lines = FORMATS[source], []
    for target, mode in product(INTEGERS, MODES):
        width, has_sign = int(target[1:]), target[0] == "s"

        rule = lambda bits, m=mode, w=width, s=has_sign: ieee.to_integer(fmt, bits, m + "i", w, s)  # noqa: E731
        lines.append(Line(f"cvt.{mode}i.{target}.{source} $d, $a;", width, rule))
    for mode in MODES:
        rule = lambda bits, m=mode: ieee.round_to_integral(fmt, bits, m + "i")  # noqa: E731
        lines.append(Line(f"cvt.{mode}i.{source}.{source} $d, $a;", fmt.width, rule, fmt))
    return lines


SOURCES = {
    "f64": [
        *narrowing("f64", "f32", ("", ".ftz", ".sat", ".ftz.sat")),
        *narrowing("f64", "f16", ("",)),
        *narrowing("f64", "bf16", ("",)),
    ],
    "f32": [
        *narrowing("f32", "f16", ("", ".ftz", ".sat")),
        *narrowing("f32", "bf16", ("",)),
        *(
            float_line("f32", target, mode, note)
            for target, mode, note in product(
                ("f16", "bf16"), (".rn", ".rz"), (".relu", ".satfinite", ".relu.satfinite")
            )
        ),
        *(float_line("f32", "f64", "", note) for note in ("", ".ftz", ".sat")),
    ],
    "f16": [
        *(float_line("f16", "f32", "", note) for note in ("", ".ftz", ".sat")),
        float_line("f16", "f64", "", ""),
        float_line("f16", "bf16", ".rn", ""),
    ],
    "bf16": [
        float_line("bf16", "f32", "", ""),
        float_line("bf16", "f64", "", ""),
        float_line("bf16", "f16", ".rn", ""),
        float_line("bf16", "f16", ".rz", ""),
    ],
}


@pytest.mark.parametrize("source", SOURCES)
def test_from_floats(runner: Runner, source: str) -> None:
    lines, width = [*SOURCES[source], *integer_lines(source)], FORMATS[source].width

    @batch_settings(4)
    @given(rows=rows_of(halfway(source)), isa=ISAS)
    def holds(rows: list[Row], isa: str) -> None:
        check(runner, (width,), lines, rows, isa)

    holds()


def halfway(source: str) -> st.SearchStrategy[int]:
    """Numbers of a type, and for the wide ones those at and beside the middle between shorter ones."""
    fmt = FORMATS[source]
    if fmt.width == 16:
        return numbers(source)

    def middle(name: str, bits: int, step: int) -> int:
        shorter = FORMATS[name]
        low = bits & (shorter.sign - 1)
        if low >= shorter.infinity:
            return fmt.infinity
        upper = shorter.value(low + 1) if low < shorter.largest else 2 * shorter.value(low)
        code = ieee.encode(fmt, (shorter.value(low) + upper) / 2)
        return (code + step) | (fmt.sign if bits & shorter.sign else 0)

    shorter = ("f16", "bf16") if source == "f32" else ("f16", "bf16", "f32")
    between = st.one_of(
        [st.builds(middle, st.just(name), numbers(name), st.integers(-1, 1)) for name in shorter]
    )
    integers = st.builds(
        lambda value, half: ieee.encode(fmt, Fraction(2 * value + half, 2)),
        st.integers(-300, 300),
        st.integers(0, 1),
    )
    return st.one_of(numbers(source), between, integers)


@pytest.mark.parametrize("source", INTEGERS)
def test_from_integers(runner: Runner, source: str) -> None:
    """To every integer type, with and without .sat, and to every floating-point type in every rounding."""
    width, has_sign = int(source[1:]), source[0] == "s"

    def number(bits: int) -> int:
        return signed(bits, width) if has_sign else bits & ((1 << width) - 1)

    lines = []
    for target, sat in product(INTEGERS, (False, True)):
        w, s = int(target[1:]), target[0] == "s"
        rule = lambda bits, w=w, s=s, z=sat: clamp(number(bits), w, s) if z else number(bits)  # noqa: E731
        lines.append(Line(f"cvt{'.sat' if sat else ''}.{target}.{source} $d, $a;", w, rule))
    for (name, fmt), mode in product(FORMATS.items(), MODES):
        rule = lambda bits, f=fmt, m=mode: ieee.encode(f, Fraction(number(bits)), m)  # noqa: E731
        lines.append(Line(f"cvt.{mode}.{name}.{source} $d, $a;", fmt.width, rule, fmt))

    @batch_settings(4)
    @given(rows=rows_of(whole(width)), isa=ISAS)
    def holds(rows: list[Row], isa: str) -> None:
        check(runner, (width,), lines, rows, isa)

    holds()


# --- formats of 8, 6 and 4 bits: every code, there and back

SMALL: dict[str, type] = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e2m3": ml_dtypes.float6_e2m3fn,
    "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m1": ml_dtypes.float4_e2m1fn,
}


@pytest.mark.parametrize("half", ["f16x2", "bf16x2"])
@pytest.mark.parametrize("kind", SMALL)
def test_small_formats_there_and_back(runner: Runner, kind: str, half: str) -> None:
    """Each code gives the number of its table, and that number gives the code again."""
    bits = {"e4m3": 8, "e5m2": 8, "e2m1": 4}.get(kind, 6)
    fmt: Format = FORMATS[half.removesuffix("x2")]
    with np.errstate(invalid="ignore"):
        decoded = np.arange(1 << bits, dtype=np.uint8).view(SMALL[kind]).astype(np.float64)
    codes = [code for code in range(1 << bits) if np.isfinite(decoded[code])]
    pair = 4 if bits == 4 else 8

    def back(word: int) -> int:
        return word & ((1 << 2 * pair) - 1)

    def there(word: int) -> int:
        parts = [decoded[word >> shift & ((1 << bits) - 1)] for shift in (0, pair)]
        low, high = (ieee.encode(fmt, Fraction(x), "rn", bool(np.signbit(x))) for x in parts)
        return high << 16 | low

    register, narrow = (".b8", "cvt.u8.u32") if bits == 4 else (".b16", "cvt.u16.u32")
    widen = "cvt.u32.u8" if bits == 4 else "cvt.u32.u16"
    begin = f"{{ .reg {register} e; .reg .b32 w; {narrow} e, $a; cvt.rn.{half}.{kind}x2 w, e;"
    again = f"cvt.rn.satfinite.{kind}x2.{half} e, w; {widen} $d, e; }}"
    lines = [Line(f"{begin} mov.b32 $d, w; }}", 32, there), Line(f"{begin} {again}", 32, back)]
    rows = [(codes[k] | codes[(7 * k + 3) % len(codes)] << pair,) for k in range(len(codes))]
    check(runner, (32,), lines, rows, None)
