"""Properties of integer instructions over random operands, against Python's integers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from exec_runner import Runner, find_program
from hypothesis import given
from hypothesis import strategies as st
from ptx_batches import ISAS, Line, Row, batch_settings, check, clamp, integer_rows, signed

TYPES = ("u16", "s16", "u32", "s32", "u64", "s64")


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


# --- arithmetic


def quotient(a: int, b: int) -> int | None:
    """Truncated; nothing is said of a divisor of zero."""
    if b == 0:
        return None
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int | None:
    whole = quotient(a, b)
    return None if whole is None else a - whole * b


Exact = Callable[[int, int, int], int | None]
ARITHMETIC: dict[str, Exact] = {
    "add": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "mul.lo": lambda a, b, _: a * b,
    "min": lambda a, b, _: min(a, b),
    "max": lambda a, b, _: max(a, b),
    "div": lambda a, b, _: quotient(a, b),
    "rem": lambda a, b, _: remainder(a, b),
    "mad.lo": lambda a, b, c: a * b + c,
    "sad": lambda a, b, c: c + abs(a - b),
}


def on_numbers(rule: Exact, width: int, has_sign: bool, wide: int = 0) -> Callable[..., int | None]:
    """A rule of numbers as one of patterns; the third operand may be `wide`."""

    def whole(a: int, b: int, c: int) -> int | None:
        if has_sign:
            return rule(signed(a, width), signed(b, width), signed(c, wide or width))
        return rule(a, b, c)

    return whole


def arithmetic_lines(kind: str) -> list[Line]:
    width, has_sign = int(kind[1:]), kind[0] == "s"
    three = ("mad.lo", "sad")
    lines = [
        Line(
            f"{name}.{kind} $d, $a, $b{', $c' if name in three else ''};", width,
            on_numbers(rule, width, has_sign),
        )
        for name, rule in ARITHMETIC.items()
    ]  # fmt: skip
    high = lambda a, b, _: a * b >> width  # noqa: E731
    lines.append(Line(f"mul.hi.{kind} $d, $a, $b;", width, on_numbers(high, width, has_sign)))
    high = lambda a, b, c: (a * b >> width) + c  # noqa: E731
    lines.append(Line(f"mad.hi.{kind} $d, $a, $b, $c;", width, on_numbers(high, width, has_sign)))
    if width < 64:
        double = lambda a, b, _: a * b  # noqa: E731
        lines.append(Line(f"mul.wide.{kind} $d, $a, $b;", 2 * width, on_numbers(double, width, has_sign)))
    if has_sign:
        lines.append(Line(f"neg.{kind} $d, $a;", width, lambda a, *_: -a))
        lines.append(Line(f"abs.{kind} $d, $a;", width, lambda a, *_: abs(signed(a, width))))
    for word, test in (("lt", lambda a, b: a < b), ("ge", lambda a, b: a >= b), ("ne", lambda a, b: a != b)):
        truth = lambda a, b, _, t=test: int(t(a, b))  # noqa: E731
        code = f"{{ .reg .pred t; setp.{word}.{kind} t, $a, $b; selp.u32 $d, 1, 0, t; }}"
        lines.append(Line(code, 32, on_numbers(truth, width, has_sign)))
    if kind == "s32":
        for name, rule in (("add", lambda a, b, _: a + b), ("sub", lambda a, b, _: a - b)):
            clamped = lambda a, b, c, r=rule: clamp(r(a, b, c), 32, True)  # noqa: E731
            lines.append(Line(f"{name}.sat.s32 $d, $a, $b;", 32, on_numbers(clamped, 32, True)))
        clamped = lambda a, b, c: clamp((a * b >> 32) + c, 32, True)  # noqa: E731
        lines.append(Line("mad.hi.sat.s32 $d, $a, $b, $c;", 32, on_numbers(clamped, 32, True)))
    if width == 32:
        narrow = (lambda x: signed(x, 24)) if has_sign else (lambda x: x & 0xFFFFFF)
        for half, shift in (("lo", 0), ("hi", 16)):
            rule = lambda a, b, c, s=shift: (narrow(a) * narrow(b) >> s) + c  # noqa: E731
            lines.append(Line(f"mad24.{half}.{kind} $d, $a, $b, $c;", 32, on_numbers(rule, 32, has_sign)))
    return lines


@pytest.mark.parametrize("kind", TYPES)
def test_arithmetic(runner: Runner, kind: str) -> None:
    lines, width = arithmetic_lines(kind), int(kind[1:])

    @batch_settings(8)
    @given(rows=integer_rows(width, width, width), isa=ISAS)
    def holds(rows: list[Row], isa: str) -> None:
        check(runner, (width,) * 3, lines, rows, isa)

    holds()


@batch_settings()
@given(rows=integer_rows(32, 32, 32), isa=ISAS)
def test_carries_add_up(runner: Runner, rows: list[Row], isa: str) -> None:
    """A sum and a product of 64 bits by parts of 32 equal those of 64 bits."""
    lines = [
        Line(
            "{ .reg .b32 lo, hi; add.cc.u32 lo, $a, $b; addc.u32 hi, $c, $a; mov.b64 $d, {lo, hi}; }", 64,
            lambda a, b, c: (c << 32 | a) + (a << 32 | b),
        ),
        Line(
            "{ .reg .b32 lo, hi; sub.cc.u32 lo, $a, $b; subc.u32 hi, $c, $a; mov.b64 $d, {lo, hi}; }", 64,
            lambda a, b, c: (c << 32 | a) - (a << 32 | b),
        ),
        Line(
            "{ .reg .b32 lo, hi; mad.lo.cc.u32 lo, $a, $b, $c; madc.hi.u32 hi, $a, $b, $b;"
            " mov.b64 $d, {lo, hi}; }", 64, lambda a, b, c: a * b + (b << 32 | c),
        ),
    ]  # fmt: skip
    check(runner, (32, 32, 32), lines, rows, isa)


# --- bits


def extracted(value: int, position: int, length: int, width: int, has_sign: bool) -> int:
    """bfe: positions and lengths are bytes; what lies beyond the operand is its sign, or zeros."""
    position, length = position & 255, length & 255
    if length == 0:
        return 0
    field = (signed(value, width) if has_sign else value) >> position
    return signed(field, length) if has_sign else field & ((1 << length) - 1)


def inserted(a: int, b: int, position: int, length: int, width: int) -> int:
    position, length = position & 255, length & 255
    mask = ((1 << length) - 1) << position & ((1 << width) - 1)
    return b & ~mask | a << position & mask


def shifted(value: int, amount: int, width: int, kind: str) -> int:
    """shl and shr: amounts beyond the width leave nothing, or the sign."""
    amount = min(amount, width)
    return {"l": value << amount, "u": value >> amount, "s": signed(value, width) >> amount}[kind]


def bit_lines(width: int) -> list[Line]:
    """Of one operand, and a position and a length."""
    top = width - 1
    lines = [
        Line(f"popc.b{width} $d, $a;", 32, lambda a, *_: a.bit_count()),
        Line(f"clz.b{width} $d, $a;", 32, lambda a, *_: width - a.bit_length()),
        Line(f"brev.b{width} $d, $a;", width, lambda a, *_: int(f"{a:0{width}b}"[::-1], 2)),
        Line(f"not.b{width} $d, $a;", width, lambda a, *_: ~a),
        Line(f"cnot.b{width} $d, $a;", width, lambda a, *_: int(a == 0)),
        Line(f"bfind.u{width} $d, $a;", 32, lambda a, *_: a.bit_length() - 1),
        Line(f"bfind.shiftamt.u{width} $d, $a;", 32, lambda a, *_: width - a.bit_length() if a else -1),
        Line(
            f"bfind.s{width} $d, $a;", 32,
            lambda a, *_: (~a & ((1 << width) - 1) if a >> top else a).bit_length() - 1,
        ),
        Line(f"bfi.b{width} $d, $a, 0x5A5A5A5A, $b, $c;", width,
             lambda a, b, c: inserted(a, 0x5A5A5A5A, b, c, width)),
        Line(f"shl.b{width} $d, $a, $b;", width, lambda a, b, _: shifted(a, b, width, "l")),
        Line(f"shr.u{width} $d, $a, $b;", width, lambda a, b, _: shifted(a, b, width, "u")),
        Line(f"shr.s{width} $d, $a, $b;", width, lambda a, b, _: shifted(a, b, width, "s")),
    ]  # fmt: skip
    for sign in "us":
        rule = lambda a, b, c, s=sign == "s": extracted(a, b, c, width, s)  # noqa: E731
        lines.append(Line(f"bfe.{sign}{width} $d, $a, $b, $c;", width, rule))
    return lines


@pytest.mark.parametrize("width", [32, 64])
def test_bits(runner: Runner, width: int) -> None:
    lines = bit_lines(width)

    @batch_settings(8)
    @given(rows=integer_rows(width, 32, 32), isa=ISAS)
    def holds(rows: list[Row], isa: str) -> None:
        check(runner, (width, 32, 32), lines, rows, isa)

    holds()


# --- three words


def permuted(a: int, b: int, picks: list[int]) -> int:
    """prmt: bytes 0 to 3 of a and 4 to 7 of b; bit 3 of a pick spreads the byte's sign."""
    found = 0
    for place, pick in enumerate(picks):
        byte = (b << 32 | a) >> 8 * (pick & 7) & 255
        found |= (255 * (byte >> 7) if pick & 8 else byte) << 8 * place
    return found


PERMUTED: dict[str, Callable[[int], list[int]]] = {
    "": lambda c: [c >> 4 * k & 15 for k in range(4)],
    ".f4e": lambda c: [(c & 3) + k for k in range(4)],
    ".b4e": lambda c: [((c & 3) - k) % 8 for k in range(4)],
    ".rc8": lambda c: [c & 3] * 4,
    ".ecl": lambda c: [max(k, c & 3) for k in range(4)],
    ".ecr": lambda c: [min(k, c & 3) for k in range(4)],
    ".rc16": lambda c: [2 * (c & 1), 2 * (c & 1) + 1] * 2,
}


def table_of(a: int, b: int, c: int, table: int) -> int:
    """lop3: bit k of the table is the result for the bits of k."""
    out = 0
    for k in range(8):
        if table >> k & 1:
            out |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return out


def funnel(a: int, b: int, amount: int, left: bool) -> int:
    both = b << 32 | a
    return both << amount >> 32 if left else both >> amount


def sum_of_products(a: int, b: int, c: int, signs: str) -> int:
    """dp4a: four products of bytes and an addend."""
    parts = []
    for word, sign in zip((a, b), signs, strict=True):
        each = [word >> 8 * k & 255 for k in range(4)]
        parts.append([signed(x, 8) if sign == "s" else x for x in each])
    return sum(x * y for x, y in zip(*parts, strict=True)) + c


def word_lines(tables: list[int]) -> list[Line]:
    lines = [
        Line(f"prmt.b32{mode} $d, $a, $b, $c;", 32, lambda a, b, c, f=picks: permuted(a, b, f(c)))
        for mode, picks in PERMUTED.items()
    ]
    lines += [
        Line(f"lop3.b32 $d, $a, $b, $c, {table};", 32, lambda a, b, c, t=table: table_of(a, b, c, t))
        for table in tables
    ]
    for side, mode in product("lr", ("clamp", "wrap")):

        def rule(a: int, b: int, c: int, left: bool = side == "l", wraps: bool = mode == "wrap") -> int:
            return funnel(a, b, c & 31 if wraps else min(c, 32), left)

        lines.append(Line(f"shf.{side}.{mode}.b32 $d, $a, $b, $c;", 32, rule))
    for signs in ("uu", "us", "su", "ss"):
        kinds = ".".join(f"{sign}32" for sign in signs)
        dot = lambda a, b, c, s=signs: sum_of_products(a, b, c, s)  # noqa: E731
        lines.append(Line(f"dp4a.{kinds} $d, $a, $b, $c;", 32, dot))
    return lines


@batch_settings()
@given(rows=integer_rows(32, 32, 32), tables=st.lists(st.integers(0, 255), min_size=6, max_size=6), isa=ISAS)
def test_words(runner: Runner, rows: list[Row], tables: list[int], isa: str) -> None:
    check(runner, (32, 32, 32), word_lines(tables), rows, isa)
