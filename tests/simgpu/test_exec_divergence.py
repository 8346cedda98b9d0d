"""Lanes that part and meet again: branches, loops, locks inside a warp, warp-wide operations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exec_runner import ISAS, Runner, find_program


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


# Collatz steps of every thread's number: trip counts and branches differ in every lane.
COLLATZ = """
.visible .entry collatz(.param .u64 out, .param .u32 n)
{
  .reg .pred %p<4>; .reg .b32 %r<10>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mad.lo.u32 %r1, %r2, %r3, %r1;
  ld.param.u32 %r4, [n];
  setp.ge.u32 %p1, %r1, %r4;
  @%p1 bra done;
  add.u32 %r5, %r1, 1;
  mov.u32 %r6, 0;
loop:
  setp.eq.u32 %p2, %r5, 1;
  @%p2 bra store;
  and.b32 %r7, %r5, 1;
  setp.eq.u32 %p3, %r7, 0;
  @%p3 bra even;
  mad.lo.u32 %r5, %r5, 3, 1;
  bra next;
even:
  shr.u32 %r5, %r5, 1;
next:
  add.u32 %r6, %r6, 1;
  bra loop;
store:
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r6;
done:
  ret;
}
"""


def collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


@pytest.mark.parametrize("isa", ISAS)
def test_data_dependent_loops_give_each_lane_its_own_result(runner: Runner, isa: str) -> None:
    count = 300  # ten warps, the last one with four threads
    done = runner.run(COLLATZ, "collatz", np.zeros(320, np.uint32), count, grid=(5,), block=(64,), isa=isa)
    expected = [collatz(i + 1) for i in range(count)] + [0] * 20
    assert done.arrays[0].tolist() == expected


def test_lane_instructions_count_active_lanes_only(runner: Runner) -> None:
    done = runner.run(COLLATZ, "collatz", np.zeros(32, np.uint32), 1, block=(32,))
    # Lane 0, with number 1: 9 instructions to the loop, 2 in it, 4 to store, ret. The others leave early.
    assert done.report["lane_instructions"] == (9 + 2 + 4 + 1) + 31 * (7 + 1)


# After each lane has taken another number of trips, all meet: the vote behind the loop sees the whole warp.
RECONVERGE = """
.visible .entry meet(.param .u64 out)
{
  .reg .pred %p<3>; .reg .b32 %r<6>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %r1;
loop:
  setp.eq.u32 %p1, %r2, 0;
  @%p1 bra out_of_loop;
  sub.u32 %r2, %r2, 1;
  bra loop;
out_of_loop:
  activemask.b32 %r3;
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r3;
  ret;
}
"""


def test_lanes_meet_after_a_loop_of_different_trip_counts(runner: Runner) -> None:
    done = runner.run(RECONVERGE, "meet", np.zeros(32, np.uint32))
    assert set(done.arrays[0].tolist()) == {0xFFFFFFFF}


# A lock that lanes of one warp contend for: whoever spins must let the holder go on.
SPIN_LOCK = """
.visible .entry locked(.param .u64 lock, .param .u64 counter)
{
  .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [lock];
  ld.param.u64 %rd2, [counter];
spin:
  atom.global.cas.b32 %r1, [%rd1], 0, 1;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra spin;
  ld.volatile.global.u32 %r2, [%rd2];
  add.u32 %r2, %r2, 1;
  st.volatile.global.u32 [%rd2], %r2;
  membar.gl;
  atom.global.exch.b32 %r3, [%rd1], 0;
  ret;
}
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_spin_lock_within_and_between_warps_makes_progress(runner: Runner, threads: str) -> None:
    done = runner.run(
        SPIN_LOCK,
        "locked",
        np.zeros(1, np.uint32),
        np.zeros(1, np.uint32),
        grid=(3,),
        block=(96,),
        options=("--threads", threads),
    )
    assert done.arrays[1][0] == 3 * 96


# Half of the lanes reach shfl.sync later than the others: its member mask brings them together.
SHUFFLE_APART = """
.visible .entry apart(.param .u64 out)
{
  .reg .pred %p<3>; .reg .b32 %r<8>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %r1;
  setp.lt.u32 %p1, %r1, 16;
  @%p1 bra here;
  mul.lo.u32 %r2, %r2, 10;
here:
  shfl.sync.bfly.b32 %r3|%p2, %r2, 16, 31, 0xffffffff;
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r3;
  ret;
}
"""


def test_shuffle_waits_for_its_members(runner: Runner) -> None:
    done = runner.run(SHUFFLE_APART, "apart", np.zeros(32, np.uint32))
    expected = [(i + 16) * 10 for i in range(16)] + list(range(16))
    assert done.arrays[0].tolist() == expected


# Jump table: each lane goes where its number says.
TABLE = """
.visible .entry table(.param .u64 out)
{
  .reg .b32 %r<4>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  and.b32 %r2, %r1, 3;
  mov.u32 %r3, 0;
targets: .branchtargets zero, one, two, three;
  brx.idx %r2, targets;
zero:
  mov.u32 %r3, 100;
  bra store;
one:
  mov.u32 %r3, 200;
  bra store;
two:
  mov.u32 %r3, 300;
  bra store;
three:
  mov.u32 %r3, 400;
store:
  add.u32 %r3, %r3, %r1;
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r3;
  ret;
}
"""


def test_jump_table_sends_lanes_their_ways(runner: Runner) -> None:
    done = runner.run(TABLE, "table", np.zeros(32, np.uint32))
    assert done.arrays[0].tolist() == [100 * (i % 4 + 1) + i for i in range(32)]


# Guarded instructions, among them one with a guarded definition of its own predicate.
GUARDS = """
.visible .entry guards(.param .u64 out)
{
  .reg .pred %p<3>; .reg .b32 %r<5>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 10;
  mov.u32 %r2, 7;
  @%p1 mov.u32 %r2, 1;
  @!%p1 add.u32 %r2, %r2, %r1;
  setp.gt.u32 %p2, %r1, 20;
  @%p2 setp.lt.u32 %p2, %r1, 25;
  selp.u32 %r3, 1000, 0, %p2;
  add.u32 %r2, %r2, %r3;
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  @%p1 st.global.u32 [%rd3], %r2;
  @%p1 exit;
  add.u32 %r2, %r2, 1;
  st.global.u32 [%rd3], %r2;
  ret;
}
"""


@pytest.mark.parametrize("isa", ISAS)
def test_guards_touch_their_lanes_only(runner: Runner, isa: str) -> None:
    done = runner.run(GUARDS, "guards", np.zeros(32, np.uint32), isa=isa)
    expected = [1 if i < 10 else 7 + i + (1000 if 20 < i < 25 else 0) + 1 for i in range(32)]
    assert done.arrays[0].tolist() == expected
