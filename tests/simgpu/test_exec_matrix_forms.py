"""The forms of mma and wmma beside those of test_exec_matrix.py, against NumPy (PTX ISA 9.7.15).

Every pair of integer types with and without saturation; loads and stores of wmma in every type and layout."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from exec_runner import Runner, find_program
from test_exec_matrix import BITS, DTYPES, RANGES, fragment, matrix_of, places_of, run_mma

rng = np.random.default_rng(23)
LIMITS = np.iinfo(np.int32)


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def numbers(kind: str, *shape: int) -> np.ndarray:
    """Random values that the type holds exactly: all of an integer type, quarters of a floating-point one."""
    if kind in RANGES and kind != "s32":
        return rng.integers(*RANGES[kind], shape).astype(np.int64)
    if kind == "s32":  # a third near each limit, so that sums leave the type on both sides
        low, high = LIMITS.min, LIMITS.max
        near = rng.integers(0, 50, shape)
        return np.choose(rng.integers(0, 3, shape), [low + near, near, high - near]).astype(np.int64)
    return (rng.integers(-8, 9, shape) / 4).astype(np.float64)


def in_s32(sums: np.ndarray, saturate: bool) -> np.ndarray:
    """Sums as 32-bit integers: clamped, or what is left of them."""
    if saturate:
        return np.clip(sums, LIMITS.min, LIMITS.max)
    return sums.astype(np.uint32).view(np.int32).astype(np.int64)


INTEGER_SHAPES = [
    *((m, k, s, t) for m, k in ((8, 16), (16, 16), (16, 32)) for s, t in product(("s8", "u8"), repeat=2)),
    *((m, k, s, t) for m, k in ((8, 32), (16, 32), (16, 64)) for s, t in product(("s4", "u4"), repeat=2)),
]


@pytest.mark.parametrize("saturate", [False, True], ids=["wraps", "satfinite"])
@pytest.mark.parametrize(("m", "k", "a", "b"), INTEGER_SHAPES)
def test_integer_products(runner: Runner, m: int, k: int, a: str, b: str, saturate: bool) -> None:
    left, right, start = numbers(a, m, k), numbers(b, k, 8), numbers("s32", m, 8)
    parts = [
        fragment(kind, matrix, places_of(part, kind, m, 8, k))
        for kind, matrix, part in ((a, left, "a"), (b, right, "b"), ("s32", start, "c"))
    ]
    name = f"mma.sync.aligned.m{m}n8k{k}.row.col{'.satfinite' if saturate else ''}.s32.{a}.{b}.s32"
    got = run_mma(runner, name, ("s32", a, b, "s32"), parts)
    exact = left @ right + start
    assert exact.max() > LIMITS.max, "the operands test nothing"
    np.testing.assert_array_equal(
        matrix_of("s32", got, places_of("c", "s32", m, 8, k), (m, 8)), in_s32(exact, saturate)
    )


@pytest.mark.parametrize(("a", "b"), list(product(("e4m3", "e5m2"), repeat=2)))
def test_eight_bit_floats_to_half(runner: Runner, a: str, b: str) -> None:
    left, right, start = numbers(a, 16, 16), numbers(b, 16, 8), numbers("f16", 16, 8)
    parts = [
        fragment(kind, matrix, places_of(part, kind, 16, 8, 16))
        for kind, matrix, part in ((a, left, "a"), (b, right, "b"), ("f16", start, "c"))
    ]
    got = run_mma(runner, f"mma.sync.aligned.m16n8k16.row.col.f16.{a}.{b}.f16", ("f16", a, b, "f16"), parts)
    np.testing.assert_array_equal(
        matrix_of("f16", got, places_of("c", "f16", 16, 8, 16), (16, 8)), left @ right + start
    )


# --- wmma: what a load takes from memory reaches the product and the store


def packed(kind: str, matrix: np.ndarray) -> np.ndarray:
    """Lines of a matrix as memory has them: below 8 bits, the first element lies in the lowest bits."""
    bits = BITS[kind]
    if bits >= 8:
        return np.ascontiguousarray(matrix.astype(DTYPES[kind]))
    codes = (matrix & (2**bits - 1)).astype(np.uint8).reshape(matrix.shape[0], -1, 8 // bits)
    return np.bitwise_or.reduce(codes << (np.arange(8 // bits) * bits).astype(np.uint8), axis=2)


def register_count(kind: str, elements: int) -> int:
    return elements // 32 if kind == "f64" else max(elements * BITS[kind] // 1024, 1)


def fragment_list(name: str, count: int) -> str:
    return "{" + ", ".join(f"%{name}{i}" for i in range(count)) + "}"


def copies(bytes_of: list[int]) -> str:
    """Every lane copies its share of the operands into the shared arrays s0 and s1."""
    code = ""
    for place, size in enumerate(bytes_of):
        code += f"mov.u32 %s1, s{place}; mov.u32 %s0, %tid.x; shl.b32 %s0, %s0, 2;\n"
        code += f"COPY{place}: setp.ge.u32 %t, %s0, {size}; @%t bra DONE{place};\n"
        code += f"cvt.u64.u32 %p4, %s0; add.u64 %p5, %p{place}, %p4; ld.global.b32 %s2, [%p5];\n"
        code += f"add.u32 %s3, %s1, %s0; st.shared.b32 [%s3], %s2; add.u32 %s0, %s0, 128; bra COPY{place};\n"
        code += f"DONE{place}: cvt.u64.u32 %p{place}, %s1; bar.warp.sync -1;\n"
    return code


def wmma_product(
    runner: Runner,
    shape: tuple[int, int, int],
    kind: str,
    result: str,
    layouts: str,
    where: str,
    note: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """What a kernel stored, and the exact product. `where` is the space of the loads of a and b."""
    m, n, k = shape
    by_row = [word == "row" for word in layouts.split(".")]
    left, right, start = numbers(kind, m, k), numbers(kind, k, n), numbers(result, m, n)
    a, b = (
        packed(kind, matrix if row else matrix.T) for matrix, row in zip((left, right), by_row, strict=True)
    )
    c = packed(result, start if by_row[0] else start.T)
    strides = [k if by_row[0] else m, n if by_row[1] else k, n if by_row[0] else m]
    counts = [register_count(kind, m * k), register_count(kind, k * n), register_count(result, m * n)]
    if kind == "f16":  # each element of a and b is in two lanes
        counts[:2] = 8, 8
    one, other = layouts.split(".")
    short = f"m{m}n{n}k{k}"
    types = {"f16": f"{result}.{result}", "f64": "f64.f64.f64.f64"}.get(
        kind, f"{result}.{kind}.{kind}.{result}"
    )
    operation = ".and.popc" if kind == "b1" else ""
    register = {"f64": ".f64"}.get(kind, ".b32")
    target = {"f64": ".f64", "f32": ".f32"}.get(result, ".b32")
    ptx = f"""
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d) {{
.reg .b64 %p<6>; .reg .b32 %s<4>; .reg .pred %t;
.shared .align 32 .b8 s0[4096]; .shared .align 32 .b8 s1[4096];
.reg {register} %a<9>; .reg {register} %b<9>; .reg {target} %c<9>; .reg {target} %d<9>;
ld.param.u64 %p0, [a]; ld.param.u64 %p1, [b]; ld.param.u64 %p2, [c]; ld.param.u64 %p3, [d];
{copies([a.nbytes, b.nbytes]) if where else ""}
wmma.load.a.sync.aligned.{one}.{short}{where}.{kind} {fragment_list("a", counts[0])}, [%p0], {strides[0]};
wmma.load.b.sync.aligned.{other}.{short}{where}.{kind} {fragment_list("b", counts[1])}, [%p1], {strides[1]};
wmma.load.c.sync.aligned.{one}.{short}.{result} {fragment_list("c", counts[2])}, [%p2], {strides[2]};
wmma.mma{operation}.sync.aligned.{one}.{other}.{short}.{types}{note} {fragment_list("d", counts[2])},
  {fragment_list("a", counts[0])}, {fragment_list("b", counts[1])}, {fragment_list("c", counts[2])};
wmma.store.d.sync.aligned.{one}.{short}.{result} [%p3], {fragment_list("d", counts[2])}, {strides[2]};
ret; }}
"""
    stored = runner.run(ptx, "k", a, b, c, np.zeros_like(c)).arrays[3]
    return (stored if by_row[0] else stored.T).astype(np.float64), left @ right + start


HALVES = [((m, n, 16), "f16", d) for m, n in ((16, 16), (32, 8), (8, 32)) for d in ("f16", "f32")]
OTHERS = [
    *(((16, 16, 16), kind, "f32") for kind in ("bf16",)),
    *(((m, n, 16), kind, "s32") for m, n in ((16, 16), (8, 32)) for kind in ("s8", "u8")),
    ((16, 16, 8), "tf32", "f32"),
    ((8, 8, 4), "f64", "f64"),
]


@pytest.mark.parametrize("layouts", ["row.row", "col.col"])
@pytest.mark.parametrize("where", ["", ".shared"], ids=["generic", "shared"])
@pytest.mark.parametrize(("shape", "kind", "result"), HALVES + OTHERS)
def test_loads_and_stores(
    runner: Runner, shape: tuple[int, int, int], kind: str, result: str, layouts: str, where: str
) -> None:
    got, exact = wmma_product(runner, shape, kind, result, layouts, where)
    np.testing.assert_array_equal(got, in_s32(exact, False) if result == "s32" else exact)


@pytest.mark.parametrize("layouts", [".".join(pair) for pair in product(("row", "col"), repeat=2)])
@pytest.mark.parametrize("kind", ["s8", "u8"])
def test_saturating_products(runner: Runner, kind: str, layouts: str) -> None:
    got, exact = wmma_product(runner, (16, 16, 16), kind, "s32", layouts, "", ".satfinite")
    assert exact.max() > LIMITS.max, "the operands test nothing"
    np.testing.assert_array_equal(got, in_s32(exact, True))


@pytest.mark.parametrize(("kind", "k"), [("s4", 32), ("u4", 32), ("b1", 128)])
def test_elements_below_a_byte(runner: Runner, kind: str, k: int) -> None:
    """For bits, the products are those of the single bits: .and, counted."""
    got, exact = wmma_product(runner, (8, 8, k), kind, "s32", "row.col", "")
    np.testing.assert_array_equal(got, in_s32(exact, False))
