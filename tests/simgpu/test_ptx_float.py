"""Floating-point instructions of PTX against exact fractions (PTX ISA 9.7.3 to 9.7.5), with every rounding.

The approximate functions are in ptx_approximate.py.
"""

from __future__ import annotations

from collections.abc import Callable

import ieee
import numpy as np
import pytest
from ieee import F16, F32, F64, Format
from ptx_cases import FORMATS, Answers, Case, case, instruction_sets, operands, run_cases

pytestmark = pytest.mark.sanitized

ROUNDINGS = ("rn", "rz", "rm", "rp")
EXACT = {
    "add": ieee.add,
    "sub": ieee.sub,
    "mul": ieee.mul,
    "fma": ieee.fma,
    "div": ieee.div,
    "sqrt": ieee.sqrt,
}


def reciprocal(fmt: Format, a: int, mode: str = "rn") -> int:
    return ieee.div(fmt, fmt.bias << fmt.fraction, a, mode)


def flushing(fmt: Format, rule: Callable[..., int]) -> Callable[..., int]:
    """`.ftz`: subnormal operands and results become zeros of their sign."""
    return lambda *values: fmt.flush(rule(*(fmt.flush(value) for value in values)))


def named(count: int) -> str:
    return ", ".join("%" + name for name in "abc"[:count])


def cases() -> list[Case]:
    made: list[Case] = []
    arithmetic(made)
    halves(made)
    comparisons(made)
    signs_and_extremes(made)
    return made


def arithmetic(made: list[Case]) -> None:
    operations = [("add", 2), ("sub", 2), ("mul", 2), ("fma", 3), ("div", 2), ("sqrt", 1), ("rcp", 1)]
    for t, fmt in (("f32", F32), ("f64", F64)):
        for name, arity in operations:
            exact = EXACT.get(name, reciprocal)
            for mode in ROUNDINGS:
                rule = lambda *v, exact=exact, fmt=fmt, mode=mode: exact(fmt, *v, mode)  # noqa: E731
                full = f"{name}.{mode}.{t}"
                made.append(case(full, f"{full} %d, {named(arity)};", (t,) * arity, t, rule, count=200))
            nearest = lambda *v, exact=exact, fmt=fmt: exact(fmt, *v)  # noqa: E731
            if t == "f32":
                full = f"{name}.rn.ftz.{t}"
                rule = flushing(fmt, nearest)
                made.append(case(full, f"{full} %d, {named(arity)};", (t,) * arity, t, rule, count=200))
            if name in ("add", "sub", "mul"):  # what an instruction without a rounding does
                full = f"{name}.{t}"
                made.append(case(full, f"{full} %d, {named(arity)};", (t,) * arity, t, nearest, count=100))
            if t == "f32" and name in ("add", "sub", "mul", "fma"):
                full = f"{name}.rn.sat.{t}"
                rule = lambda *v, nearest=nearest: ieee.saturate(F32, nearest(*v))  # noqa: E731
                made.append(case(full, f"{full} %d, {named(arity)};", (t,) * arity, t, rule, count=300))


def halves(made: list[Case]) -> None:
    for name, arity in (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3)):
        for ftz in ("", ".ftz"):
            exact = lambda *v, name=name: EXACT[name](F16, *v)  # noqa: E731
            full = f"{name}.rn{ftz}.f16"
            rule = flushing(F16, exact) if ftz else exact
            made.append(case(full, f"{full} %d, {named(arity)};", ("f16",) * arity, "f16", rule))

    def both(rule: Callable[..., int]) -> Callable[..., int]:
        return lambda *v: rule(*(x & 0xFFFF for x in v)) | rule(*(x >> 16 for x in v)) << 16

    for name, arity in (("add", 2), ("sub", 2), ("mul", 2), ("fma", 3)):
        exact = lambda *v, name=name: EXACT[name](F16, *v)  # noqa: E731
        full = f"{name}.rn.f16x2"
        kinds, keep = ("b32",) * arity, no_half_nan(exact)
        made.append(case(full, f"{full} %d, {named(arity)};", kinds, "b32", both(exact), only=keep))


def no_half_nan(rule: Callable[..., int]) -> Callable[..., bool]:
    """NaN patterns are no promise, and a packed pair is compared as one pattern."""
    return lambda *v: not any(F16.is_nan(rule(*(x >> s & 0xFFFF for x in v))) for s in (0, 16))


def compare(fmt: Format, word: str, a: int, b: int) -> bool:
    unordered = fmt.is_nan(a) or fmt.is_nan(b)
    if word in ("num", "nan"):
        return unordered == (word == "nan")
    if unordered:
        return len(word) == 3
    key = lambda bits: (-1 if fmt.is_negative(bits) else 1) * (bits & ~fmt.sign)  # noqa: E731
    x, y = key(a), key(b)
    return {"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[word[:2]]


def comparisons(made: list[Case]) -> None:
    words = ["eq", "ne", "lt", "le", "gt", "ge"]
    words += [word + "u" for word in words] + ["num", "nan"]
    for t in ("f16", "f32", "f64"):
        fmt = FORMATS[t]
        for word in words:
            rule = lambda a, b, fmt=fmt, word=word: compare(fmt, word, a, b)  # noqa: E731
            code = f"setp.{word}.{t} %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"
            made.append(case(f"setp.{word}.{t}", code, (t, t), "u32", rule, count=100))
    rule = lambda a, b: compare(F32, "lt", F32.flush(a), F32.flush(b))  # noqa: E731
    code = "setp.lt.ftz.f32 %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"
    made.append(case("setp.lt.ftz.f32", code, ("f32", "f32"), "u32", rule))
    rule = lambda a, b: 0x3F800000 if compare(F32, "gt", a, b) else 0  # noqa: E731
    made.append(case("set.gt.f32.f32", "set.gt.f32.f32 %d, %a, %b;", ("f32", "f32"), "f32", rule))
    rule = lambda a, b: 0xFFFFFFFF if compare(F32, "leu", a, b) else 0  # noqa: E731
    made.append(case("set.leu.u32.f32", "set.leu.u32.f32 %d, %a, %b;", ("f32", "f32"), "u32", rule))
    slct = lambda a, b, c: a if not F32.is_nan(c) and (not F32.is_negative(c) or c == F32.sign) else b  # noqa: E731
    made.append(case("slct.f32.f32", "slct.f32.f32 %d, %a, %b, %c;", ("f32", "f32", "f32"), "f32", slct))


def classes(fmt: Format) -> dict[str, Callable[[int], bool]]:
    magnitude = lambda bits: bits & ~fmt.sign  # noqa: E731
    smallest = 1 << fmt.fraction
    return {
        "finite": lambda a: magnitude(a) < fmt.infinity,
        "infinite": lambda a: magnitude(a) == fmt.infinity,
        "number": lambda a: magnitude(a) <= fmt.infinity,
        "notanumber": lambda a: magnitude(a) > fmt.infinity,
        "normal": lambda a: (
            smallest <= magnitude(a) < fmt.infinity or magnitude(a) == 0
        ),  # zeros count as such
        "subnormal": lambda a: 0 < magnitude(a) < smallest,
    }


def signs_and_extremes(made: list[Case]) -> None:
    for t in ("f32", "f64"):
        fmt = FORMATS[t]
        made.append(case(f"abs.{t}", f"abs.{t} %d, %a;", (t,), t, lambda a, fmt=fmt: a & ~fmt.sign))
        made.append(case(f"neg.{t}", f"neg.{t} %d, %a;", (t,), t, lambda a, fmt=fmt: a ^ fmt.sign))
        signed = lambda a, b, fmt=fmt: b & ~fmt.sign | a & fmt.sign  # noqa: E731
        made.append(case(f"copysign.{t}", f"copysign.{t} %d, %a, %b;", (t, t), t, signed))
        for word, rule in classes(fmt).items():
            code = f"testp.{word}.{t} %p1, %a; selp.u32 %d, 1, 0, %p1;"
            made.append(case(f"testp.{word}.{t}", code, (t,), "u32", rule))
    for t in ("f16", "f32", "f64"):
        fmt = FORMATS[t]
        for name, sign in (("min", 1), ("max", -1)):
            for note in ("", *((".NaN",) if t != "f64" else ()), *((".ftz",) if t == "f32" else ())):
                wins = note == ".NaN"
                rule = lambda a, b, f=fmt, s=sign, n=wins: ieee.minimum(f, a, b, s, n)  # noqa: E731
                if note == ".ftz":
                    rule = flushing(fmt, rule)
                full = f"{name}{note}.{t}"
                made.append(case(full, f"{full} %d, %a, %b;", (t, t), t, rule))


CASES = cases()


def test_reference_agrees_with_the_processor() -> None:
    """The fractions themselves, where NumPy has the same operation."""
    (_, a), (_, b) = operands("f32", "f32", count=2000)
    with np.errstate(all="ignore"):
        for name, native in (("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide)):
            expected = native(a.view(np.float32), b.view(np.float32)).view(np.uint32)
            exact = np.array(
                [EXACT[name](F32, int(x), int(y)) for x, y in zip(a, b, strict=True)], dtype=np.uint32
            )
            nan = np.isnan(expected.view(np.float32)) & np.isnan(exact.view(np.float32))
            assert ((exact == expected) | nan).all(), name


@pytest.fixture(scope="module", params=instruction_sets())
def answers(request: pytest.FixtureRequest, native_dir, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_cases(
        CASES, native_dir / "simgpu/libcuda.so.1", tmp_path_factory.mktemp("float"), request.param
    )


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_float(answers: Answers, one: Case) -> None:
    answers.check(one)
