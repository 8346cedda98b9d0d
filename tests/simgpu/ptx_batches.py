"""Property tests of PTX instructions: batches of operands, one kernel of many instructions for each.

An example is a list of rows of operands and an instruction set; a thread does every instruction of the kernel
on its row. Operands are patterns, Python integers without a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ieee
import numpy as np
import pytest
from exec_runner import Runner, run_lanes
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from ieee import Format
from ptx_cases import FORMATS, floats, instruction_sets, integers

Row = tuple[int, ...]


def batch_settings(examples: int = 10) -> Callable:
    """The same examples in every run, as many as a few tenths of a second allow."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=quiet
    )


@dataclass(frozen=True)
class Line:
    """An instruction, or a few: $a, $b, $c are the operands, $d the result; `rule` says what that is, or None
    where the manual leaves it open."""

    code: str
    width: int
    rule: Callable[..., int | None]
    fmt: Format | None = None  # of the result: all NaNs are one

    def is_wrong(self, got: int, row: Row) -> bool:
        expected = self.rule(*row)
        if expected is None:
            return False
        expected &= (1 << self.width) - 1
        if self.fmt is not None and self.fmt.is_nan(expected):
            return not self.fmt.is_nan(got)
        return got != expected


def registers(width: int, place: int) -> str:
    return {8: "%h", 16: "%h", 32: "%b", 64: "%x"}[width] + str(place)


def unpack(width: int, place: int, word: int) -> tuple[str, int]:
    """Code that makes an operand of words, and how many it takes."""
    to = registers(width, place)
    if width == 64:
        return f"mov.b64 {to}, {{%i{word}, %i{word + 1}}};", 2
    return (f"mov.b32 {to}, %i{word};" if width == 32 else f"cvt.u16.u32 {to}, %i{word};"), 1


def pack(width: int, word: int) -> tuple[str, int]:
    """Code that makes words of the result $d."""
    if width == 64:
        return f"mov.b64 {{%o{word}, %o{word + 1}}}, %x9;", 2
    if width == 32:
        return f"mov.b32 %o{word}, %b9;", 1
    return f"cvt.u32.u16 %o{word}, %h9;" + (f"and.b32 %o{word}, %o{word}, 255;" if width == 8 else ""), 1


def words_of(rows: Sequence[Row], widths: Sequence[int]) -> np.ndarray:
    columns: list[list[int]] = []
    for place, width in enumerate(widths):
        columns.append([row[place] & 0xFFFFFFFF for row in rows])
        if width == 64:
            columns.append([row[place] >> 32 for row in rows])
    return np.array(columns, np.uint32).T.copy()


def check(
    runner: Runner, widths: Sequence[int], lines: Sequence[Line], rows: Sequence[Row], isa: str | None
) -> None:
    """Runs all lines on all rows; fails with the first few results that a rule does not give."""
    code, used = "", 0
    for place, width in enumerate(widths):
        text, taken = unpack(width, place, used)
        code, used = code + text + "\n", used + taken
    at, places = 0, []
    for line in lines:
        text = line.code.replace("$d", registers(line.width, 9))
        for place, (name, width) in enumerate(zip("abc", widths, strict=False)):
            text = text.replace("$" + name, registers(width, place))
        after, taken = pack(line.width, at)
        places.append((at, taken))
        code, at = f"{code}{text} {after}\n", at + taken
    got = run_lanes(
        runner, code, words_of(rows, widths), at, isa=isa, target="sm_100a", version="8.8"
    ).tolist()
    wrong: list[str] = []
    for line, (begin, taken) in zip(lines, places, strict=True):
        for row, out in zip(rows, got, strict=True):
            value = out[begin] | (out[begin + 1] << 32 if taken == 2 else 0)
            if line.is_wrong(value, row):
                expected = line.rule(*row)
                shown = f"{', '.join(map(hex, row))}: {value:#x}, not {expected or 0:#x}"
                wrong.append(f"{line.code}  of {shown} on {isa}")
                break
    if wrong:
        pytest.fail("\n".join(wrong[:8]), pytrace=False)


# --- operands

ISAS = st.sampled_from(instruction_sets())


def numbers(fmt_name: str) -> st.SearchStrategy[int]:
    """Patterns of a floating-point type: edges, numbers of like size, few significant bits, anything."""
    fmt = FORMATS[fmt_name]
    sign = st.sampled_from([0, fmt.sign])
    like = st.builds(
        lambda s, e, f: s | (fmt.bias + e) << fmt.fraction | f,
        sign, st.integers(-3, 3), st.integers(0, (1 << fmt.fraction) - 1),
    )  # fmt: skip
    short = st.builds(
        lambda s, e, f: s | e << fmt.fraction | f << (fmt.fraction - 3),
        sign, st.integers(0, (1 << fmt.exponent_bits) - 2), st.integers(0, 7),
    )  # fmt: skip
    tiny = st.builds(lambda s, f: s | f, sign, st.integers(0, 4 << fmt.fraction))
    anything = st.integers(0, (1 << fmt.width) - 1)
    return st.one_of(st.sampled_from(floats(fmt_name)), like, short, tiny, anything)


def related(fmt: Format, a: int, b: int, c: int, how: int, step: int) -> Row:
    """Operands that are neighbours or opposites of one another: sums cancel, comparisons are close."""
    mask = (1 << fmt.width) - 1
    if how == 0:
        b = a + step & mask
    elif how == 1:
        b = (a ^ fmt.sign) + step & mask
    elif how == 2:
        c = (b ^ fmt.sign) + step & mask
    elif how == 3:  # nearly minus the product
        c = (ieee.mul(fmt, a, b) ^ fmt.sign) + step & mask
    return a, b, c


def float_rows(fmt_name: str) -> st.SearchStrategy[list[Row]]:
    """Rows of three operands."""
    one, fmt = numbers(fmt_name), FORMATS[fmt_name]
    row = st.builds(
        lambda a, b, c, how, step: related(fmt, a, b, c, how, step),
        one, one, one, st.integers(0, 7), st.integers(-2, 2),
    )  # fmt: skip
    return st.lists(row, min_size=24, max_size=64)


def whole(width: int) -> st.SearchStrategy[int]:
    """Patterns of integers: edges of both signs, all magnitudes, few bits."""
    kinds = (f"u{width}", f"s{width}")
    edges = sorted({value & ((1 << width) - 1) for kind in kinds for value in integers(kind)})
    sized = st.builds(
        lambda value, shift: value >> shift, st.integers(0, (1 << width) - 1), st.integers(0, width - 1)
    )
    return st.one_of(st.sampled_from(edges), sized, st.integers(0, 40))


def integer_rows(*widths: int) -> st.SearchStrategy[list[Row]]:
    return st.lists(st.tuples(*map(whole, widths)), min_size=24, max_size=64)


def signed(value: int, width: int) -> int:
    """The number that a pattern stands for in a type with a sign."""
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


def clamp(value: int, width: int, has_sign: bool) -> int:
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if has_sign else (0, (1 << width) - 1)
    return max(low, min(high, value))
