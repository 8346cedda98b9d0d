"""Forms of sm_100: pairs of f32, minima of three, reductions of f32, accesses of 256 bits, powers of two."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import ieee
import ml_dtypes
import numpy as np
import pytest
from exec_runner import Runner, Target, find_program, run_lanes
from ieee import F32

rng = np.random.default_rng(29)
TARGET: Target = {"target": "sm_100a", "version": "8.8"}
SPECIAL = [
    0,
    1,
    0x007FFFFF,
    0x00800000,
    0x3F800000,
    0x3F800001,
    0x7F7FFFFF,
    0x7F800000,
    0x7FC00000,
    0x33800000,
]


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def patterns(rows: int, columns: int) -> np.ndarray:
    """f32 patterns: every kind of number, most of like size, so that sums round and cancel."""
    raw = rng.integers(0, 2**32, (rows, columns), dtype=np.uint64).astype(np.uint32)
    near = (raw & np.uint32(0x807FFFFF)) | (rng.integers(120, 135, raw.shape).astype(np.uint32) << 23)
    tiny = (raw & np.uint32(0x807FFFFF)) | (rng.integers(0, 3, raw.shape).astype(np.uint32) << 23)
    special = np.array([*SPECIAL, *(x | F32.sign for x in SPECIAL)], np.uint32)
    some = rng.choice(special, raw.shape)
    return np.choose(rng.integers(0, 4, raw.shape), [near, tiny, some, near])


def same(fmt: ieee.Format, got: int, expected: int) -> bool:
    return fmt.is_nan(got) if fmt.is_nan(expected) else got == expected


def flushed(bits: int, ftz: bool) -> int:
    return F32.flush(bits) if ftz else bits


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "fma"])
def test_pairs_in_every_rounding(runner: Runner, operation: str) -> None:
    """All forms in one kernel: 64 lanes of two numbers each."""
    arity = 3 if operation == "fma" else 2
    modes = ["rn", "rz", "rm", "rp"] if operation == "fma" else ["", "rn", "rz", "rm", "rp"]
    forms = list(product(modes, (False, True)))
    words = patterns(64, 2 * arity)
    code = "".join(f"mov.b64 %x{k}, {{%i{2 * k}, %i{2 * k + 1}}};" for k in range(arity))
    sources = ", ".join(f"%x{k}" for k in range(arity))
    for place, (mode, ftz) in enumerate(forms):
        name = f"{operation}{'.' + mode if mode else ''}{'.ftz' if ftz else ''}.f32x2"
        code += f"{name} %x5, {sources}; mov.b64 {{%o{2 * place}, %o{2 * place + 1}}}, %x5;\n"
    got = run_lanes(runner, code, words, 2 * len(forms), **TARGET)
    for row, out in zip(words.tolist(), got.tolist(), strict=True):
        for (place, (mode, ftz)), half in product(enumerate(forms), (0, 1)):
            given = [flushed(row[2 * k + half], ftz) for k in range(arity)]
            expected = flushed(getattr(ieee, operation)(F32, *given, mode or "rn"), ftz)
            found = out[2 * place + half]
            assert same(F32, found, expected), (mode, ftz, [hex(x) for x in given], hex(found), hex(expected))


@pytest.mark.parametrize("operation", ["min", "max"])
def test_extremes_of_three(runner: Runner, operation: str) -> None:
    """min(min(a, b), c): with .abs of magnitudes, with .NaN a NaN wins, with .ftz of flushed numbers."""
    forms = list(product((False, True), repeat=3))
    words = patterns(96, 3)
    code = "".join(f"mov.b32 %f{k}, %i{k};" for k in range(3))
    for place, (ftz, nan, magnitude) in enumerate(forms):
        name = operation + ".ftz" * ftz + ".NaN" * nan + ".abs" * magnitude + ".f32"
        code += f"{name} %f4, %f0, %f1, %f2; mov.b32 %o{place}, %f4;\n"
    got = run_lanes(runner, code, words, len(forms), **TARGET)
    sign = 1 if operation == "min" else -1
    for row, out in zip(words.tolist(), got.tolist(), strict=True):
        for (ftz, nan, magnitude), found in zip(forms, out, strict=True):
            a, b, c = (flushed(x & ~F32.sign if magnitude else x, ftz) for x in row)
            expected = ieee.minimum(F32, ieee.minimum(F32, a, b, sign, nan), c, sign, nan)
            assert same(F32, found, expected), (ftz, nan, magnitude, [hex(x) for x in row], hex(found))


@pytest.mark.parametrize("nans", [0, 3, 32])
@pytest.mark.parametrize("operation", ["min", "max"])
def test_reductions_of_a_warp(runner: Runner, operation: str, nans: int) -> None:
    numbers = rng.normal(size=32).astype(np.float32)
    numbers[rng.permutation(32)[:nans]] = np.nan
    forms = list(product((False, True), repeat=2))
    code = "mov.b32 %f0, %i0;"
    for place, (magnitude, nan) in enumerate(forms):
        name = f"redux.sync.{operation}{'.abs' * magnitude}{'.NaN' * nan}.f32"
        code += f"{name} %f1, %f0, -1; mov.b32 %o{place}, %f1;"
    got = run_lanes(runner, code, numbers.view(np.uint32)[:, None], len(forms), **TARGET).view(np.float32)
    choose = np.fmin if operation == "min" else np.fmax
    for place, (magnitude, nan) in enumerate(forms):
        taken = np.abs(numbers) if magnitude else numbers
        expected = np.nan if nan and nans else choose.reduce(taken)
        np.testing.assert_array_equal(got[:, place], np.full(32, expected, np.float32))


# --- ue8m0: a power of two in 8 bits


def power_code(number: float, mode: str, finite: bool) -> int:
    """The code of a magnitude rounded down (rz) or up (rp): 2^(code - 127); 255 is a NaN."""
    if np.isnan(number):
        return 255
    if np.isinf(number):
        return 254 if finite else 255
    size = Fraction(abs(number))
    below = max((e for e in range(255) if Fraction(2) ** (e - 127) <= size), default=0)
    if mode == "rz" or Fraction(2) ** (below - 127) >= size:
        return below
    return min(below + 1, 254) if finite else below + 1


@pytest.mark.parametrize(("mode", "finite"), [("rz", False), ("rz", True), ("rp", False), ("rp", True)])
def test_powers_of_pairs(runner: Runner, mode: str, finite: bool) -> None:
    words = (rng.integers(0, 2**32, (48, 1), dtype=np.uint64)).astype(np.uint32)
    words[:8, 0] = [0, 0x00010001, 0x7F7F7F80, 0xFF80FFC0, 0x3F803F81, 0x00800081, 0x7F007EFF, 0x80000040]
    name = f"cvt.{mode}{'.satfinite' if finite else ''}.ue8m0x2.bf16x2"
    got = run_lanes(runner, f"{name} %h0, %i0; cvt.u32.u16 %o0, %h0;", words, 1, **TARGET)[:, 0]
    with np.errstate(invalid="ignore"):  # signalling NaNs
        halves = words.view(np.uint16).reshape(-1, 2).view(ml_dtypes.bfloat16).astype(np.float64)
    codes = [[power_code(x, mode, finite) for x in row] for row in halves]
    assert got.tolist() == [high << 8 | low for low, high in codes]


def test_pairs_of_powers(runner: Runner) -> None:
    codes = np.arange(256, dtype=np.uint32)
    words = (codes | codes[::-1] << np.uint32(8))[:, None]
    code = "cvt.u16.u32 %h0, %i0; cvt.rn.bf16x2.ue8m0x2 %o0, %h0;"
    got = run_lanes(runner, code, words, 1, **TARGET).view(np.uint16).view(ml_dtypes.bfloat16)
    expected = np.where(codes == 255, np.nan, 2.0 ** (codes - 127.0))
    np.testing.assert_array_equal(
        got.astype(np.float64), np.stack([expected, expected[::-1]], axis=1).reshape(256, 2)
    )


# --- accesses of 256 bits


@pytest.mark.parametrize(("kind", "count"), [("b32", 8), ("f32", 8), ("b64", 4)])
def test_wide_vectors(runner: Runner, kind: str, count: int) -> None:
    """A kernel loads vectors, reverses their elements and stores them."""
    ptx = f"""
.version 8.8
.target sm_100
.address_size 64
.visible .entry k(.param .u64 data) {{
.reg .b64 %p; .reg .b32 %t; .reg .{kind} %v<8>;
ld.param.u64 %p, [data]; mov.u32 %t, %tid.x; mad.wide.u32 %p, %t, 32, %p;
ld.global.v{count}.{kind} {{{", ".join(f"%v{k}" for k in range(count))}}}, [%p];
st.global.v{count}.{kind} [%p], {{{", ".join(f"%v{k}" for k in reversed(range(count)))}}};
ret; }}
"""
    dtype = {"b32": np.uint32, "f32": np.float32, "b64": np.uint64}[kind]
    rows = rng.integers(0, 1 << 24, (64, count)).astype(dtype)
    got = runner.run(ptx, "k", rows, block=(64,)).arrays[0]
    np.testing.assert_array_equal(got, rows[:, ::-1])


def test_wide_vectors_in_shared_memory(runner: Runner) -> None:
    words = rng.integers(0, 2**32, (64, 8), dtype=np.uint64).astype(np.uint32)
    code = """
mov.u32 %b0, m; mad.lo.u32 %b1, %me, 32, %b0; xor.b32 %b2, %me, 1; mad.lo.u32 %b2, %b2, 32, %b0;
mov.b64 %x0, {%i0, %i1}; mov.b64 %x1, {%i2, %i3}; mov.b64 %x2, {%i4, %i5}; mov.b64 %x3, {%i6, %i7};
st.shared.v4.b64 [%b1], {%x0, %x1, %x2, %x3}; bar.sync 0; ld.shared.v4.b64 {%x4, %x5, %x6, %x7}, [%b2];
mov.b64 {%o0, %o1}, %x4; mov.b64 {%o2, %o3}, %x5; mov.b64 {%o4, %o5}, %x6; mov.b64 {%o6, %o7}, %x7;"""
    got = run_lanes(runner, code, words, 8, declarations=".shared .align 32 .b8 m[2048];", **TARGET)
    np.testing.assert_array_equal(got, words[np.arange(64) ^ 1])
