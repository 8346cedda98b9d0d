"""Small floating-point formats and packed arithmetic, against ml_dtypes and exact fractions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import ieee
import ml_dtypes
import numpy as np
import pytest
from exec_runner import ISAS, Runner, find_program, run_lanes
from ieee import F16, F32, Format

BF16 = Format(16, 7)
rng = np.random.default_rng(11)


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def f32(bits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bits, np.uint32).view(np.float32)


def bits32(numbers: np.ndarray | list[float]) -> np.ndarray:
    return np.asarray(numbers, np.float32).view(np.uint32)


def singles(count: int = 1024) -> np.ndarray:
    """Patterns of f32 around the ranges of small formats, ties and limits among them."""
    near = rng.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32)
    exponents = rng.integers(127 - 20, 127 + 20, count).astype(np.uint32) << 23
    shaped = (near & np.uint32(0x807FFFFF)) | exponents
    shaped[: count // 2] &= np.uint32(0xFFF00000)  # few bits: many ties
    special = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1.0,
        448,
        449,
        464,
        465,
        480,
        57344,
        61440,
        65504,
        65520,
        6,
        6.5,
    ]
    special += [0.25, 0.125, 0.0625, 7.5, 28, 30, 31, 2.0**-9, 2.0**-10, 2.0**-16, 2.0**-17, 3.3e38, 1e-40]
    shaped[: 2 * len(special)] = bits32(special + [-x for x in special])
    return shaped


def encode(number: float, dtype: type, largest: float, nan: int | None, relu: bool = False) -> int:
    """The code of a number in a format, to nearest and saturating to finite values."""
    if np.isnan(number):
        return nan if nan is not None else int(np.array(largest, dtype).view(np.uint8))
    if relu and not number > 0:
        number = 0.0
    return int(np.array(np.clip(number, -largest, largest), np.float32).astype(dtype).view(np.uint8))


SMALL = {
    "e4m3x2": (ml_dtypes.float8_e4m3fn, 448.0, 0x7F, 0xFF),
    "e5m2x2": (ml_dtypes.float8_e5m2, 57344.0, 0x7F, 0xFF),
    "e2m3x2": (ml_dtypes.float6_e2m3fn, 7.5, None, 0x3F),
    "e3m2x2": (ml_dtypes.float6_e3m2fn, 28.0, None, 0x3F),
    "e2m1x2": (ml_dtypes.float4_e2m1fn, 6.0, None, 0x0F),
}


def test_encode_oracle_is_strict() -> None:
    """The oracle rounds ties to even: 1.0625 lies between the e4m3 numbers 1 and 1.125."""
    assert encode(1.0625, ml_dtypes.float8_e4m3fn, 448, 0x7F) == 0x38
    assert encode(1.1875, ml_dtypes.float8_e4m3fn, 448, 0x7F) == 0x3A


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("source", ["f32", "f16x2", "bf16x2"])
def test_to_small(runner: Runner, kind: str, relu: bool, source: str) -> None:
    dtype, largest, nan, _ = SMALL[kind]
    a, b = singles(), rng.permutation(singles())
    if source == "f32":
        words, given = np.stack([a, b], axis=1), (f32(a), f32(b))
        operands = "%f0, %f1"
        move = "mov.b32 %f0, %i0; mov.b32 %f1, %i1;"
    else:
        half = np.float16 if source == "f16x2" else ml_dtypes.bfloat16
        with np.errstate(over="ignore"):
            high, low = f32(a).astype(half), f32(b).astype(half)
        pair = high.view(np.uint16).astype(np.uint32) << 16 | low.view(np.uint16)
        words, given = pair[:, None], (high.astype(np.float32), low.astype(np.float32))
        operands, move = "%i0", ""
    name = f"cvt.rn.satfinite{'.relu' if relu else ''}.{kind}.{source}"
    nibbles = kind == "e2m1x2"
    if nibbles:
        code = f"{move} {name} %e, {operands}; cvt.u32.u8 %o0, %e;"
    else:
        code = f"{move} {name} %h0, {operands}; cvt.u32.u16 %o0, %h0;"
    got = run_lanes(runner, code, words, 1, declarations=".reg .b8 %e;", target="sm_100a")[:, 0]
    codes = [[encode(x, dtype, largest, nan, relu) for x in part] for part in given]
    width = 4 if nibbles else 8
    expected = [h << width | low for h, low in zip(*codes, strict=True)]
    assert [hex(x) for x in got] == [hex(x) for x in expected]


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("half", ["f16x2", "bf16x2"])
@pytest.mark.parametrize("relu", [False, True])
def test_from_small(runner: Runner, kind: str, half: str, relu: bool) -> None:
    dtype, _, _, mask = SMALL[kind]
    width = 4 if kind == "e2m1x2" else 8
    codes = np.arange(256, dtype=np.uint32)
    pairs = (codes & mask) | (codes[::-1] & mask) << width
    source = "%e" if width == 4 else "%h0"
    move = "cvt.u8.u32 %e, %i0;" if width == 4 else "cvt.u16.u32 %h0, %i0;"
    code = f"{move} cvt.rn{'.relu' if relu else ''}.{half}.{kind} %o0, {source};"
    got = run_lanes(runner, code, pairs[:, None], 1, declarations=".reg .b8 %e;", target="sm_100a")[:, 0]
    target = np.float16 if half == "f16x2" else ml_dtypes.bfloat16
    decoded = (codes & mask).astype(np.uint8).view(dtype).astype(np.float32)
    if relu:  # NaNs stay
        decoded = np.maximum(decoded, 0)
    for shift, numbers in ((0, decoded), (16, decoded[::-1])):
        part = (got >> shift & 0xFFFF).astype(np.uint16).view(target).astype(np.float32)
        np.testing.assert_array_equal(part, numbers)


@pytest.mark.parametrize("mode", ["rz", "rp"])
@pytest.mark.parametrize("finite", [False, True])
def test_powers_of_two(runner: Runner, mode: str, finite: bool) -> None:
    """ue8m0: the exponent of the magnitude, down or up; 0 is 2^-127 and 255 a NaN."""
    a = singles()

    def rule(x: float) -> int:
        if np.isnan(x):
            return 0xFF
        if np.isinf(x):
            return 0xFE if finite else 0xFF
        size = Fraction(abs(float(x)))
        code = next(
            (e for e in range(256) if Fraction(2) ** (e - 127) >= size), 255
        )  # rounded up: the smallest power that is not below
        if mode == "rz" and (code == 255 or Fraction(2) ** (code - 127) > size):
            code = max(code - 1, 0)
        return 0xFE if finite and code == 0xFF else code

    name = f"cvt.{mode}{'.satfinite' if finite else ''}.ue8m0x2.f32"
    code = f"mov.b32 %f0, %i0; {name} %h0, 0f3F800000, %f0; cvt.u32.u16 %o0, %h0;"
    got = run_lanes(runner, code, a[:, None], 1, target="sm_100a")[:, 0]
    assert got.tolist() == [127 << 8 | rule(x) for x in f32(a)]


TF32 = Format(19, 10)


@pytest.mark.parametrize("mode", ["rn", "rz", "rna"])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("finite", [False, True])
def test_tf32(runner: Runner, mode: str, relu: bool, finite: bool) -> None:
    if mode == "rna" and relu:
        pytest.skip("PTX has no such form")
    a = singles()
    a[-3:] = 0x7F7FFFFF, 0xFF7FFFFF, 0x7F7FF000

    def rule(bits: int) -> int | None:
        if F32.is_nan(bits):
            return None
        if relu and bits & F32.sign:
            return 0
        if F32.is_inf(bits):
            code = TF32.infinity | (bits >> 13 & TF32.sign)
        elif mode == "rna":
            size = (bits & 0x7FFFFFFF) + 0x1000 >> 13
            code = size | (bits >> 31) << 18
        else:
            code = ieee.convert(F32, TF32, bits, mode)
        if finite and TF32.is_inf(code):
            code -= 1
        return code << 13

    words = f"{'.relu' if relu else ''}{'.satfinite' if finite else ''}"
    code = f"mov.b32 %f0, %i0; cvt.{mode}{words}.tf32.f32 %o0, %f0;"
    got = run_lanes(runner, code, a[:, None], 1, target="sm_100a")[:, 0]
    for given, out in zip(a.tolist(), got.tolist(), strict=True):
        expected = rule(given)
        if expected is None:
            assert F32.is_nan(out)
        else:
            assert hex(out) == hex(expected), hex(given)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("source", ["s32", "u32", "s64", "u64"])
@pytest.mark.parametrize(("target", "fmt"), [("f16", F16), ("bf16", BF16)], ids=["f16", "bf16"])
def test_integers_to_short(
    runner: Runner, isa: str, mode: str, source: str, target: str, fmt: Format
) -> None:
    if mode in ("rm", "rp") and isa != ISAS[0]:
        pytest.skip("compiled once for all instruction sets")
    width = int(source[1:])
    raw = rng.integers(0, 2**64, 512, dtype=np.uint64) >> rng.integers(0, 64, 512).astype(np.uint64)
    raw[:6] = 0, 1, 2**63, 2**64 - 1, 2**53 + 1, (2**62 + 2**54) + 1
    raw[6:70] = (np.uint64(0x101) << np.arange(64, dtype=np.uint64) % np.uint64(55)) + np.uint64(1)
    words = np.stack([raw & np.uint64(0xFFFFFFFF), raw >> np.uint64(32)], axis=1).astype(np.uint32)
    register = "%b0" if width == 32 else "%x0"
    move = "mov.b32 %b0, %i0;" if width == 32 else "mov.b64 %x0, {%i0, %i1};"
    code = f"{move} cvt.{mode}.{target}.{source} %h0, {register}; cvt.u32.u16 %o0, %h0;"
    got = run_lanes(runner, code, words, 1, target="sm_90", isa=isa)[:, 0]
    numbers = (
        (raw & np.uint64(2**width - 1))
        .astype(f"uint{width}")
        .view(f"{'u' if source[0] == 'u' else ''}int{width}")
    )
    expected = [ieee.encode(fmt, Fraction(int(x)), mode) for x in numbers]
    assert got.tolist() == expected


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("kind", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize(
    "op", ["add", "sub", "mul", "fma", "fma.rn.relu", "min", "max", "min.NaN", "max.NaN"]
)
def test_packed_arithmetic(runner: Runner, isa: str, kind: str, dtype: type, op: str) -> None:
    """Pairs: each half is what one number alone would be, rounded once."""
    fmt = F16 if kind == "f16" else BF16
    short = rng.integers(0, 2**16, (300, 6)).astype(np.uint16)
    short[: len(EDGES) ** 2, 0:2] = short[: len(EDGES) ** 2, 2:4]
    edges = np.array([fmt.infinity if e == "inf" else fmt.nan if e == "nan" else e for e in EDGES], np.uint16)
    for row, (x, y) in enumerate(itertools.product(edges, edges)):
        short[row, [0, 2]] = x, y
    words = short.view(np.uint32).reshape(300, 3)
    name = f"{op}.{kind}x2" if "relu" in op or (op[0] == "m" and op != "mul") else f"{op}.rn.{kind}x2"
    if op in ("min.NaN", "max.NaN") or op.startswith("fma.rn"):
        name = f"{op}.{kind}x2"
    three = op.startswith("fma")
    code = f"{name} %o0, %i0, %i1{', %i2' if three else ''};"
    got = run_lanes(runner, code, words, 1, target="sm_90", isa=isa).view(np.uint16).reshape(-1)
    rule = RULES[op]
    for place in range(600):
        row, half = divmod(place, 2)
        a, b, c = (int(short[row, 2 * i + half]) for i in range(3))
        expected = rule(fmt, a, b, c)
        out = int(got[place])
        if expected is None or fmt.is_nan(expected):
            assert fmt.is_nan(out), (hex(a), hex(b), hex(c), hex(out))
        else:
            assert out == expected, (hex(a), hex(b), hex(c), hex(out), hex(expected))


EDGES = [0, 0x8000, 1, 0x8001, 0x3F80, "inf", "nan"]


def extreme(fmt: Format, a: int, b: int, largest: bool, nan: bool) -> int:
    if fmt.is_nan(a) or fmt.is_nan(b):
        if nan or (fmt.is_nan(a) and fmt.is_nan(b)):
            return fmt.nan
        return b if fmt.is_nan(a) else a
    key = lambda x: -(x & ~fmt.sign) - 1 if x & fmt.sign else x  # noqa: E731
    return max(a, b, key=key) if largest else min(a, b, key=key)


def relu(fmt: Format, bits: int) -> int:
    return bits if fmt.is_nan(bits) or not bits & fmt.sign else 0


RULES: dict[str, Callable[[Format, int, int, int], int]] = {
    "add": lambda f, a, b, _: ieee.add(f, a, b),
    "sub": lambda f, a, b, _: ieee.sub(f, a, b),
    "mul": lambda f, a, b, _: ieee.mul(f, a, b),
    "fma": lambda f, a, b, c: ieee.fma(f, a, b, c),
    "fma.rn.relu": lambda f, a, b, c: relu(f, ieee.fma(f, a, b, c)),
    "min": lambda f, a, b, _: extreme(f, a, b, False, False),
    "max": lambda f, a, b, _: extreme(f, a, b, True, False),
    "min.NaN": lambda f, a, b, _: extreme(f, a, b, False, True),
    "max.NaN": lambda f, a, b, _: extreme(f, a, b, True, True),
}


@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("kind", ["f16", "bf16", "f16x2", "bf16x2", "f32"])
def test_xorsign(runner: Runner, kind: str, largest: bool, nan: bool) -> None:
    """The magnitude is the extreme of the magnitudes, the sign the product of the signs."""
    fmt = F32 if kind == "f32" else F16 if kind.startswith("f16") else BF16
    words = rng.integers(0, 2**32, (300, 2), dtype=np.uint64).astype(np.uint32)
    edges = [0, 1, fmt.infinity, fmt.nan, fmt.sign, fmt.sign | fmt.infinity, fmt.sign | fmt.nan, 0x3C00]
    for row, (x, y) in enumerate(itertools.product(edges, edges)):
        words[row] = x, y
    name = f"{'max' if largest else 'min'}{'.NaN' if nan else ''}.xorsign.abs.{kind}"
    if kind in ("f16", "bf16"):
        code = f"cvt.u16.u32 %h0, %i0; cvt.u16.u32 %h1, %i1; {name} %h2, %h0, %h1; cvt.u32.u16 %o0, %h2;"
    elif kind == "f32":
        code = f"mov.b32 %f0, %i0; mov.b32 %f1, %i1; {name} %f2, %f0, %f1; mov.b32 %o0, %f2;"
    else:
        code = f"{name} %o0, %i0, %i1;"
    got = run_lanes(runner, code, words, 1, target="sm_90")[:, 0]

    def rule(a: int, b: int) -> int:
        value = extreme(fmt, a & ~fmt.sign, b & ~fmt.sign, largest, nan)
        return fmt.nan if fmt.is_nan(value) else value | ((a ^ b) & fmt.sign)

    parts = [0, 16] if kind.endswith("x2") else [0]
    limit = 2**fmt.width - 1
    for (a, b), out in zip(words.tolist(), got.tolist(), strict=True):
        for shift in parts:
            expected, found = rule(a >> shift & limit, b >> shift & limit), out >> shift & limit
            same = fmt.is_nan(found) if fmt.is_nan(expected) else found == expected
            assert same, (hex(a), hex(b), hex(found), hex(expected))


@pytest.mark.parametrize("op", ["add", "sub", "mul", "fma"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rp"])
def test_pairs_of_singles(runner: Runner, op: str, mode: str) -> None:
    a, b, c = (np.stack([singles(), rng.permutation(singles())], axis=1) for _ in range(3))
    words = np.concatenate([a, b, c], axis=1)
    move = "mov.b64 %x0, {%i0, %i1}; mov.b64 %x1, {%i2, %i3}; mov.b64 %x2, {%i4, %i5};"
    third = ", %x2" if op == "fma" else ""
    code = f"{move} {op}.{mode}.f32x2 %x3, %x0, %x1{third}; mov.b64 {{%o0, %o1}}, %x3;"
    got = run_lanes(runner, code, words, 2, target="sm_100a")
    rule = getattr(ieee, op)
    for row in range(0, len(a), 7):
        for half in range(2):
            given = [int(x[row, half]) for x in ((a, b, c) if op == "fma" else (a, b))]
            expected, out = rule(F32, *given, mode), int(got[row, half])
            assert F32.is_nan(out) if F32.is_nan(expected) else out == expected, [hex(x) for x in given]


def rank(fmt: Format, bits: int) -> Fraction:
    """Numbers in their order; the infinities beyond all others."""
    size = bits & ~fmt.sign
    value = Fraction(2) ** 200 if fmt.is_inf(size) else fmt.value(size)
    return -value if bits & fmt.sign else value


@pytest.mark.parametrize(("kind", "fmt"), [("f16x2", F16), ("bf16x2", BF16)], ids=["f16x2", "bf16x2"])
def test_packed_comparison(runner: Runner, kind: str, fmt: Format) -> None:
    words = rng.integers(0, 2**32, (256, 2), dtype=np.uint64).astype(np.uint32)
    words[:128, 1] = words[:128, 0] ^ (rng.integers(0, 2, 128).astype(np.uint32) << 20)
    words[0] = (fmt.nan << 16 | 0x8000, 0)
    one = 0x3C00 if fmt is F16 else 0x3F80
    code = f"""
setp.ne.u32 %p0, %i0, %i0; setp.lt.{kind} %p1|%p2, %i0, %i1;
selp.u32 %b0, 1, 0, %p1; selp.u32 %b1, 2, 0, %p2; or.b32 %o0, %b0, %b1;
setp.geu.or.{kind} %p3|%p4, %i0, %i1, %p0;
selp.u32 %b0, 1, 0, %p3; selp.u32 %b1, 2, 0, %p4; or.b32 %o1, %b0, %b1; set.le.{kind}.{kind} %o2, %i0, %i1;"""
    got = run_lanes(runner, code, words, 3, target="sm_90")
    for (a, b), out in zip(words.tolist(), got.tolist(), strict=True):
        less, at_least, no_more = 0, 0, 0
        for half in range(2):
            x, y = a >> 16 * half & 0xFFFF, b >> 16 * half & 0xFFFF
            wrong = fmt.is_nan(x) or fmt.is_nan(y)
            lt = not wrong and rank(fmt, x) < rank(fmt, y)
            le = not wrong and rank(fmt, x) <= rank(fmt, y)
            less |= lt << half
            at_least |= (wrong or not lt) << half
            no_more |= (one if le else 0) << 16 * half
        assert out == [less, at_least, no_more], (hex(a), hex(b))


def test_lop3_predicate(runner: Runner) -> None:
    words = rng.integers(0, 4, (64, 4)).astype(np.uint32)
    code = """
setp.ne.u32 %p0, %i3, 0; lop3.or.b32 %o0|%p1, %i0, %i1, %i2, 0x80, %p0; selp.u32 %o1, 1, 0, %p1;
lop3.and.b32 _|%p2, %i0, %i1, %i2, 0x96, %p0; selp.u32 %o2, 1, 0, %p2;"""
    got = run_lanes(runner, code, words, 3)
    a, b, c, p = words.T
    both = a & b & c
    np.testing.assert_array_equal(got[:, 0], both)
    np.testing.assert_array_equal(got[:, 1], (both != 0) | (p != 0))
    np.testing.assert_array_equal(got[:, 2], ((a ^ b ^ c) != 0) & (p != 0))


@pytest.mark.parametrize("op", ["min", "max"])
def test_relu_of_integers(runner: Runner, op: str) -> None:
    words = rng.integers(0, 2**32, (128, 2), dtype=np.uint64).astype(np.uint32)
    code = f"{op}.relu.s32 %o0, %i0, %i1; {op}.relu.s16x2 %o1, %i0, %i1;"
    got = run_lanes(runner, code, words, 2, target="sm_90")
    choose = np.minimum if op == "min" else np.maximum
    whole, halves = words.view(np.int32), words.view(np.int16).reshape(-1, 2, 2)
    np.testing.assert_array_equal(got[:, 0].view(np.int32), np.maximum(choose(whole[:, 0], whole[:, 1]), 0))
    expected = np.maximum(choose(halves[:, 0], halves[:, 1]), 0)
    np.testing.assert_array_equal(got[:, 1].copy().view(np.int16).reshape(-1, 2), expected)


def test_redux_of_floats(runner: Runner) -> None:
    numbers = rng.normal(size=32).astype(np.float32)
    numbers[3] = np.nan
    code = """
mov.b32 %f0, %i0; redux.sync.min.f32 %f1, %f0, -1; redux.sync.max.abs.f32 %f2, %f0, -1;
redux.sync.max.NaN.f32 %f3, %f0, -1; redux.sync.min.f32 %f4, %f0, -1;
mov.b32 %o0, %f1; mov.b32 %o1, %f2; mov.b32 %o2, %f3;"""
    got = run_lanes(runner, code, bits32(numbers)[:, None], 3, target="sm_100a").view(np.float32)
    assert set(got[:, 0].tolist()) == {float(np.nanmin(numbers))}
    assert set(got[:, 1].tolist()) == {float(np.nanmax(np.abs(numbers)))}
    assert np.isnan(got[:, 2]).all()
