"""Properties of floating-point arithmetic over random operands: every rounding, NaNs, subnormals, saturation.

Expectations are exact fractions (ieee.py); errors of sums and products are compared as numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import ieee
import numpy as np
import pytest
from exec_runner import Runner, find_program
from hypothesis import given
from ieee import F32, F64, Format
from ptx_batches import ISAS, Line, Row, batch_settings, check, float_rows
from ptx_cases import FORMATS
from ptx_forms import float_holds

MODES = ("rn", "rz", "rm", "rp")


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def changed(fmt: Format, rule: Callable[..., int], arity: int, ftz: bool, sat: bool) -> Callable[..., int]:
    """A rule of the first operands with .ftz and .sat."""

    def whole(*row: int) -> int:
        used = [fmt.flush(x) if ftz else x for x in row[:arity]]
        out = rule(*used)
        out = fmt.flush(out) if ftz else out
        return ieee.saturate(fmt, out) if sat else out

    return whole


def lines_of(kind: str, operations: dict[str, int], notes: list[str]) -> list[Line]:
    """Each operation in every rounding with each of the notes."""
    fmt, lines = FORMATS[kind], []
    for (name, arity), mode, note in product(operations.items(), MODES, notes):
        exact = getattr(ieee, name)
        rule = changed(fmt, lambda *v, e=exact, m=mode: e(fmt, *v, m), arity, "ftz" in note, "sat" in note)
        operands = ", ".join("$" + x for x in "abc"[:arity])
        lines.append(Line(f"{name}.{mode}{note}.{kind} $d, {operands};", fmt.width, rule, fmt))
    return lines


SUMS = {"add": 2, "sub": 2, "mul": 2, "fma": 3}
SINGLE = lines_of("f32", SUMS, ["", ".ftz", ".sat", ".ftz.sat"])
DOUBLE = lines_of("f64", SUMS, [""])
QUOTIENTS = lines_of("f32", {"div": 2, "sqrt": 1}, ["", ".ftz"])
LONG_QUOTIENTS = lines_of("f64", {"div": 2, "sqrt": 1}, [""])


@batch_settings()
@given(rows=float_rows("f32"), isa=ISAS)
def test_single_arithmetic(runner: Runner, rows: list[Row], isa: str) -> None:
    check(runner, (32, 32, 32), SINGLE, rows, isa)


@batch_settings()
@given(rows=float_rows("f64"), isa=ISAS)
def test_double_arithmetic(runner: Runner, rows: list[Row], isa: str) -> None:
    check(runner, (64, 64, 64), DOUBLE, rows, isa)


@batch_settings()
@given(rows=float_rows("f32"), isa=ISAS)
def test_single_quotients_and_roots(runner: Runner, rows: list[Row], isa: str) -> None:
    check(runner, (32, 32, 32), QUOTIENTS, rows, isa)


@batch_settings()
@given(rows=float_rows("f64"), isa=ISAS)
def test_double_quotients_and_roots(runner: Runner, rows: list[Row], isa: str) -> None:
    check(runner, (64, 64, 64), LONG_QUOTIENTS, rows, isa)


def short_lines(kind: str) -> list[Line]:
    """16-bit arithmetic rounds to nearest only; bf16 has neither .ftz nor .sat."""
    fmt, lines = FORMATS[kind], []
    notes = ["", ".ftz", ".sat", ".ftz.sat"] if kind == "f16" else [""]
    for (name, arity), note in product(SUMS.items(), notes):
        exact = getattr(ieee, name)
        rule = changed(fmt, lambda *v, e=exact: e(fmt, *v), arity, "ftz" in note, "sat" in note)
        operands = ", ".join("$" + x for x in "abc"[:arity])
        lines.append(Line(f"{name}.rn{note}.{kind} $d, {operands};", 16, rule, fmt))

    def relu(a: int, b: int, c: int) -> int:
        out = ieee.fma(fmt, a, b, c)
        return out if fmt.is_nan(out) or not fmt.is_negative(out) else 0

    lines.append(Line(f"fma.rn.relu.{kind} $d, $a, $b, $c;", 16, relu, fmt))
    for (word, sign), nan in product((("min", 1), ("max", -1)), (False, True)):
        rule = lambda a, b, _, s=sign, n=nan: ieee.minimum(fmt, a, b, s, n)  # noqa: E731
        lines.append(Line(f"{word}{'.NaN' if nan else ''}.{kind} $d, $a, $b;", 16, rule, fmt))
    return lines


HALF, BRAIN = short_lines("f16"), short_lines("bf16")


@batch_settings()
@given(rows=float_rows("f16"), isa=ISAS)
def test_half_arithmetic(runner: Runner, rows: list[Row], isa: str) -> None:
    check(runner, (16, 16, 16), HALF, rows, isa)


@batch_settings()
@given(rows=float_rows("bf16"), isa=ISAS)
def test_bfloat_arithmetic(runner: Runner, rows: list[Row], isa: str) -> None:
    check(runner, (16, 16, 16), BRAIN, rows, isa)


# --- what holds of any arithmetic that rounds once


def exact_error_lines(kind: str) -> list[Line]:
    """A product and its error by fma; a sum and its error. Rules leave them open: see the test."""
    width = FORMATS[kind].width
    register = f".reg .b{width} p, q, r;"
    nothing = lambda *_: None  # noqa: E731
    texts = [
        f"mul.rn.{kind} $d, $a, $b;",
        f"{{ {register} mul.rn.{kind} p, $a, $b; neg.{kind} q, p; fma.rn.{kind} $d, $a, $b, q; }}",
        f"add.rn.{kind} $d, $a, $b;",
        f"{{ {register} add.rn.{kind} p, $a, $b; sub.rn.{kind} q, p, $a; sub.rn.{kind} r, p, q;"
        f" sub.rn.{kind} r, $a, r; sub.rn.{kind} q, $b, q; add.rn.{kind} $d, r, q; }}",
    ]
    return [Line(text, width, nothing) for text in texts]


def remember(lines: list[Line], seen: list[dict[Row, int]]) -> list[Line]:
    """Lines that put down their results by row."""

    class Recorder(Line):
        def is_wrong(self, got: int, row: Row) -> bool:
            seen[lines_at[self.code]][row] = got
            return False

    lines_at = {line.code: place for place, line in enumerate(lines)}
    seen.extend({} for _ in lines)
    return [Recorder(line.code, line.width, line.rule) for line in lines]


@pytest.mark.parametrize(("kind", "fmt"), [("f32", F32), ("f64", F64)], ids=["f32", "f64"])
def test_errors_of_sums_and_products_are_exact(runner: Runner, kind: str, fmt: Format) -> None:
    """product + error == a * b and sum + error == a + b, in fractions, where no exponent leaves its range."""
    middle = fmt.bias // 2

    @batch_settings(8)
    @given(rows=float_rows(kind), isa=ISAS)
    def holds(rows: list[Row], isa: str) -> None:
        seen: list[dict[Row, int]] = []
        check(runner, (fmt.width,) * 3, remember(exact_error_lines(kind), seen), rows, isa)
        for row in rows:
            a, b = row[:2]
            exponents = [(x & ~fmt.sign) >> fmt.fraction for x in (a, b)]
            if not all(fmt.bias - middle < e < fmt.bias + middle for e in exponents):
                continue
            product_, its_error, total, error = (fmt.value(results[row]) for results in seen)
            assert product_ + its_error == fmt.value(a) * fmt.value(b), (hex(a), hex(b))
            assert total + error == fmt.value(a) + fmt.value(b), (hex(a), hex(b))

    holds()


@batch_settings()
@given(rows=float_rows("f32"), isa=ISAS)
def test_single_arithmetic_is_that_of_this_processor(runner: Runner, rows: list[Row], isa: str) -> None:
    """Rounded to nearest, NumPy's operations must agree, fractions apart."""
    a, b, _ = (np.array(column, np.uint32).view(np.float32) for column in zip(*rows, strict=True))
    with np.errstate(all="ignore"):
        wanted = {"add": a + b, "sub": a - b, "mul": a * b, "div": a / b}
        exact = (a.astype(np.float64) * b.astype(np.float64)).astype(np.float32)
    tables = {
        name: dict(zip(rows, out.view(np.uint32).tolist(), strict=True)) for name, out in wanted.items()
    }
    lines = [
        Line(f"{name}.rn.f32 $d, $a, $b;", 32, lambda *row, t=table: t[row], F32)
        for name, table in tables.items()
    ]
    zero = dict(zip(rows, exact.view(np.uint32).tolist(), strict=True))
    lines.append(Line("fma.rn.f32 $d, $a, $b, 0f80000000;", 32, lambda *row: zero[row], F32))
    check(runner, (32, 32, 32), lines, rows, isa)


WORDS = ("eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")
COMPARED = [
    Line(
        f"{{ .reg .pred t; setp.{word}{ftz}.f32 t, $a, $b; selp.u32 $d, 1, 0, t; }}",
        32,
        lambda a, b, _, w=word, z=bool(ftz): int(float_holds(F32, w, a, b, z)),
    )
    for word, ftz in product(WORDS, ("", ".ftz"))
]


@batch_settings()
@given(rows=float_rows("f32"), isa=ISAS)
def test_comparisons(runner: Runner, rows: list[Row], isa: str) -> None:
    check(runner, (32, 32, 32), COMPARED, rows, isa)
