"""Cases of the approximate functions, each with the bound that the PTX manual states for it, and where.

References are NumPy's functions of doubles; results that the manual fixes (zeros, infinities, NaNs) must be
just those. Where the manual states no bound the case says what is asked for instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from ptx_cases import FORMATS, Case, floats, spread

Numbers = np.ndarray  # of doubles
DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}


@dataclass(frozen=True)
class Bound:
    """How far results may be off: units of the last place from the rounded result, relative to the result, or
    absolute. `section` is that of the PTX ISA."""

    section: str
    ulps: float = 0
    relative: float = 0
    absolute: float = 0


@dataclass(frozen=True)
class Function:
    """An instruction on one type, without its .ftz and its pairs."""

    name: str
    kind: str
    exact: Callable[..., Numbers]
    bound: Bound
    operands: Callable[[], list[Numbers]]
    note: str = ""  # tells cases of one instruction apart


def patterns(kind: str, numbers: Numbers) -> np.ndarray:
    """Numbers as patterns of a type."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(numbers, np.float64).astype(DTYPES[kind]).view(f"uint{FORMATS[kind].width}")


def values(kind: str, bits: np.ndarray) -> Numbers:
    with np.errstate(invalid="ignore"):
        return bits.view(DTYPES[kind]).astype(np.float64)


def flushed(kind: str, numbers: Numbers) -> Numbers:
    smallest = float(FORMATS[kind].value(1 << FORMATS[kind].fraction))
    return np.where(np.abs(numbers) < smallest, np.copysign(0.0, numbers), numbers)


def in_order(kind: str, bits: np.ndarray) -> np.ndarray:
    """Integers in the order of the numbers, neighbours being one apart."""
    signed = bits.astype(np.int64) & int(FORMATS[kind].sign - 1)
    return np.where(bits.astype(np.uint64) & np.uint64(FORMATS[kind].sign), -signed, signed)


def acceptable(kind: str, bound: Bound, ftz: bool, got: np.ndarray, want: Numbers) -> np.ndarray:
    """Which results (patterns) the manual allows for an exact value."""
    fmt, found = FORMATS[kind], values(kind, got)
    nearest = patterns(kind, want)
    same = (got == nearest) | (np.isnan(found) & np.isnan(want))
    fixed = np.isnan(want) | np.isinf(want) | (want == 0)
    smallest, unit = float(fmt.value(1 << fmt.fraction)), float(fmt.value(1))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(found - want)
        near = np.abs(in_order(kind, got) - in_order(kind, nearest)) <= bound.ulps
        near |= error <= bound.relative * np.abs(want)
        near |= (bound.relative > 0) & (np.abs(want) < smallest) & (error <= unit)  # no finer numbers there
        near |= error <= bound.absolute
        near &= ~np.isnan(found)
        if ftz:
            zero = (found == 0) & (np.signbit(found) == np.signbit(want))
            edge = 1 + max(bound.relative, 4 * bound.ulps / (1 << fmt.fraction))
            near = np.where(
                np.abs(want) < smallest / edge, zero, near | (zero & (np.abs(want) < smallest * edge))
            )
    return np.where(fixed, same, near)


def make(function: Function, ftz: bool, pairs: bool) -> Case:
    fmt, kind = FORMATS[function.kind], function.kind
    operands = [np.asarray(x, f"uint{fmt.width}") for x in function.operands()]
    if pairs:  # the upper halves in another order
        rng = np.random.default_rng(53)
        order = rng.permutation(len(operands[0]))
        operands = [np.stack([x, x[order]], axis=1).ravel() for x in operands]
    reals = [values(kind, x) for x in operands]
    with np.errstate(all="ignore"):
        want = function.exact(*(flushed(kind, x) if ftz else x for x in reals))
    name = f"{function.name}{'.ftz' if ftz else ''}.{kind}{'x2' if pairs else ''}"
    whole = kind + ("x2" if pairs else "")
    inputs = [(whole, x.view(np.uint32) if pairs else x) for x in operands]
    expected = patterns(kind, flushed(kind, want) if ftz else want)
    found = iter((expected.view(np.uint32) if pairs else expected).tolist())

    def check(got: np.ndarray, _: np.ndarray) -> str | None:
        single = got.view(f"uint{fmt.width}")
        wrong = np.flatnonzero(~acceptable(kind, function.bound, ftz, single, want))
        rows = [([hex(x[k]) for x in operands], hex(single[k]), want[k]) for k in wrong[:8].tolist()]
        shown = f"{len(wrong)} of {len(single)} past {function.bound}: (operands, got, exact) {rows}"
        return shown if len(wrong) else None

    code = f"{name} %d, {', '.join('%' + x for x in 'ab'[: len(operands)])};"
    label = f"bound:{name}{'|' + function.note if function.note else ''}"
    return Case(
        label, code, inputs, whole, lambda *_: next(found), check=check, target="sm_90", version="7.8"
    )


# --- operands


def every(kind: str) -> list[np.ndarray]:
    """All patterns of a 16-bit type."""
    return [np.arange(1 << FORMATS[kind].width, dtype=np.uint16)]


def some(kind: str, *ranges: tuple[float, float]) -> Callable[[], list[np.ndarray]]:
    """Edges, all magnitudes, and numbers of these ranges."""

    def found() -> list[np.ndarray]:
        rng = np.random.default_rng(59)
        parts = [np.array(floats(kind), np.uint64), spread(kind, 2500, 61).astype(np.uint64)]
        parts += [patterns(kind, rng.uniform(low, high, 2500)).astype(np.uint64) for low, high in ranges]
        return [np.concatenate(parts)]

    return found


def only(operands: Callable[[], list[np.ndarray]], keep: Callable[[Numbers], np.ndarray]) -> Callable:
    """f32 operands for which a condition holds."""

    def found() -> list[np.ndarray]:
        (bits,) = operands()
        with np.errstate(invalid="ignore"):
            return [bits[keep(values("f32", bits.astype(np.uint32)))]]

    return found


def divisions(keep: Callable[[Numbers], np.ndarray]) -> Callable[[], list[np.ndarray]]:
    """Pairs of f32 operands whose divisor meets a condition."""

    def found() -> list[np.ndarray]:
        edges = np.array(floats("f32"), np.uint32)
        a = np.concatenate([np.repeat(edges, len(edges)), spread("f32", 6000, 67)])
        b = np.concatenate([np.tile(edges, len(edges)), spread("f32", 6000, 68)])
        with np.errstate(invalid="ignore"):
            kept = keep(np.abs(values("f32", b)))
        return [a[kept], b[kept]]

    return found


def moderate(divisor: Numbers) -> np.ndarray:
    return (divisor >= 2.0**-126) & (divisor <= 2.0**126)


def far(divisor: Numbers) -> np.ndarray:
    return (divisor > 2.0**126) & np.isfinite(divisor)


def anything(divisor: Numbers) -> np.ndarray:
    return np.ones_like(divisor, bool)


def turns(low: float, high: float) -> Callable[[Numbers], np.ndarray]:
    """Angles in a range of magnitudes, and what is no number."""
    return lambda x: ~np.isfinite(x) | ((np.abs(x) >= low * np.pi) & (np.abs(x) <= high * np.pi))


def times_zero(a: Numbers, b: Numbers) -> Numbers:
    return a * np.copysign(0.0, b)


def inverse_root(a: Numbers) -> Numbers:
    return 1 / np.sqrt(a)


def circle(name: str, exact: Callable[[Numbers], Numbers], section: str) -> list[Function]:
    """Sine and cosine have two bounds; beyond a hundred pi there is none."""
    near = only(some("f32", (-6.28, 6.28)), turns(0, 2))
    wide = only(some("f32", (-314.0, 314.0)), turns(2, 100))
    return [
        Function(name, "f32", exact, Bound(section, absolute=2**-20.5), near, "one turn"),
        Function(name, "f32", exact, Bound(section, absolute=2**-14.7), wide, "fifty turns"),
    ]


FUNCTIONS = [
    Function("div.approx", "f32", np.divide, Bound("9.7.3.8", ulps=2), divisions(moderate)),
    # Divisors from 2^126 on: a zero of the quotient's sign, of an infinity a NaN.
    Function("div.approx", "f32", times_zero, Bound("9.7.3.8"), divisions(far), "far divisors"),
    Function("div.full", "f32", np.divide, Bound("9.7.3.8", ulps=2), divisions(anything)),
    Function("rcp.approx", "f32", np.reciprocal, Bound("9.7.3.13", ulps=1), some("f32")),
    Function("sqrt.approx", "f32", np.sqrt, Bound("9.7.3.15", relative=2**-23), some("f32")),
    Function("rsqrt.approx", "f32", inverse_root, Bound("9.7.3.16", relative=2**-22.9), some("f32")),
    *circle("sin.approx", np.sin, "9.7.3.18"),
    *circle("cos.approx", np.cos, "9.7.3.19"),
    Function(
        "lg2.approx", "f32", np.log2, Bound("9.7.3.20", absolute=2**-22),
        only(some("f32", (0.5, 2.0), (0.999, 1.001)), lambda x: (x > 0.5) & (x < 2)), "near 1",
    ),
    Function(
        "lg2.approx", "f32", np.log2, Bound("9.7.3.20", relative=2**-22),
        only(some("f32", (0.1, 9.0)), lambda x: ~((x > 0.5) & (x < 2))), "elsewhere",
    ),
    Function("ex2.approx", "f32", np.exp2, Bound("9.7.3.21", ulps=2), some("f32", (-152, 130), (-1, 1))),
    Function("tanh.approx", "f32", np.tanh, Bound("9.7.3.22", relative=2**-11), some("f32", (-9, 9), (0, 1))),
    Function("tanh.approx", "f16", np.tanh, Bound("9.7.4.9", absolute=2**-10.987), lambda: every("f16")),
    Function("tanh.approx", "bf16", np.tanh, Bound("9.7.4.9", absolute=2**-8), lambda: every("bf16")),
    Function("ex2.approx", "f16", np.exp2, Bound("9.7.4.10", relative=2**-9.9), lambda: every("f16")),
    Function("ex2.approx", "bf16", np.exp2, Bound("9.7.4.10", relative=2**-7), lambda: every("bf16")),
    # No bound is stated: two units of the last place.
    Function("rsqrt.approx", "f64", inverse_root, Bound("9.7.3.16", ulps=2), some("f64")),
]  # fmt: skip


def forms(function: Function) -> list[tuple[bool, bool]]:
    """With .ftz, in pairs: those that there are."""
    pairs = [False, True] if function.kind in ("f16", "bf16") else [False]
    flushing = [False] if function.kind == "f64" or function.name.startswith("tanh") else [False, True]
    if function.kind == "bf16" and function.name.startswith("ex2"):
        flushing = [True]
    return [(ftz, both) for ftz in flushing for both in pairs]


def gross(name: str, section: str, exact: Callable[[Numbers], Numbers]) -> Case:
    """{rcp,rsqrt}.approx.ftz.f64: the upper words alone count, the lower one of the result is zero. No bound
    is stated; the last of the 20 bits may be wrong."""
    (bits,) = some("f64")()
    upper = bits & np.uint64(0xFFFFFFFF << 32)
    with np.errstate(all="ignore"):
        want = flushed("f64", exact(flushed("f64", values("f64", upper))))
    canonical = np.isnan(want)
    bound = Bound(section, relative=2.0**-20)

    def check(got: np.ndarray, _: np.ndarray) -> str | None:
        good = acceptable("f64", bound, True, got, want) & (got & np.uint64(0xFFFFFFFF) == 0)
        good = np.where(canonical, got == np.uint64(0x7FFFFFFF << 32), good)
        wrong = np.flatnonzero(~good)
        rows = [(hex(bits[k]), hex(got[k]), want[k]) for k in wrong[:8].tolist()]
        return f"{len(wrong)} of {len(got)}: (operand, got, exact) {rows}" if len(wrong) else None

    found = iter(patterns("f64", want).tolist())
    return Case(
        f"bound:{name}", f"{name} %d, %a;", [("f64", bits)], "f64", lambda _: next(found), check=check
    )


CASES: list[Case] = [
    *(make(function, ftz, pairs) for function in FUNCTIONS for ftz, pairs in forms(function)),
    gross("rcp.approx.ftz.f64", "9.7.3.14", np.reciprocal),
    gross("rsqrt.approx.ftz.f64", "9.7.3.17", inverse_root),
]
