"""Matrix instructions of a warp against NumPy (PTX ISA 9.7.15): fragments as the manual draws them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from exec_runner import ILLEGAL_ADDRESS, MISALIGNED, Runner, find_program, run_lanes

rng = np.random.default_rng(7)


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


# Element types: NumPy type of a value's pattern and how values become patterns.
DTYPES = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "tf32": np.float32,
    "f32": np.float32,
    "f64": np.float64,
    "s32": np.int32,
    "s8": np.int8,
    "u8": np.uint8,
}
BITS = {"f16": 16, "bf16": 16, "e4m3": 8, "e5m2": 8, "tf32": 32, "f32": 32, "f64": 64, "s32": 32, "s8": 8}
BITS |= {"u8": 8, "s4": 4, "u4": 4, "b1": 1}
RANGES = {"s8": (-128, 128), "u8": (0, 256), "s4": (-8, 8), "u4": (0, 16), "b1": (0, 2), "s32": (-999, 999)}


def values(kind: str, *shape: int) -> np.ndarray:
    """Random numbers that the type holds exactly; sums of their products are exact in f32."""
    if kind in RANGES:
        return rng.integers(*RANGES[kind], shape).astype(np.int64)
    return (rng.integers(-8, 9, shape) / 4).astype(np.float64)


def codes(kind: str, array: np.ndarray) -> np.ndarray:
    """The patterns of numbers, one a 64-bit integer."""
    if kind in ("s4", "u4", "b1"):
        return (array & (2 ** BITS[kind] - 1)).astype(np.uint64)
    typed = array.astype(DTYPES[kind])
    return typed.view(f"uint{typed.itemsize * 8}").astype(np.uint64)


def fragment(kind: str, matrix: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Registers (32, n): element e of a lane is matrix[places[lane, e]], packed from the lowest bits up."""
    taken = codes(kind, matrix)[places[..., 0], places[..., 1]]
    bits = BITS[kind]
    if bits == 64:
        return np.ascontiguousarray(taken).view(np.uint32).reshape(32, -1)
    per = 32 // bits
    packed = taken.reshape(32, -1, per) << (np.arange(per, dtype=np.uint64) * np.uint64(bits))
    return np.bitwise_or.reduce(packed, axis=2).astype(np.uint32)


def matrix_of(kind: str, registers: np.ndarray, places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The matrix that fragments hold."""
    dtype = np.dtype(DTYPES[kind])
    elements = np.ascontiguousarray(registers).view(dtype).reshape(32, -1)
    out = np.full(shape, 99, np.float64)
    out[places[..., 0], places[..., 1]] = elements.astype(np.float64)
    return out


def places_of(operand: str, kind: str, m: int, n: int, k: int) -> np.ndarray:
    """(32, elements, 2): row and column of every element, from the figures of the manual: a lane's group is
    lane / 4; a register of a or b holds neighbours along k."""
    per = max(32 // BITS[kind], 1)
    found = []
    for lane in range(32):
        group, thread, row = lane // 4, lane % 4, []
        if operand == "a":
            for half_k in range(max(k // (4 * per), 1)):
                for half_m in range(m // 8):
                    row += [(group + 8 * half_m, 4 * per * half_k + thread * per + e) for e in range(per)]
        elif operand == "b":
            for part in range(max(k // (4 * per), 1)):
                row += [(4 * per * part + thread * per + e, group) for e in range(per)]
        else:
            for half_m in range(m // 8):
                row += [(group + 8 * half_m, thread * 2 + e) for e in range(2)]
        found.append(row)
    return np.array(found)


SHAPES = [
    *((16, 8, k, "f16", "f16", d, c) for k in (8, 16) for d in ("f16", "f32") for c in (d,)),
    *((16, 8, k, "bf16", "bf16", "f32", "f32") for k in (8, 16)),
    *((16, 8, k, "tf32", "tf32", "f32", "f32") for k in (4, 8)),
    *((16, 8, k, a, b, "s32", "s32") for k in (16, 32) for a in ("s8", "u8") for b in ("s8", "u8")),
    *((16, 8, k, a, b, "s32", "s32") for k in (32, 64) for a, b in (("s4", "u4"), ("u4", "s4"))),
    (8, 8, 16, "s8", "u8", "s32", "s32"),
    (8, 8, 32, "u4", "s4", "s32", "s32"),
    (8, 8, 4, "f64", "f64", "f64", "f64"),
    *((16, 8, k, "f64", "f64", "f64", "f64") for k in (4, 8, 16)),
    *((16, 8, 32, a, b, "f32", "f32") for a in ("e4m3", "e5m2") for b in ("e4m3", "e5m2")),
    (16, 8, 16, "e4m3", "e5m2", "f16", "f16"),
]


def registers(kind: str, count: int) -> tuple[str, int]:
    """How a fragment of `count` 32-bit words is declared and how many registers that is."""
    return ("x", count // 2) if kind == "f64" else ("i", count)


def run_mma(
    runner: Runner, name: str, kinds: tuple[str, str, str, str], parts: list[np.ndarray]
) -> np.ndarray:
    """d of an instruction, of fragments a, b, c given as words."""
    words = np.concatenate(parts, axis=1)
    text, at, move = [], 0, []
    for kind, part in zip(kinds[1:], parts, strict=True):
        if kind == "f64":
            own = []
            for _ in range(part.shape[1] // 2):
                move.append(f"mov.b64 %x{at // 2}, {{%i{at}, %i{at + 1}}}; mov.b64 %g{at // 2}, %x{at // 2};")
                own.append(f"%g{at // 2}")
                at += 2
        else:
            own = [f"%i{at + i}" for i in range(part.shape[1])]
            at += part.shape[1]
        text.append("{" + ", ".join(own) + "}")
    size = parts[2].shape[1] * BITS[kinds[0]] // BITS[kinds[3]]
    if kinds[0] == "f64":
        to = [f"%d{i}" for i in range(size // 2)]
        after = "".join(f"mov.b64 {{%o{2 * i}, %o{2 * i + 1}}}, %d{i};" for i in range(size // 2))
    else:
        to, after = [f"%o{i}" for i in range(size)], ""
    code = f"{' '.join(move)} {name} {{{', '.join(to)}}}, {', '.join(text)}; {after}"
    return run_lanes(
        runner, code, words, size, target="sm_89", declarations=".reg .f64 %d<8>;"
        if kinds[0] == "f64" else "",
    )  # fmt: skip


@pytest.mark.parametrize(("m", "n", "k", "a", "b", "d", "c"), SHAPES)
def test_mma(runner: Runner, m: int, n: int, k: int, a: str, b: str, d: str, c: str) -> None:
    left, right, start = values(a, m, k), values(b, k, n), values(c, m, n)
    parts = [
        fragment(a, left, places_of("a", a, m, n, k)),
        fragment(b, right, places_of("b", b, m, n, k)),
        fragment(c, start, places_of("c", c, m, n, k)),
    ]
    name = f"mma.sync.aligned.m{m}n{n}k{k}.row.col.{d}.{a}.{b}.{c}"
    got = run_mma(runner, name, (d, a, b, c), parts)
    np.testing.assert_array_equal(
        matrix_of(d, got, places_of("c", d, m, n, k), (m, n)), left @ right + start, name
    )


@pytest.mark.parametrize(("m", "k"), [(8, 128), (16, 128), (16, 256)])
@pytest.mark.parametrize("op", ["xor", "and"])
def test_mma_bits(runner: Runner, m: int, k: int, op: str) -> None:
    left, right, start = values("b1", m, k), values("b1", k, 8), values("s32", m, 8)
    parts = [
        fragment("b1", left, places_of("a", "b1", m, 8, k)),
        fragment("b1", right, places_of("b", "b1", m, 8, k)),
        fragment("s32", start, places_of("c", "s32", m, 8, k)),
    ]
    name = f"mma.sync.aligned.m{m}n8k{k}.row.col.s32.b1.b1.s32.{op}.popc"
    got = run_mma(runner, name, ("s32", "b1", "b1", "s32"), parts)
    both = np.bitwise_xor if op == "xor" else np.bitwise_and
    expected = both(left[:, :, None], right[None, :, :]).sum(axis=1) + start
    np.testing.assert_array_equal(matrix_of("s32", got, places_of("c", "s32", m, 8, k), (m, 8)), expected)


def test_mma_saturates_and_wraps(runner: Runner) -> None:
    left, right = np.full((16, 16), 127), np.full((16, 8), 127)
    start = np.full((16, 8), 2**31 - 100000)
    parts = [
        fragment("s8", left, places_of("a", "s8", 16, 8, 16)),
        fragment("s8", right, places_of("b", "s8", 16, 8, 16)),
        fragment("s32", start, places_of("c", "s32", 16, 8, 16)),
    ]
    sum_ = 127 * 127 * 16 + 2**31 - 100000
    for word, expected in ((".satfinite", 2**31 - 1), ("", sum_ - 2**32)):
        name = f"mma.sync.aligned.m16n8k16.row.col{word}.s32.s8.s8.s32"
        got = run_mma(runner, name, ("s32", "s8", "s8", "s32"), parts)
        assert set(got.view(np.int32).ravel().tolist()) == {expected}


def test_mma_rounds_once_and_spreads_nan(runner: Runner) -> None:
    """f32 sums of f16 products keep what an f16 sum would lose; infinities and NaNs go through."""
    left, right, start = np.zeros((16, 8)), np.zeros((8, 8)), np.zeros((16, 8))
    left[0, :2] = 1024, 2.0**-13
    right[:2, 0] = 1, 1
    left[1, 0] = np.inf
    left[2, 0] = np.nan
    right[0, 1] = 1
    parts = [
        fragment(t, x, places_of(o, t, 16, 8, 8))
        for t, x, o in (("f16", left, "a"), ("f16", right, "b"), ("f32", start, "c"))
    ]
    name = "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"
    got = matrix_of(
        "f32",
        run_mma(runner, name, ("f32", "f16", "f16", "f32"), parts),
        places_of("c", "f32", 16, 8, 8),
        (16, 8),
    )
    assert got[0, 0] == 1024 + 2.0**-13
    assert got[1, 0] == np.inf
    assert np.isnan(got[2, :2]).all()
    assert np.isnan(got[1, 2])  # infinity times zero


@pytest.mark.parametrize("layout_a", ["row", "col"])
@pytest.mark.parametrize("layout_b", ["row", "col"])
@pytest.mark.parametrize("d", ["f16", "f32"])
def test_mma_of_quads(runner: Runner, layout_a: str, layout_b: str, d: str) -> None:
    """mma.m8n8k4: four products, each by lanes 4q to 4q+3 and 4q+16 to 4q+19."""
    left, right, start = (values("f16", 4, *s) for s in ((8, 4), (4, 8), (8, 8)))
    a, b = np.zeros((32, 4)), np.zeros((32, 4))
    c, where = np.zeros((32, 8)), np.zeros((32, 8, 3), int)
    for lane in range(32):
        quad, t, high = lane % 16 // 4, lane % 4, 4 * (lane >= 16)
        for i in range(4):
            a[lane, i] = left[quad][(t + high, i) if layout_a == "row" else (i + high, t)]
            b[lane, i] = right[quad][(t, i + high) if layout_b == "row" else (i, t + high)]
        for i in range(8):
            place = (
                (t + high, i) if d == "f16" else ((lane & 1) + (i & 2) + high, (i & 4) + (lane & 2) + (i & 1))
            )
            where[lane, i] = (quad, *place)
            c[lane, i] = start[(quad, *place)]
    dtype = np.float16 if d == "f16" else np.float32
    parts = [x.astype(t).view(np.uint32) for x, t in ((a, np.float16), (b, np.float16), (c, dtype))]
    name = f"mma.sync.aligned.m8n8k4.{layout_a}.{layout_b}.{d}.f16.f16.{d}"
    got = run_mma(runner, name, (d, "f16", "f16", d), parts).view(dtype).reshape(32, 8)
    expected = (left @ right + start)[where[..., 0], where[..., 1], where[..., 2]]
    np.testing.assert_array_equal(got.astype(np.float64), expected)


# --- wmma


def wmma_registers(kind: str, elements: int) -> int:
    return 8 if kind == "f16" else max(elements * BITS[kind] // 1024, 1)


WMMA = [
    *((m, n, 16, "f16", d) for m, n in ((16, 16), (32, 8), (8, 32)) for d in ("f16", "f32")),
    *((m, n, 16, "bf16", "f32") for m, n in ((16, 16), (32, 8), (8, 32))),
    *((m, n, 16, t, "s32") for m, n in ((16, 16), (32, 8), (8, 32)) for t in ("s8", "u8")),
    (16, 16, 8, "tf32", "f32"),
    (8, 8, 4, "f64", "f64"),
]


@pytest.mark.parametrize(("m", "n", "k", "kind", "d"), WMMA)
@pytest.mark.parametrize("layouts", ["row.row", "row.col", "col.row", "col.col"])
def test_wmma(runner: Runner, m: int, n: int, k: int, kind: str, d: str, layouts: str) -> None:
    """Load, multiply, store; leading dimensions larger than the matrix."""
    layout_a, layout_b = layouts.split(".")
    pad = 16 // (BITS[kind] // 8) if BITS[kind] >= 8 else 16

    def stored(matrix: np.ndarray, layout: str, t: str) -> tuple[np.ndarray, int]:
        lines = matrix if layout == "row" else matrix.T
        wide = np.zeros((lines.shape[0], lines.shape[1] + pad))
        wide[:, : lines.shape[1]] = lines
        return wide.astype(DTYPES[t]), wide.shape[1]

    left, right, start = values(kind, m, k), values(kind, k, n), values(d, m, n)
    a, stride_a = stored(left, layout_a, kind)
    b, stride_b = stored(right, layout_b, kind)
    c, stride_c = stored(start, layout_b, d)
    out = np.zeros((m, n), DTYPES[d]) if layout_a == "row" else np.zeros((n, m), DTYPES[d])
    wide = kind == "f64"
    reg, words = (".f64", 2) if wide else (".f32" if d == "f32" else ".b32", 1)
    c_count = m * n * BITS[d] // 1024 // words
    a_count, b_count = (1, 1) if wide else (wmma_registers(kind, m * k), wmma_registers(kind, k * n))
    list_of = lambda name, count: "{" + ", ".join(f"%{name}{i}" for i in range(count)) + "}"  # noqa: E731
    shape = f"m{m}n{n}k{k}"
    in_type = {"f64": ".f64"}.get(kind, ".b32")
    types = {"f16": f"{d}.{d}", "f64": "f64.f64.f64.f64"}.get(kind, f"{d}.{kind}.{kind}.{d}")
    ptx = f"""
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d) {{
.reg .b64 %p<5>; .reg {in_type} %a<9>; .reg {in_type} %b<9>; .reg {reg} %c<9>; .reg {reg} %d<9>; .reg .b32 %s;
ld.param.u64 %p0, [a]; ld.param.u64 %p1, [b]; ld.param.u64 %p2, [c]; ld.param.u64 %p3, [d];
mov.u32 %s, {stride_b};
wmma.load.a.sync.aligned.{layout_a}.{shape}.global.{kind} {list_of("a", a_count)}, [%p0], {stride_a};
wmma.load.b.sync.aligned.{layout_b}.{shape}.global.{kind} {list_of("b", b_count)}, [%p1], %s;
wmma.load.c.sync.aligned.{layout_b}.{shape}.{d} {list_of("c", c_count)}, [%p2], {stride_c};
wmma.mma.sync.aligned.{layout_a}.{layout_b}.{shape}.{types} {list_of("d", c_count)}, {list_of("a", a_count)},
  {list_of("b", b_count)}, {list_of("c", c_count)};
wmma.store.d.sync.aligned.{layout_a}.{shape}.global.{d} [%p3], {list_of("d", c_count)};
ret; }}
"""
    got = runner.run(ptx, "k", a, b, c, out).arrays[3]
    result = got if layout_a == "row" else got.T
    np.testing.assert_array_equal(result.astype(np.float64), left @ right + start)


def test_wmma_outside(runner: Runner) -> None:
    ptx = """
.visible .entry k(.param .u64 a, .param .u32 shift) {
.reg .b64 %p<3>; .reg .b32 %a<9>; .reg .b32 %s;
ld.param.u64 %p0, [a]; ld.param.u32 %s, [shift]; cvt.u64.u32 %p1, %s; add.u64 %p0, %p0, %p1;
wmma.load.a.sync.aligned.row.m16n16k16.f16 {%a0, %a1, %a2, %a3, %a4, %a5, %a6, %a7}, [%p0], 16;
ret; }
"""
    memory = np.zeros(512, np.uint8)
    runner.run(ptx, "k", memory, 0)
    runner.run(ptx, "k", memory, 16, fault=ILLEGAL_ADDRESS)
    runner.run(ptx, "k", np.zeros(600, np.uint8), 1, fault=MISALIGNED)


# --- ldmatrix, stmatrix, movmatrix


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(runner: Runner, count: int, transposed: bool) -> None:
    """Matrices whose rows lie in any order: lane i gives the address of row i."""
    rows = rng.integers(0, 2**16, (32, 8)).astype(np.uint16)
    order = rng.permutation(32).astype(np.uint32)
    words = np.concatenate([rows.view(np.uint32), order[:, None]], axis=1)
    names = ", ".join(f"%o{i}" for i in range(count))
    code = f"""
mov.u32 %b0, m; mad.lo.u32 %b1, %me, 16, %b0; st.shared.v4.b32 [%b1], {{%i0, %i1, %i2, %i3}};
bar.warp.sync -1;
mad.lo.u32 %b1, %i4, 16, %b0;
ldmatrix.sync.aligned.m8n8.x{count}{".trans" if transposed else ""}.shared.b16 {{{names}}}, [%b1];"""
    got = run_lanes(runner, code, words, count, declarations=".shared .align 16 .b8 m[512];")
    for i in range(count):
        matrix = rows[order[8 * i : 8 * i + 8]]
        expected = (matrix.T if transposed else matrix).copy().view(np.uint32)
        np.testing.assert_array_equal(got[:, i].reshape(8, 4), expected)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_stmatrix(runner: Runner, count: int, transposed: bool) -> None:
    fragments = rng.integers(0, 2**32, (32, count), dtype=np.uint64).astype(np.uint32)
    names = ", ".join(f"%i{i}" for i in range(count))
    code = f"""
mov.u32 %b0, m; mad.lo.u32 %b1, %me, 16, %b0;
stmatrix.sync.aligned.m8n8.x{count}{".trans" if transposed else ""}.shared.b16 [%b1], {{{names}}};
bar.warp.sync -1; ld.shared.v4.b32 {{%o0, %o1, %o2, %o3}}, [%b1];"""
    got = run_lanes(
        runner, code, fragments, 4, declarations=".shared .align 16 .b8 m[512];", target="sm_90"
    ).view(np.uint16)
    for i in range(count):
        matrix = fragments[:, i].copy().view(np.uint16).reshape(8, 8)
        np.testing.assert_array_equal(got[8 * i : 8 * i + 8], matrix.T if transposed else matrix)


def test_movmatrix(runner: Runner) -> None:
    fragments = rng.integers(0, 2**32, (32, 1), dtype=np.uint64).astype(np.uint32)
    got = run_lanes(runner, "movmatrix.sync.aligned.m8n8.trans.b16 %o0, %i0;", fragments, 1)
    before, after = (x.view(np.uint16).reshape(8, 8) for x in (fragments, got))
    np.testing.assert_array_equal(after, before.T)


def test_ldmatrix_misaligned(runner: Runner) -> None:
    code = "mov.u32 %b0, m; add.u32 %b0, %b0, 8; ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%o0}, [%b0];"
    run_lanes(
        runner,
        code,
        np.zeros((32, 1), np.uint32),
        1,
        declarations=".shared .align 16 .b8 m[512];",
        fault=MISALIGNED,
    )
