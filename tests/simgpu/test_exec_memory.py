"""Memory as kernels meet it: access patterns, spaces, atomics, and the faults of bad addresses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exec_runner import ILLEGAL_ADDRESS, ISAS, MISALIGNED, Runner, find_program


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def copy_kernel(kind: str, register: str, scale: int) -> str:
    """out[i] = in[index[i]], element by element."""
    return f"""
.visible .entry copy(.param .u64 out, .param .u64 in, .param .u64 index, .param .u32 n)
{{
  .reg .pred %p<2>; .reg .b32 %r<6>; .reg .b64 %rd<9>; .reg .{register} %v;
  mov.u32 %r1, %tid.x;
  ld.param.u32 %r2, [n];
  setp.ge.u32 %p1, %r1, %r2;
  @%p1 bra done;
  ld.param.u64 %rd1, [out];
  ld.param.u64 %rd2, [in];
  ld.param.u64 %rd3, [index];
  mul.wide.u32 %rd4, %r1, 4;
  add.u64 %rd4, %rd3, %rd4;
  ld.global.u32 %r3, [%rd4];
  mul.wide.s32 %rd5, %r3, {scale};
  add.u64 %rd5, %rd2, %rd5;
  ld.global.{kind} %v, [%rd5];
  mul.wide.u32 %rd6, %r1, {scale};
  add.u64 %rd6, %rd1, %rd6;
  st.global.{kind} [%rd6], %v;
done:
  ret;
}}
"""


PATTERNS = {
    "contiguous": np.arange(32),
    "uniform": np.full(32, 17),
    "reversed": np.arange(31, -1, -1),
    "strided": np.arange(32) * 3,
    "scattered": (np.arange(32) * 37) % 101,
    "two rows": np.repeat([5, 21], 16),
    "shifted": np.arange(32) + 68,
}
KINDS = {"u8": ("u16", 1), "u16": ("u16", 2), "u32": ("u32", 4), "u64": ("u64", 8), "f64": ("f64", 8)}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("count", [32, 19, 1])
def test_every_access_pattern_reads_the_right_elements(runner: Runner, isa: str, count: int) -> None:
    for kind, (register, size) in KINDS.items():
        data = np.frombuffer(np.random.default_rng(size).bytes(101 * size), dtype=f"u{size}")
        for pattern in PATTERNS.values():
            index = pattern.astype(np.int32)
            done = runner.run(
                copy_kernel(kind, register, size),
                "copy",
                np.zeros(32, f"u{size}"),
                data,
                index,
                count,
                isa=isa,
            )
            assert done.arrays[0][:count].tolist() == data[index[:count]].tolist()
            assert not done.arrays[0][count:].any()


def test_masked_lanes_may_hold_wild_addresses(runner: Runner) -> None:
    index = np.arange(32, dtype=np.int32)
    index[20:] = 1 << 30
    done = runner.run(
        copy_kernel("u32", "u32", 4), "copy", np.zeros(32, "u4"), np.arange(20, dtype="u4"), index, 20
    )
    assert done.arrays[0][:20].tolist() == list(range(20))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("place", "thread"), [(0, 0), (13, 13), (31, 31)])
def test_illegal_address_names_the_thread(runner: Runner, isa: str, place: int, thread: int) -> None:
    index = np.arange(32, dtype=np.int32)
    index[place] = 1 << 24
    done = runner.run(
        copy_kernel("u32", "u32", 4),
        "copy",
        np.zeros(32, "u4"),
        np.zeros(32, "u4"),
        index,
        32,
        isa=isa,
        fault=ILLEGAL_ADDRESS,
    )
    assert done.report["thread"] == [thread, 0, 0]
    assert "kernel copy, PTX line" in done.report["message"]


def test_one_element_past_the_end_is_illegal(runner: Runner) -> None:
    index = np.arange(1, 33, dtype=np.int32)
    runner.run(
        copy_kernel("u32", "u32", 4),
        "copy",
        np.zeros(32, "u4"),
        np.zeros(32, "u4"),
        index,
        32,
        fault=ILLEGAL_ADDRESS,
    )


@pytest.mark.parametrize("isa", ISAS)
def test_misaligned_access_is_a_fault_of_its_own(runner: Runner, isa: str) -> None:
    kernel = copy_kernel("u32", "u32", 4).replace("mul.wide.s32 %rd5, %r3, 4", "mul.wide.s32 %rd5, %r3, 1")
    index = np.arange(32, dtype=np.int32) * 4
    runner.run(kernel, "copy", np.zeros(32, "u4"), np.zeros(64, "u4"), index, 32, isa=isa)
    index[9] += 2
    done = runner.run(
        kernel, "copy", np.zeros(32, "u4"), np.zeros(64, "u4"), index, 32, isa=isa, fault=MISALIGNED
    )
    assert done.report["thread"] == [9, 0, 0]


# A block-wide transposition through shared memory, by generic addresses; local memory by a computed index.
SPACES = """
.visible .entry spaces(.param .u64 out)
{
  .shared .align 4 .b8 tile[4096];
  .local .align 8 .b8 own[64];
  .reg .pred %p<2>; .reg .b32 %r<12>; .reg .b64 %rd<12>;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %tid.y;
  mad.lo.u32 %r3, %r2, 32, %r1;
  mov.u64 %rd1, tile;
  cvta.shared.u64 %rd2, %rd1;
  mul.wide.u32 %rd3, %r3, 4;
  add.u64 %rd4, %rd2, %rd3;
  st.u32 [%rd4], %r3;
  bar.sync 0;
  mad.lo.u32 %r4, %r1, 32, %r2;
  shl.b32 %r4, %r4, 2;
  mov.u32 %r5, tile;
  add.u32 %r5, %r5, %r4;
  ld.shared.u32 %r6, [%r5];
  mov.u64 %rd5, own;
  and.b32 %r7, %r1, 7;
  mul.wide.u32 %rd6, %r7, 8;
  add.u64 %rd7, %rd5, %rd6;
  st.local.u32 [%rd7], %r6;
  cvta.local.u64 %rd8, %rd7;
  ld.u32 %r8, [%rd8];
  isspacep.local %p1, %rd8;
  selp.u32 %r9, 0, 5000, %p1;
  add.u32 %r8, %r8, %r9;
  ld.param.u64 %rd9, [out];
  add.u64 %rd10, %rd9, %rd3;
  st.global.u32 [%rd10], %r8;
  ret;
}
"""


@pytest.mark.parametrize("isa", ISAS)
def test_shared_and_local_memory_by_own_and_generic_addresses(runner: Runner, isa: str) -> None:
    done = runner.run(SPACES, "spaces", np.zeros((32, 32), "u4"), block=(32, 32), isa=isa)
    assert np.array_equal(done.arrays[0], np.arange(1024).reshape(32, 32).T)


@pytest.mark.parametrize("address", ["4096", "-4", "16777216"])
def test_outside_shared_memory_is_illegal(runner: Runner, address: str) -> None:
    kernel = (
        ".visible .entry bad() { .shared .b8 tile[4096]; .reg .b32 %r<3>; "
        f"mov.u32 %r1, {address}; ld.shared.u32 %r2, [%r1]; st.shared.u32 [%r1], %r2; ret; }}"
    )
    runner.run(kernel, "bad", fault=ILLEGAL_ADDRESS)


VECTORS = """
.visible .entry vectors(.param .u64 out, .param .u64 in)
{
  .reg .b32 %r<8>; .reg .b64 %rd<8>; .reg .f32 %f<5>;
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd1, %r1, 16;
  ld.param.u64 %rd2, [in];
  ld.param.u64 %rd3, [out];
  add.u64 %rd4, %rd2, %rd1;
  add.u64 %rd5, %rd3, %rd1;
  ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd4];
  st.global.v4.f32 [%rd5], {%f4, %f3, %f2, %f1};
  ret;
}
"""


@pytest.mark.parametrize("isa", ISAS)
def test_vector_access_keeps_the_order_of_elements(runner: Runner, isa: str) -> None:
    data = np.arange(45 * 4, dtype=np.float32).reshape(45, 4)
    done = runner.run(VECTORS, "vectors", np.zeros((45, 4), np.float32), data, block=(45,), isa=isa)
    assert np.array_equal(done.arrays[0], data[:, ::-1])


def atomic_kernel(operation: str, kind: str, operands: str, space: str) -> str:
    width = kind[1:].replace("16x2", "32")
    shared = space == "shared"
    base = "mov.u64 %rd3, cell;" if shared else "mov.u64 %rd3, %rd1;"
    finish = (
        f"bar.sync 0; ld.shared.b{width} %old, [cell]; st.global.b{width} [%rd1], %old;" if shared else ""
    )
    return f"""
.visible .entry atomic(.param .u64 cell_address)
{{
  .shared .align 8 .b8 cell[8];
  .reg .b32 %r<4>; .reg .b64 %rd<4>; .reg .b{width} %old, %x; .reg .f{width if width != "16" else "32"} %fx;
  ld.param.u64 %rd1, [cell_address];
  {base}
  mov.u32 %r1, %tid.x;
  {f"ld.global.b{width} %old, [%rd1]; st.shared.b{width} [cell], %old; bar.sync 0;" if shared else ""}
  {operands}
  {finish}
  ret;
}}
"""


@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomics_from_many_threads_lose_nothing(runner: Runner, space: str) -> None:
    cases = [
        ("add", "u32", "add.u32 %x, %r1, 1; atom.{s}.add.u32 %old, [%rd3], %x;", "u4", 5,
         5 + sum(range(1, 257))),
        ("max", "s32", "sub.s32 %x, %r1, 9; atom.{s}.max.s32 %old, [%rd3], %x;", "i4", -20, 246),
        ("min", "u32", "add.u32 %x, %r1, 3; red.{s}.min.u32 [%rd3], %x;", "u4", 1000, 3),
        ("inc", "u32", "mov.u32 %x, 99; atom.{s}.inc.u32 %old, [%rd3], %x;", "u4", 0, 256 % 100),
        ("dec", "u32", "mov.u32 %x, 99; atom.{s}.dec.u32 %old, [%rd3], %x;", "u4", 0, (0 - 256) % 100),
        ("xor", "b32", "mov.u32 %x, %r1; atom.{s}.xor.b32 %old, [%rd3], %x;", "u4", 7, 7),
        ("add", "u64", "cvt.u64.u32 %x, %r1; atom.{s}.add.u64 %old, [%rd3], %x;", "u8", 1,
         1 + sum(range(256))),
        ("add", "f32", "cvt.rn.f32.u32 %fx, %r1; mov.b32 %x, %fx; atom.{s}.add.f32 %old, [%rd3], %x;",
         "f4", 0.5, 0.5 + sum(range(256))),
        ("add", "f64", "cvt.rn.f64.u32 %fx, %r1; mov.b64 %x, %fx; atom.{s}.add.f64 %old, [%rd3], %x;",
         "f8", 0.25, 0.25 + sum(range(256))),
    ]  # fmt: skip
    for operation, kind, operands, dtype, start, expected in cases:
        text = atomic_kernel(operation, kind, operands.format(s=space), space)
        done = runner.run(
            text, "atomic", np.array([start], dtype), block=(256,), options=("--threads", "2"), fault=0
        )
        assert done.arrays[0][0] == expected, (operation, kind)
