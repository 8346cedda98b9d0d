"""Barriers in memory, asynchronous copies, atomics of every type, and kernels that wait for time."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from exec_runner import ILLEGAL_ADDRESS, ISAS, MISALIGNED, STACK_OVERFLOW, Runner, find_program, run_lanes

rng = np.random.default_rng(5)


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def words_of(count: int, width: int) -> np.ndarray:
    return rng.integers(0, 2**32, (count, width), dtype=np.uint64).astype(np.uint32)


# --- mbarrier


def test_mbarrier_of_a_block(runner: Runner) -> None:
    """Warps hand values to each other through shared memory, two phases long."""
    code = """
mov.u32 %b0, bar; mov.u32 %b1, data; mad.lo.u32 %b2, %me, 4, %b1; setp.eq.u32 %p0, %me, 0;
xor.b32 %b4, %me, 127; mad.lo.u32 %b3, %b4, 4, %b1;
@%p0 mbarrier.init.shared::cta.b64 [%b0], 128; bar.sync 0;
st.shared.u32 [%b2], %i0;
mbarrier.arrive.shared::cta.b64 %x0, [%b0];
WAIT: mbarrier.test_wait.shared::cta.b64 %p1, [%b0], %x0; @!%p1 bra WAIT;
ld.shared.u32 %o0, [%b3];
mbarrier.arrive.shared::cta.b64 _, [%b0];
AGAIN: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%b0], 1; @!%p1 bra AGAIN;
mbarrier.pending_count.b64 %o1, %x0;
bar.sync 0; @%p0 mbarrier.inval.shared::cta.b64 [%b0];"""
    declarations = ".shared .align 8 .b64 bar; .shared .align 16 .b8 data[512];"
    words = words_of(128, 1)
    got = run_lanes(runner, code, words, 2, declarations=declarations)
    base = np.arange(128)
    np.testing.assert_array_equal(got[:, 0], words[base ^ 127, 0])
    # every thread saw another count of arrivals still missing
    assert sorted(got[:, 1].tolist()) == list(range(1, 129))


def test_mbarrier_counts_bytes(runner: Runner) -> None:
    """expect_tx holds a phase open until as many bytes have come; drops lower what later phases want."""
    code = """
mov.u32 %b0, bar; mbarrier.init.shared.b64 [%b0], 1;
mbarrier.arrive.expect_tx.shared.b64 %x0, [%b0], 32;
mbarrier.test_wait.shared.b64 %p0, [%b0], %x0; selp.u32 %o0, 1, 0, %p0;
mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%b0], 16;
mbarrier.test_wait.shared.b64 %p0, [%b0], %x0; selp.u32 %o1, 1, 0, %p0;
mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%b0], 16;
mbarrier.test_wait.shared.b64 %p0, [%b0], %x0; selp.u32 %o2, 1, 0, %p0;
mbarrier.init.shared.b64 [%b0], 3; mbarrier.arrive_drop.shared.b64 %x1, [%b0];
mbarrier.pending_count.b64 %o3, %x1;
mbarrier.arrive.shared.b64 %x2, [%b0], 2; mbarrier.test_wait.shared.b64 %p0, [%b0], %x2;
selp.u32 %o4, 1, 0, %p0;
mbarrier.arrive.shared.b64 %x3, [%b0]; mbarrier.pending_count.b64 %o5, %x3;
mbarrier.test_wait.parity.shared.b64 %p0, [%b0], 0; selp.u32 %o6, 1, 0, %p0;
mbarrier.test_wait.parity.shared.b64 %p0, [%b0], 1; selp.u32 %o7, 1, 0, %p0;"""
    got = run_lanes(
        runner, code, words_of(1, 1), 8, declarations=".shared .align 8 .b64 bar;", target="sm_90"
    )
    assert got[0].tolist() == [0, 0, 1, 3, 1, 2, 1, 0]


def test_mbarrier_misaligned(runner: Runner) -> None:
    code = "mov.u32 %b0, bar; add.u32 %b0, %b0, 4; mbarrier.init.shared.b64 [%b0], 1; mov.u32 %o0, 0;"
    declarations = ".shared .align 8 .b8 bar[16];"
    run_lanes(runner, code, words_of(1, 1), 1, declarations=declarations, fault=MISALIGNED)


# --- copies


def test_bulk_copies(runner: Runner) -> None:
    """Global to shared with a barrier, and back as a group."""
    ptx = """
.version 8.6
.target sm_90
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out) {
.shared .align 16 .b8 data[256]; .shared .align 8 .b64 bar; .reg .b64 %x<9>; .reg .b32 %b<9>; .reg .pred %p;
ld.param.u64 %x0, [in]; ld.param.u64 %x1, [out]; mov.u32 %b0, data; mov.u32 %b1, bar; mov.u32 %b3, %tid.x;
setp.ne.u32 %p, %b3, 0; @%p bra END;
mbarrier.init.shared::cta.b64 [%b1], 1;
mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b1], 256;
cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%b0], [%x0], 256, [%b1];
WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p, [%b1], 0; @!%p bra WAIT;
ld.shared.u32 %b2, [%b0]; add.u32 %b2, %b2, 1; st.shared.u32 [%b0], %b2;
fence.proxy.async.shared::cta;
cp.async.bulk.global.shared::cta.bulk_group [%x1], [%b0], 128; cp.async.bulk.commit_group;
cp.async.bulk.wait_group.read 0;
END: ret; }
"""
    given, out = words_of(64, 1)[:, 0], np.zeros(64, np.uint32)
    got = runner.run(ptx, "k", given, out).arrays[1]
    expected = np.concatenate([given[:32], np.zeros(32, np.uint32)])
    expected[0] += 1
    np.testing.assert_array_equal(got, expected)
    runner.run(ptx, "k", given[:32], out, fault=ILLEGAL_ADDRESS)


def test_copies_arrive_on_barriers(runner: Runner) -> None:
    """cp.async.mbarrier.arrive counts for nobody, with .noinc for one arrival; part of a copy is zeros."""
    code = """
mov.u32 %b0, bar; mov.u32 %b1, data; mov.u64 %x0, source; cvta.global.u64 %x0, %x0;
mbarrier.init.shared.b64 [%b0], 2;
cp.async.ca.shared.global [%b1], [%x0], 16, 4;
cp.async.cg.shared.global.L2::cache_hint [%b1+16], [%x0], 16, %x5;
cp.async.mbarrier.arrive.shared.b64 [%b0]; mbarrier.arrive.shared.b64 %x1, [%b0];
mbarrier.pending_count.b64 %o0, %x1;
cp.async.mbarrier.arrive.noinc.shared.b64 [%b0];
mbarrier.test_wait.shared.b64 %p0, [%b0], %x1; selp.u32 %o1, 1, 0, %p0;
ld.shared.u32 %o2, [%b1]; ld.shared.u32 %o3, [%b1+4]; ld.shared.u32 %o4, [%b1+28];"""
    declarations = """.shared .align 16 .b8 data[32]; .shared .align 8 .b64 bar;
.global .align 16 .b32 source[4] = {7, 8, 9, 10};"""
    got = run_lanes(runner, code, words_of(1, 1), 5, declarations=declarations, target="sm_90")
    assert got[0].tolist() == [2, 1, 7, 0, 10]


# --- atomics


def atomic(
    runner: Runner, op: str, start: np.ndarray, values: np.ndarray, register: str, isa: str
) -> np.ndarray:
    """Memory of 16 bytes after every lane has done `op` on it with a value of its own."""
    size = values.dtype.itemsize * values.shape[1] if values.ndim > 1 else values.dtype.itemsize
    ptx = f"""
.version 8.6
.target sm_90
.address_size 64
.visible .entry k(.param .u64 slot, .param .u64 values) {{
.reg .b64 %x<9>; .reg .b32 %t; .reg {register} %v<9>; .reg .b16 %h<4>; .reg .b32 %w<4>;
ld.param.u64 %x0, [slot]; ld.param.u64 %x1, [values]; mov.u32 %t, %tid.x; mad.wide.u32 %x1, %t, {size}, %x1;
{op}
ret; }}
"""
    return runner.run(ptx, "k", start, values, block=(len(values),), isa=isa).arrays[0]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("kind", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("word", ["red", "atom"])
def test_short_float_atomics(runner: Runner, isa: str, kind: str, dtype: type, word: str) -> None:
    values = (rng.integers(-8, 9, (32, 2)) / 2).astype(dtype)
    dest = "%w1, " if word == "atom" else ""
    for name, register, count in ((f"{kind}x2", ".b32", 2), (kind, ".b16", 1)):
        dest = "" if word == "red" else "%w1, " if count == 2 else "%h1, "
        used = np.ascontiguousarray(values[:, :count])
        op = f"ld.global.b{16 * count} %v0, [%x1]; {word}.global.add.noftz.{name} {dest}[%x0], %v0;"
        got = atomic(runner, op, np.zeros(8, dtype), used, register, isa)
        expected = used.astype(np.float64).sum(axis=0)
        np.testing.assert_array_equal(got[:count].astype(np.float64), expected)


@pytest.mark.parametrize(("kind", "dtype"), [("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
@pytest.mark.parametrize("what", ["min", "max"])
def test_short_float_extremes(runner: Runner, kind: str, dtype: type, what: str) -> None:
    values = rng.normal(size=(32, 4)).astype(dtype)
    values[3, 1] = np.nan
    load = "ld.global.v4.b16 {%v0, %v1, %v2, %v3}, [%x1];"
    op = f"{load} red.global.{what}.noftz.v4.{kind} [%x0], {{%v0, %v1, %v2, %v3}};"
    start = np.zeros(8, dtype)
    got = atomic(runner, op, start, values, ".b16", ISAS[0])
    choose = np.fmin if what == "min" else np.fmax
    expected = choose.reduce(values.astype(np.float32), axis=0, initial=0)
    np.testing.assert_array_equal(got[:4].astype(np.float32), expected)


def test_vector_atomics(runner: Runner) -> None:
    values = (rng.integers(-50, 50, (64, 4)) / 4).astype(np.float32)
    op = """ld.global.v4.f32 {%v0, %v1, %v2, %v3}, [%x1];
atom.global.v4.f32.add {%v4, %v5, %v6, %v7}, [%x0], {%v0, %v1, %v2, %v3};"""
    got = atomic(runner, op, np.ones(4, np.float32), values, ".f32", ISAS[0])
    np.testing.assert_array_equal(got, 1 + values.astype(np.float64).sum(axis=0))
    op = "ld.global.v2.f32 {%v0, %v1}, [%x1]; red.global.add.v2.f32 [%x0+8], {%v0, %v1};"
    got = atomic(runner, op, np.ones(4, np.float32), values[:, :2], ".f32", ISAS[0])
    np.testing.assert_array_equal(got, [1, 1, *(1 + values[:, :2].astype(np.float64).sum(axis=0))])


def test_wide_exchange_and_swap(runner: Runner) -> None:
    """128 bits move as one: every lane puts its own pair and takes out one that another lane put there."""
    ptx = """
.version 8.6
.target sm_90
.address_size 64
.visible .entry k(.param .u64 slot, .param .u64 out) {
.reg .b64 %x<9>; .reg .b32 %t; .reg .b128 %q<4>; .reg .pred %p;
ld.param.u64 %x0, [slot]; ld.param.u64 %x1, [out]; mov.u32 %t, %tid.x; mad.wide.u32 %x1, %t, 32, %x1;
cvt.u64.u32 %x2, %t; add.u64 %x2, %x2, 1; not.b64 %x3, %x2; mov.b128 %q0, {%x2, %x3};
atom.global.exch.b128 %q1, [%x0], %q0; mov.b128 {%x4, %x5}, %q1; st.global.v2.b64 [%x1], {%x4, %x5};
mov.b64 %x6, 0; mov.b128 %q3, {%x6, %x6};
atom.global.cas.b128 %q2, [%x0+16], %q3, %q0; mov.b128 {%x4, %x5}, %q2; st.global.v2.b64 [%x1+16], {%x4, %x5};
ret; }
"""
    slot = np.zeros(4, np.uint64)
    out = np.zeros((64, 4), np.uint64)
    after, got = runner.run(ptx, "k", slot, out, block=(64,)).arrays
    taken = sorted([*got[:, 0].tolist(), int(after[0])])
    assert taken == list(range(65))
    low, high = got[:, 0], got[:, 1]
    assert ((high == ~low) | ((low == 0) & (high == 0))).all()
    # only the first to compare the second slot with zeros found them there
    winners = np.flatnonzero(got[:, 2] == 0)
    assert len(winners) == 1
    assert after[2] == winners[0] + 1
    assert after[3] == ~np.uint64(winners[0] + 1)
    assert set(got[np.arange(64) != winners[0], 2].tolist()) == {int(after[2])}


INTEGER_ATOMICS = {
    "add.u32": lambda v: int(v.astype(np.uint64).sum()) % 2**32,
    "and.b32": lambda v: int(np.bitwise_and.reduce(v)) & 0,
    "or.b32": lambda v: int(np.bitwise_or.reduce(v)),
    "xor.b32": lambda v: int(np.bitwise_xor.reduce(v)),
    "max.u32": lambda v: int(v.max()),
    "min.s32": lambda v: min(0, int(v.view(np.int32).min())) % 2**32,
    "max.s32": lambda v: max(0, int(v.view(np.int32).max())),
}


@pytest.mark.parametrize("name", INTEGER_ATOMICS)
@pytest.mark.parametrize("scope", ["", "relaxed.gpu.", "acq_rel.sys.", "release.cta."])
def test_reductions_in_every_scope(runner: Runner, name: str, scope: str) -> None:
    values = words_of(32, 1)
    op = f"ld.global.u32 %v0, [%x1]; red.{scope}global.{name} [%x0], %v0;"
    got = atomic(runner, op, np.zeros(4, np.uint32), values, ".b32", ISAS[0])
    assert int(got[0]) == INTEGER_ATOMICS[name](values[:, 0])


# --- stack, calls, clusters of one


def test_stack(runner: Runner) -> None:
    """alloca gives distinct memory to each activation; stackrestore gives it back."""
    code = """
stacksave.u64 %x9; cvt.u64.u32 %x8, %i0; alloca.u64 %x0, %x8; alloca.u64 %x1, 8, 64;
st.local.u32 [%x0], %i1; st.local.u32 [%x1], %me; ld.local.u32 %o0, [%x0]; ld.local.u32 %o1, [%x1];
and.b64 %x2, %x1, 63; cvt.u32.u64 %o2, %x2; stackrestore.u64 %x9; alloca.u64 %x3, 16;
sub.u64 %x4, %x3, %x0; cvt.u32.u64 %o3, %x4;"""
    words = np.stack([np.full(40, 100), np.arange(40) * 7], axis=1).astype(np.uint32)
    got = run_lanes(runner, code, words, 4)
    np.testing.assert_array_equal(got[:, 0], words[:, 1])
    np.testing.assert_array_equal(got[:, 1], np.arange(40))
    assert not got[:, 2:].any()
    words[:, 0] = 1 << 20
    run_lanes(runner, code, words, 4, fault=STACK_OVERFLOW)


def test_cluster_of_one(runner: Runner) -> None:
    code = """
mov.u32 %b0, data; mapa.shared::cluster.u32 %b1, %b0, 0; sub.u32 %o0, %b1, %b0;
getctarank.shared::cluster.u32 %o1, %b1; mov.u32 %o2, %cluster_nctarank; mov.u32 %o3, %cluster_ctarank;
barrier.cluster.arrive; barrier.cluster.wait;"""
    got = run_lanes(
        runner, code, words_of(32, 1), 4, declarations=".shared .align 8 .b8 data[64];", target="sm_90"
    )
    assert got[0].tolist() == [0, 0, 1, 0]


def test_constants_are_told_from_globals(runner: Runner) -> None:
    ptx = """
.version 8.0
.target sm_80
.address_size 64
.const .align 4 .b32 table[4] = {1, 2, 3, 4};
.global .align 4 .b32 plain[4];
.visible .entry k(.param .u64 out) {
.reg .b64 %x<9>; .reg .b32 %o<9>; .reg .pred %p;
ld.param.u64 %x0, [out]; mov.u64 %x1, table; cvta.const.u64 %x1, %x1; mov.u64 %x2, plain;
cvta.global.u64 %x2, %x2;
isspacep.const %p, %x1; selp.u32 %o0, 1, 0, %p; isspacep.global %p, %x1; selp.u32 %o1, 1, 0, %p;
isspacep.const %p, %x2; selp.u32 %o2, 1, 0, %p; isspacep.global %p, %x2; selp.u32 %o3, 1, 0, %p;
isspacep.shared %p, %x2; selp.u32 %o4, 1, 0, %p;
st.global.v4.u32 [%x0], {%o0, %o1, %o2, %o3}; st.global.u32 [%x0+16], %o4; ret; }
"""
    got = runner.run(ptx, "k", np.zeros(5, np.uint32), block=(1,)).arrays[0]
    assert got.tolist() == [1, 0, 0, 1, 0]


def test_call_through_targets(runner: Runner) -> None:
    ptx = """
.version 8.0
.target sm_80
.address_size 64
.func (.param .b32 r) twice(.param .b32 a) { .reg .b32 %r; ld.param.b32 %r, [a]; add.u32 %r, %r, %r;
st.param.b32 [r], %r; ret; }
.func (.param .b32 r) square(.param .b32 a) { .reg .b32 %r; ld.param.b32 %r, [a]; mul.lo.u32 %r, %r, %r;
st.param.b32 [r], %r; ret; }
.visible .entry k(.param .u64 out) {
.reg .b64 %x<9>; .reg .b32 %r<9>; .reg .pred %p;
ld.param.u64 %x0, [out]; mov.u32 %r0, %tid.x; and.b32 %r1, %r0, 1; setp.ne.u32 %p, %r1, 0;
mov.u64 %x1, twice; mov.u64 %x2, square; selp.b64 %x3, %x2, %x1, %p;
{ .param .b32 a; .param .b32 r; st.param.b32 [a], %r0; T: .calltargets twice, square;
call (r), %x3, (a), T; ld.param.b32 %r2, [r]; }
mad.wide.u32 %x0, %r0, 4, %x0; st.global.u32 [%x0], %r2; ret; }
"""
    got = runner.run(ptx, "k", np.zeros(32, np.uint32)).arrays[0]
    assert got.tolist() == [n * n if n & 1 else 2 * n for n in range(32)]


# --- waiting

WAIT = """
.visible .entry spin(.param .u64 out, .param .u64 ns) {
.reg .b64 %t, %s, %e, %a, %n; .reg .pred %p; .reg .b32 %i;
ld.param.u64 %n, [ns]; ld.param.u64 %a, [out]; mov.u64 %s, %globaltimer; add.u64 %e, %s, %n;
LOOP: BODY mov.u64 %t, %globaltimer; setp.lt.u64 %p, %t, %e; @%p bra LOOP;
sub.u64 %t, %t, %s; mov.u32 %i, %ctaid.x; mad.wide.u32 %a, %i, 8, %a; st.global.u64 [%a], %t; ret; }
"""


@pytest.mark.parametrize("body", ["", "nanosleep.u32 100;", "nanosleep.u32 1000000;"])
def test_waiting_burns_no_core(runner: Runner, body: str) -> None:
    """Blocks of a grid wait at the same time, on one thread, and for a small part of it use the processor."""
    wait = 60_000_000
    done = runner.run(
        WAIT.replace("BODY", body), "spin", np.zeros(32, np.uint64), np.uint64(wait), grid=(32,), block=(64,)
    )
    assert (done.arrays[0] >= wait).all()
    assert done.report["seconds"] < 10 * wait * 1e-9  # one after another they would take 32 times as long
    assert done.report["cpu_seconds"] < 0.5 * done.report["seconds"]


def test_waiting_survives_being_stopped(runner: Runner) -> None:
    wait = 30_000_000
    done = runner.run(
        WAIT.replace("BODY", ""),
        "spin",
        np.zeros(4, np.uint64),
        np.uint64(wait),
        grid=(4,),
        options=("--budget-ms", "2"),
    )
    assert (done.arrays[0] >= wait).all()


def test_clock_runs_at_the_given_rate(runner: Runner) -> None:
    """%clock64 against %globaltimer over some milliseconds; exec-run's card runs at 1 GHz."""
    code = """
mov.u64 %x0, %globaltimer; mov.u64 %x1, %clock64; add.u64 %x2, %x0, 5000000;
LOOP: nanosleep.u32 100000; mov.u64 %x3, %globaltimer; setp.lt.u64 %p0, %x3, %x2; @%p0 bra LOOP;
mov.u64 %x4, %clock64; sub.u64 %x3, %x3, %x0; sub.u64 %x4, %x4, %x1; cvt.u32.u64 %o0, %x3;
cvt.u32.u64 %o1, %x4;"""
    got = run_lanes(runner, code, words_of(1, 1), 2)[0].astype(np.float64)
    assert got[0] >= 5_000_000
    assert abs(got[1] - got[0]) < 0.5 * got[0]
