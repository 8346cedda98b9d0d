"""Barriers, asynchronous copies, votes and hints: the forms that the other test_exec modules do not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exec_runner import TRAP, Runner, Target, find_program, run_lanes

rng = np.random.default_rng(37)
DATA = ".shared .align 16 .b8 data[1024];"
SM90: Target = {"target": "sm_90a", "version": "8.6"}


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def words_of(count: int, width: int = 1) -> np.ndarray:
    return rng.integers(0, 2**32, (count, width), dtype=np.uint64).astype(np.uint32)


# --- barriers of the block


@pytest.mark.parametrize(
    "barrier",
    [
        *("barrier.sync 0;", "barrier.sync.aligned 0;", "barrier.cta.sync 0;", "barrier.cta.sync.aligned 0;"),
        *("bar.sync 3, 128;", "barrier.sync 3, 128;"),
        "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;",
        "barrier.cluster.arrive; barrier.cluster.wait;",
    ],
)
def test_values_cross_a_barrier(runner: Runner, barrier: str) -> None:
    """The last warp is late; every thread reads what its counterpart in another warp wrote."""
    code = f"""
mov.u32 %b0, data; mad.lo.u32 %b1, %me, 4, %b0; xor.b32 %b2, %me, 127; mad.lo.u32 %b2, %b2, 4, %b0;
mov.u32 %b3, 0; setp.lt.u32 %p0, %me, 96; @%p0 bra READY;
LATE: add.u32 %b3, %b3, 1; setp.lt.u32 %p1, %b3, 3000; @%p1 bra LATE;
READY: st.shared.u32 [%b1], %i0; {barrier} ld.shared.u32 %o0, [%b2];"""
    words = words_of(128)
    got = run_lanes(runner, code, words, 1, declarations=DATA, **SM90)
    np.testing.assert_array_equal(got, words[::-1])


@pytest.mark.parametrize("word", ["bar", "barrier"])
def test_arrivals_do_not_wait(runner: Runner, word: str) -> None:
    """Warp 0 only arrives and goes on; warp 1 waits for what it wrote before."""
    code = f"""
mov.u32 %b0, data; and.b32 %b1, %me, 31; mad.lo.u32 %b1, %b1, 4, %b0; mov.u32 %o0, 0;
setp.ge.u32 %p0, %me, 32; @%p0 bra CONSUME; mov.u32 %b3, 0;
LATE: add.u32 %b3, %b3, 1; setp.lt.u32 %p1, %b3, 2000; @%p1 bra LATE;
st.shared.u32 [%b1], %i0; {word}.arrive 1, 64; mov.u32 %o0, 5; bra END;
CONSUME: {word}.sync 1, 64; ld.shared.u32 %o0, [%b1];
END:"""
    words = words_of(64)
    got = run_lanes(runner, code, words, 1, declarations=DATA)
    np.testing.assert_array_equal(got[32:], words[:32])
    assert set(got[:32, 0].tolist()) == {5}


@pytest.mark.parametrize("true_ones", [0, 1, 96])
def test_reductions_at_a_barrier(runner: Runner, true_ones: int) -> None:
    code = """
setp.ne.u32 %p0, %i0, 0; bar.red.or.pred %p1, 0, %p0; bar.red.and.pred %p2, 1, %p0;
bar.red.popc.u32 %o2, 2, %p0; selp.u32 %o0, 1, 0, %p1; selp.u32 %o1, 1, 0, %p2;"""
    words = np.zeros((96, 1), np.uint32)
    words[rng.permutation(96)[:true_ones]] = 1
    got = run_lanes(runner, code, words, 3)
    assert {tuple(row) for row in got.tolist()} == {(int(true_ones > 0), int(true_ones == 96), true_ones)}


# --- barriers in memory: one thread, each answer reckoned by hand


def barrier_steps(runner: Runner, count: int, steps: str, outputs: int) -> list[int]:
    """What the steps leave in %o0, ... with %b0 at a barrier of `count` arrivals."""
    code = f"mov.u32 %b0, bar; mov.u32 %b1, data; mbarrier.init.shared.b64 [%b0], {count};\n{steps}"
    declarations = f".shared .align 8 .b64 bar; {DATA}"
    return run_lanes(runner, code, words_of(1), outputs, declarations=declarations, **SM90)[0].tolist()


def told(place: int) -> str:
    return f"selp.u32 %o{place}, 1, 0, %p0;"


def test_arrivals_that_complete_nothing(runner: Runner) -> None:
    """A state holds the arrivals that were missing before; a drop lowers those of later phases."""
    steps = f"""
mbarrier.arrive.noComplete.shared.b64 %x0, [%b0], 2; mbarrier.pending_count.b64 %o0, %x0;
mbarrier.arrive_drop.noComplete.shared.b64 %x1, [%b0], 1; mbarrier.pending_count.b64 %o1, %x1;
mbarrier.test_wait.shared.b64 %p0, [%b0], %x1; {told(2)}
mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%b0], 1;
mbarrier.try_wait.shared.b64 %p0, [%b0], %x1; {told(3)}
mbarrier.arrive.shared.b64 %x2, [%b0]; mbarrier.pending_count.b64 %o4, %x2;
mbarrier.try_wait.parity.shared.b64 %p0, [%b0], 0; {told(5)}
mbarrier.try_wait.acquire.cta.shared::cta.b64 %p0, [%b0], %x2, 1000; {told(6)}
mbarrier.inval.shared.b64 [%b0]; mbarrier.init.shared.b64 [%b0], 9;
mbarrier.arrive.shared.b64 %x3, [%b0]; mbarrier.pending_count.b64 %o7, %x3;"""
    assert barrier_steps(runner, 4, steps, 8) == [4, 2, 0, 1, 3, 1, 0, 9]


def test_expected_bytes(runner: Runner) -> None:
    """A phase ends when all have arrived and all expected bytes have come."""
    steps = f"""
mbarrier.arrive_drop.expect_tx.shared.b64 %x0, [%b0], 16; mbarrier.arrive.shared.b64 %x1, [%b0];
mbarrier.test_wait.shared.b64 %p0, [%b0], %x1; {told(0)}
mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%b0], 16;
mbarrier.test_wait.shared.b64 %p0, [%b0], %x1; {told(1)}
mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%b0], 8;
mbarrier.arrive.shared.b64 %x2, [%b0]; mbarrier.pending_count.b64 %o2, %x2;
mbarrier.try_wait.acquire.cta.shared::cta.b64 %p0, [%b0], %x2, 100; {told(3)}
mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%b0], 8;
mbarrier.try_wait.acquire.cta.shared::cta.b64 %p0, [%b0], %x2, 100; {told(4)}"""
    assert barrier_steps(runner, 2, steps, 5) == [0, 1, 1, 0, 1]


def test_asynchronous_stores(runner: Runner) -> None:
    """st.async and red.async count their bytes at the barrier that is named with them."""
    steps = f"""
mov.u32 %b2, 30; mov.u32 %b3, 12; mbarrier.arrive.expect_tx.shared.b64 %x0, [%b0], 8;
st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%b1], %b2, [%b0];
mbarrier.test_wait.shared.b64 %p0, [%b0], %x0; {told(0)}
red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%b1], %b3, [%b0];
WAIT: mbarrier.try_wait.shared.b64 %p0, [%b0], %x0; @!%p0 bra WAIT; ld.shared.u32 %o1, [%b1];"""
    assert barrier_steps(runner, 1, steps, 2) == [0, 42]


# --- copies


@pytest.mark.parametrize("word", ["ca", "cg"])
@pytest.mark.parametrize("hint", ["", ".L2::128B"])
@pytest.mark.parametrize(
    "end", ["cp.async.wait_all;", "cp.async.commit_group; cp.async.wait_group 0;"], ids=["all", "group"]
)
def test_copies_to_shared(runner: Runner, word: str, hint: str, end: str) -> None:
    """Each lane copies 16 bytes of its own and reads those of a neighbour."""
    ptx = f"""
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out) {{
.shared .align 16 .b8 data[512]; .reg .b64 %x<4>; .reg .b32 %b<9>;
ld.param.u64 %x0, [in]; ld.param.u64 %x1, [out]; mov.u32 %b0, %tid.x; mov.u32 %b1, data;
mad.wide.u32 %x0, %b0, 16, %x0; mad.wide.u32 %x1, %b0, 16, %x1; mad.lo.u32 %b2, %b0, 16, %b1;
cp.async.{word}.shared.global{hint} [%b2], [%x0], 16; {end} bar.sync 0;
xor.b32 %b3, %b0, 31; mad.lo.u32 %b3, %b3, 16, %b1; ld.shared.v4.b32 {{%b4, %b5, %b6, %b7}}, [%b3];
st.global.v4.b32 [%x1], {{%b4, %b5, %b6, %b7}}; ret; }}
"""
    rows = words_of(32, 4)
    got = runner.run(ptx, "k", rows, np.zeros_like(rows)).arrays[1]
    np.testing.assert_array_equal(got, rows[::-1])


def test_bulk_copies_within_shared_memory(runner: Runner) -> None:
    """From one array to another, counted at a barrier; then to global memory, waited for in full."""
    ptx = """
.version 8.6
.target sm_90
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out) {
.shared .align 16 .b8 from[128]; .shared .align 16 .b8 to[128]; .shared .align 8 .b64 bar;
.reg .b64 %x<4>; .reg .b32 %b<9>; .reg .pred %p;
ld.param.u64 %x0, [in]; ld.param.u64 %x1, [out]; mov.u32 %b0, %tid.x; mov.u32 %b1, from; mov.u32 %b2, bar;
mov.u32 %b3, to; mad.wide.u32 %x2, %b0, 4, %x0; mad.lo.u32 %b4, %b0, 4, %b1;
cp.async.bulk.prefetch.L2.global [%x0], 128; ld.global.b32 %b5, [%x2]; st.shared.b32 [%b4], %b5;
bar.sync 0; setp.ne.u32 %p, %b0, 0; @%p bra END;
mbarrier.init.shared::cta.b64 [%b2], 1; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b2], 64;
cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%b3], [%b1], 64, [%b2];
WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p, [%b2], 0; @!%p bra WAIT;
cp.async.bulk.global.shared::cta.bulk_group [%x1], [%b3], 128; cp.async.bulk.commit_group;
cp.async.bulk.wait_group 0;
END: ret; }
"""
    given = words_of(32)[:, 0]
    got = runner.run(ptx, "k", given, np.ones(32, np.uint32)).arrays[1]
    np.testing.assert_array_equal(got[:16], given[:16])


# --- clusters of one block, stacks


def test_addresses_in_a_cluster_of_one(runner: Runner) -> None:
    """The block of rank 0 is this one: mapped addresses lead to its own variables."""
    code = """
mov.u32 %b0, data; cvt.u64.u32 %x0, %b0; cvta.shared.u64 %x1, %x0; st.shared.u32 [data], %i0;
mapa.shared::cluster.u64 %x2, %x0, 0; ld.shared.u32 %o0, [%x2];
mapa.u64 %x3, %x1, 0; ld.u32 %o1, [%x3]; mapa.u32 %b1, %b0, 0; ld.shared.u32 %o2, [%b1];
getctarank.shared::cluster.u64 %o3, %x0; getctarank.u64 %o4, %x1; getctarank.u32 %o5, %b0;"""
    words = words_of(1)
    got = run_lanes(runner, code, words, 6, declarations=DATA, **SM90)
    assert got[0].tolist() == [int(words[0, 0])] * 3 + [0] * 3


def test_short_stack_addresses(runner: Runner) -> None:
    """Addresses of 32 bits: memory of each thread's own, given back and taken again."""
    code = """
stacksave.u32 %b5; alloca.u32 %b0, 16; alloca.u32 %b1, 16; st.local.u32 [%b0], %i0; st.local.u32 [%b1], %me;
ld.local.u32 %o0, [%b0]; ld.local.u32 %o1, [%b1]; stackrestore.u32 %b5; alloca.u32 %b2, 16;
sub.u32 %o2, %b2, %b0;"""
    words = words_of(64)
    got = run_lanes(runner, code, words, 3, target="sm_80", version="7.3")
    np.testing.assert_array_equal(got[:, 0], words[:, 0])
    np.testing.assert_array_equal(got[:, 1], np.arange(64))
    assert not got[:, 2].any()


# --- votes and exchanges


def test_election(runner: Runner) -> None:
    """One lane of the members is elected, and all of them are told which."""
    code = """
and.b32 %b0, %me, 1; setp.eq.u32 %p1, %b0, 1; mov.u32 %o0, 99; mov.u32 %o1, 99;
@%p1 elect.sync %o0|%p2, 0xAAAAAAAA; @%p1 selp.u32 %o1, 1, 0, %p2;"""
    got = run_lanes(runner, code, words_of(32), 2, **SM90)
    leaders = set(got[1::2, 0].tolist())
    assert len(leaders) == 1
    leader = leaders.pop()
    assert leader % 2 == 1
    assert np.flatnonzero(got[1::2, 1] == 1).tolist() == [leader // 2]
    assert set(got[::2].ravel().tolist()) == {99}


def test_votes_and_exchanges_without_sync(runner: Runner) -> None:
    """The forms of before sm_70, over the whole warp."""
    code = """
setp.ne.u32 %p0, %i1, 0; vote.all.pred %p1, %p0; vote.any.pred %p2, %p0; vote.uni.pred %p3, %p0;
selp.u32 %o0, 1, 0, %p1; selp.u32 %o1, 1, 0, %p2; selp.u32 %o2, 1, 0, %p3;
shfl.up.b32 %o3, %i0, 3, 0; shfl.down.b32 %o4, %i0, 5, 31; shfl.bfly.b32 %o5, %i0, 9, 31;
shfl.idx.b32 %o6, %i0, 17, 31;"""
    for true_ones in (0, 7, 32):
        words = words_of(32, 2)
        words[:, 1] = np.arange(32) < true_ones
        got = run_lanes(runner, code, words, 7, target="sm_60", version="6.0")
        votes = [int(true_ones == 32), int(true_ones > 0), int(true_ones != 7)]
        assert {tuple(row) for row in got[:, :3].tolist()} == {tuple(votes)}
        lane, value = np.arange(32), words[:, 0]
        np.testing.assert_array_equal(got[:, 3], value[np.where(lane < 3, lane, lane - 3)])
        np.testing.assert_array_equal(got[:, 4], value[np.where(lane + 5 > 31, lane, lane + 5)])
        np.testing.assert_array_equal(got[:, 5], value[lane ^ 9])
        np.testing.assert_array_equal(got[:, 6], np.full(32, value[17]))


# --- hints: taken, and without effect on values

FENCES = [
    *(f"fence.{order}.{scope};" for order in ("sc", "acq_rel") for scope in ("cta", "cluster", "gpu", "sys")),
    *("fence.proxy.alias;", "fence.proxy.async;", "fence.proxy.async.global;"),
    *("fence.mbarrier_init.release.cluster;", "membar.cta;", "membar.gl;", "membar.sys;"),
]
HINTS = [
    *("prefetch.L1 [%x2];", "prefetch.L2 [%x2];", "prefetch.global.L1 [%x2];", "prefetch.global.L2 [%x2];"),
    *("prefetchu.L1 [%x2];", "applypriority.global.L2::evict_normal [%x2], 128;", "pmevent 3;"),
    *("griddepcontrol.launch_dependents;", "griddepcontrol.wait;"),
    *("setmaxnreg.dec.sync.aligned.u32 64;", "setmaxnreg.inc.sync.aligned.u32 128;"),
]


@pytest.mark.parametrize("hints", [FENCES, HINTS], ids=["fences", "hints"])
def test_hints_change_no_values(runner: Runner, hints: list[str]) -> None:
    """Each stands between a store and a load of it, in memory of the thread's own."""
    code = "mov.u64 %x1, m; cvta.global.u64 %x1, %x1; mul.wide.u32 %x3, %me, 128; add.u64 %x2, %x1, %x3;"
    code += "mov.u32 %o0, %i0;\n"
    for hint in hints:
        code += f"st.global.u32 [%x2+8], %o0; {hint} ld.global.u32 %b1, [%x2+8]; mad.lo.u32 %o0, %b1, 5, 1;\n"
    code += "discard.global.L2 [%x1], 128;" if hints is HINTS else ""
    words = words_of(32)
    got = run_lanes(runner, code, words, 1, declarations=".global .align 128 .b8 m[4096];", **SM90)
    expected = words.copy()
    for _ in hints:
        expected = expected * np.uint32(5) + np.uint32(1)
    np.testing.assert_array_equal(got, expected)


def test_breakpoint_without_a_debugger(runner: Runner) -> None:
    """Nobody is there to go on from it: it ends the launch as a trap does."""
    run_lanes(runner, "mov.u32 %o0, 1; brkpt;", words_of(1), 1, fault=TRAP)
