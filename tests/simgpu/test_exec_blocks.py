"""Blocks and grids: barriers, calls, printing, traps, and runs that are stopped and taken up again."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from exec_runner import (
    ASSERT,
    ILLEGAL_INSTRUCTION,
    INVALID_PC,
    ISAS,
    STACK_OVERFLOW,
    TRAP,
    Runner,
    find_program,
)


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


# Sum of a block's values by halving, with a barrier after every step.
SUM = """
.visible .entry sum(.param .u64 out, .param .u64 in)
{
  .shared .align 4 .b8 part[4096];
  .reg .pred %p<3>; .reg .b32 %r<12>; .reg .b64 %rd<6>;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mad.lo.u32 %r4, %r2, %r3, %r1;
  ld.param.u64 %rd1, [in];
  mul.wide.u32 %rd2, %r4, 4;
  add.u64 %rd2, %rd1, %rd2;
  ld.global.u32 %r5, [%rd2];
  shl.b32 %r6, %r1, 2;
  mov.u32 %r7, part;
  add.u32 %r6, %r7, %r6;
  st.shared.u32 [%r6], %r5;
  bar.sync 0;
  shr.u32 %r8, %r3, 1;
loop:
  setp.ge.u32 %p1, %r1, %r8;
  @%p1 bra skip;
  shl.b32 %r9, %r8, 2;
  add.u32 %r9, %r6, %r9;
  ld.shared.u32 %r10, [%r9];
  ld.shared.u32 %r11, [%r6];
  add.u32 %r11, %r11, %r10;
  st.shared.u32 [%r6], %r11;
skip:
  bar.sync 0;
  shr.u32 %r8, %r8, 1;
  setp.ne.u32 %p2, %r8, 0;
  @%p2 bra loop;
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra done;
  ld.shared.u32 %r10, [part];
  ld.param.u64 %rd3, [out];
  mul.wide.u32 %rd4, %r2, 4;
  add.u64 %rd5, %rd3, %rd4;
  st.global.u32 [%rd5], %r10;
done:
  ret;
}
"""


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("options", [(), ("--threads", "2"), ("--budget-ms", "1")])
def test_barriers_order_the_steps_of_a_block(runner: Runner, isa: str, options: tuple[str, ...]) -> None:
    data = np.random.default_rng(7).integers(0, 1000, 20 * 1024).astype(np.uint32)
    done = runner.run(
        SUM, "sum", np.zeros(20, np.uint32), data, grid=(20,), block=(1024,), options=options, isa=isa
    )
    assert done.arrays[0].tolist() == data.reshape(20, 1024).sum(axis=1).tolist()


# bar.red over a block of which some threads have left.
REDUCE = """
.visible .entry reduce(.param .u64 out)
{
  .reg .pred %p<5>; .reg .b32 %r<8>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  setp.ge.u32 %p1, %r1, 80;
  @%p1 exit;
  and.b32 %r2, %r1, 1;
  setp.eq.u32 %p2, %r2, 0;
  bar.red.popc.u32 %r3, 0, %p2;
  setp.lt.u32 %p3, %r1, 80;
  bar.red.and.pred %p4, 0, %p3;
  selp.u32 %r4, 1000, 0, %p4;
  add.u32 %r3, %r3, %r4;
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r3;
  ret;
}
"""


def test_barrier_reduction_counts_the_threads_that_are_left(runner: Runner) -> None:
    done = runner.run(REDUCE, "reduce", np.zeros(128, np.uint32), block=(128,))
    assert done.arrays[0].tolist() == [1040] * 80 + [0] * 48


# Recursion with a struct parameter and a struct result: fib(n) and the number of calls.
RECURSION = """
.func (.param .align 4 .b8 result[8]) fib(.param .align 4 .b8 in[8])
{
  .reg .pred %p<2>; .reg .b32 %r<10>;
  ld.param.u32 %r1, [in];
  setp.lt.u32 %p1, %r1, 2;
  @%p1 bra small;
  sub.u32 %r2, %r1, 1;
  sub.u32 %r3, %r1, 2;
  { .param .align 4 .b8 a[8]; .param .align 4 .b8 b[8];
    st.param.b32 [a+0], %r2; st.param.b32 [a+4], %r2;
    call.uni (b), fib, (a);
    ld.param.b32 %r4, [b+0]; ld.param.b32 %r5, [b+4]; }
  { .param .align 4 .b8 a[8]; .param .align 4 .b8 b[8];
    st.param.b32 [a+0], %r3; st.param.b32 [a+4], %r3;
    call.uni (b), fib, (a);
    ld.param.b32 %r6, [b+0]; ld.param.b32 %r7, [b+4]; }
  add.u32 %r8, %r4, %r6;
  add.u32 %r9, %r5, %r7;
  add.u32 %r9, %r9, 1;
  st.param.b32 [result+0], %r8; st.param.b32 [result+4], %r9;
  ret;
small:
  mov.u32 %r9, 1;
  st.param.b32 [result+0], %r1; st.param.b32 [result+4], %r9;
  ret;
}
.visible .entry recursion(.param .u64 out, .param .u32 limit)
{
  .reg .b32 %r<6>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  ld.param.u32 %r5, [limit];
  rem.u32 %r2, %r1, %r5;
  { .param .align 4 .b8 a[8]; .param .align 4 .b8 b[8];
    st.param.b32 [a+0], %r2; st.param.b32 [a+4], %r2;
    call.uni (b), fib, (a);
    ld.param.b32 %r3, [b+0]; ld.param.b32 %r4, [b+4]; }
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 8;
  add.u64 %rd3, %rd1, %rd2;
  st.global.v2.u32 [%rd3], {%r3, %r4};
  ret;
}
"""


def fib(n: int) -> tuple[int, int]:
    if n < 2:
        return n, 1
    (a, x), (b, y) = fib(n - 1), fib(n - 2)
    return a + b, x + y + 1


@pytest.mark.parametrize("isa", ISAS)
def test_recursion_in_diverged_lanes(runner: Runner, isa: str) -> None:
    done = runner.run(RECURSION, "recursion", np.zeros((64, 2), np.uint32), 11, block=(64,), isa=isa)
    assert done.arrays[0].tolist() == [list(fib(i % 11)) for i in range(64)]


ENDLESS_RECURSION = """
.func deeper() { call.uni deeper, (); ret; }
.visible .entry stack() { call.uni deeper, (); ret; }
"""


def test_endless_recursion_is_a_stack_fault(runner: Runner) -> None:
    runner.run(ENDLESS_RECURSION, "stack", fault=STACK_OVERFLOW)


# Functions through a table in constant memory; lanes call different ones.
INDIRECT = """
.func (.param .b32 r) twice(.param .b32 x)
{ .reg .b32 %r<3>; ld.param.u32 %r1, [x]; add.u32 %r2, %r1, %r1; st.param.b32 [r], %r2; ret; }
.func (.param .b32 r) square(.param .b32 x)
{ .reg .b32 %r<3>; ld.param.u32 %r1, [x]; mul.lo.u32 %r2, %r1, %r1; st.param.b32 [r], %r2; ret; }
.global .align 8 .u64 functions[3] = {twice, square, 0};
.visible .entry indirect(.param .u64 out, .param .u32 kinds)
{
  .reg .b32 %r<6>; .reg .b64 %rd<8>;
  mov.u32 %r1, %tid.x;
  ld.param.u32 %r2, [kinds];
  rem.u32 %r3, %r1, %r2;
  mov.u64 %rd1, functions;
  mul.wide.u32 %rd2, %r3, 8;
  add.u64 %rd3, %rd1, %rd2;
  ld.global.u64 %rd4, [%rd3];
  { .param .b32 a; .param .b32 b;
    st.param.b32 [a], %r1;
    shape: .callprototype (.param .b32 _) _ (.param .b32 _);
    call (b), %rd4, (a), shape;
    ld.param.b32 %r4, [b]; }
  ld.param.u64 %rd5, [out];
  mul.wide.u32 %rd6, %r1, 4;
  add.u64 %rd7, %rd5, %rd6;
  st.global.u32 [%rd7], %r4;
  ret;
}
"""


def test_indirect_calls_go_where_each_lane_points(runner: Runner) -> None:
    done = runner.run(INDIRECT, "indirect", np.zeros(32, np.uint32), 2)
    assert done.arrays[0].tolist() == [i * i if i % 2 else 2 * i for i in range(32)]


def test_indirect_call_of_what_is_no_function(runner: Runner) -> None:
    done = runner.run(INDIRECT, "indirect", np.zeros(32, np.uint32), 3, fault=INVALID_PC)
    assert done.report["thread"] == [2, 0, 0]


PRINT = r"""
.extern .func (.param .b32 r) vprintf(.param .b64 format, .param .b64 arguments);
.global .align 1 .b8 format[FORMAT_SIZE] = {FORMAT_BYTES};
.global .align 1 .b8 word[6] = {104, 101, 108, 108, 111, 0};
.visible .entry show()
{
  .local .align 8 .b8 frame[64];
  .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<8>; .reg .f64 %fd<2>;
  mov.u32 %r1, %tid.x;
  setp.gt.u32 %p1, %r1, 1;
  @%p1 exit;
  mov.u64 %rd1, frame;
  cvta.local.u64 %rd2, %rd1;
  sub.s32 %r2, 3, %r1;
  st.local.u32 [%rd1], %r2;
  mov.u64 %rd3, -5000000000;
  st.local.u64 [%rd1+8], %rd3;
  mov.f64 %fd1, 0d4005BF0A8B145769;
  st.local.f64 [%rd1+16], %fd1;
  mov.u64 %rd4, word;
  st.local.u64 [%rd1+24], %rd4;
  mov.u32 %r3, 6;
  st.local.u32 [%rd1+32], %r3;
  st.local.u32 [%rd1+36], %r1;
  mov.u64 %rd5, format;
  { .param .b64 a; .param .b64 b; .param .b32 c;
    st.param.b64 [a], %rd5; st.param.b64 [b], %rd2;
    call.uni (c), vprintf, (a, b); }
  ret;
}
"""


def test_printf_formats_like_c(runner: Runner) -> None:
    text = b"%d|%lld|%8.3f|%-7s|%*u|100%%\n\0"
    ptx = PRINT.replace("FORMAT_SIZE", str(len(text))).replace("FORMAT_BYTES", ", ".join(map(str, text)))
    done = runner.run(ptx, "show")
    assert (
        done.printed
        == "3|-5000000000|   2.718|hello  |     0|100%\n2|-5000000000|   2.718|hello  |     1|100%\n"
    )


def test_printf_survives_hostile_formats(runner: Runner) -> None:
    text = b"%999999999d%.999999999f%s%n%%%-+ #0-+ #0-+ #0x%\0"
    ptx = PRINT.replace("FORMAT_SIZE", str(len(text))).replace("FORMAT_BYTES", ", ".join(map(str, text)))
    done = runner.run(ptx, "show")
    assert len(done.printed) < 10000


def test_trap_ends_the_launch(runner: Runner) -> None:
    kernel = (
        ".visible .entry t() { .reg .pred %p; .reg .b32 %r; mov.u32 %r, %tid.x; setp.eq.u32 %p, %r, 5; "
        "@%p trap; ret; }"
    )
    done = runner.run(kernel, "t", fault=TRAP)
    assert done.report["thread"] == [5, 0, 0]


ASSERTION = """
.extern .func __assertfail(.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 s);
.global .align 1 .b8 text[4] = {120, 62, 48, 0};
.visible .entry check()
{
  .reg .b64 %rd<2>; .reg .b32 %r<2>;
  mov.u64 %rd1, text;
  mov.u32 %r1, 42;
  { .param .b64 m; .param .b64 f; .param .b32 l; .param .b64 n; .param .b64 s;
    st.param.b64 [m], %rd1; st.param.b64 [f], %rd1; st.param.b32 [l], %r1; st.param.b64 [n], %rd1;
    st.param.b64 [s], 1;
    call.uni __assertfail, (m, f, l, n, s); }
  ret;
}
"""


def test_assertion_prints_where_it_failed(runner: Runner) -> None:
    done = runner.run(ASSERTION, "check", fault=ASSERT)
    assert "x>0:42" in done.printed
    assert "Assertion `x>0` failed" in done.printed


# A barrier over the whole grid, as cooperative groups make it: every block waits for all others.
GRID_BARRIER = """
.visible .entry meet(.param .u64 count, .param .u64 seen)
{
  .reg .pred %p<3>; .reg .b32 %r<8>; .reg .b64 %rd<6>;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %nctaid.x;
  ld.param.u64 %rd1, [count];
  setp.ne.u32 %p1, %r1, 0;
  @%p1 bra wait;
  atom.global.add.u32 %r4, [%rd1], 1;
spin:
  ld.volatile.global.u32 %r5, [%rd1];
  setp.lt.u32 %p2, %r5, %r3;
  @%p2 bra spin;
wait:
  bar.sync 0;
  ld.volatile.global.u32 %r6, [%rd1];
  ld.param.u64 %rd2, [seen];
  mul.wide.u32 %rd3, %r2, 4;
  add.u64 %rd4, %rd2, %rd3;
  st.global.u32 [%rd4], %r6;
  ret;
}
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_cooperative_blocks_wait_for_one_another(runner: Runner, threads: str) -> None:
    done = runner.run(
        GRID_BARRIER,
        "meet",
        np.zeros(1, np.uint32),
        np.zeros(24, np.uint32),
        grid=(24,),
        block=(64,),
        options=("--cooperative", "--threads", threads),
    )
    assert done.arrays[1].tolist() == [24] * 24


# A long loop that is stopped every millisecond: it must go on where it was.
LONG = """
.visible .entry long(.param .u64 out, .param .u32 trips)
{
  .reg .pred %p<2>; .reg .b32 %r<6>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  mov.u32 %r2, %r1;
  ld.param.u32 %r3, [trips];
loop:
  mad.lo.u32 %r2, %r2, 1664525, 1013904223;
  sub.u32 %r3, %r3, 1;
  setp.ne.u32 %p1, %r3, 0;
  @%p1 bra loop;
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r2;
  ret;
}
"""


def test_stopped_runs_go_on_where_they_were(runner: Runner) -> None:
    arguments = (np.zeros(96, np.uint32), 2_000_000)
    whole = runner.run(LONG, "long", *arguments, block=(96,))
    sliced = runner.run(LONG, "long", *arguments, block=(96,), options=("--budget-ms", "2"))
    assert whole.arrays[0].tolist() == sliced.arrays[0].tolist()
    assert whole.report["lane_instructions"] == sliced.report["lane_instructions"]
    x = np.arange(96, dtype=np.uint64)
    for _ in range(1000):
        x = (x * 1664525 + 1013904223) & 0xFFFFFFFF
    brief = runner.run(LONG, "long", np.zeros(96, np.uint32), 1000, block=(96,))
    assert brief.arrays[0].tolist() == x.tolist()


SLEEP = """
.visible .entry nap() { .reg .b32 %r<3>; .reg .pred %p; mov.u32 %r1, 200;
again: nanosleep.u32 1000000; sub.u32 %r1, %r1, 1; setp.ne.u32 %p, %r1, 0; @%p bra again; ret; }
"""


def test_sleeping_kernels_burn_no_processor_time(runner: Runner) -> None:
    started = time.monotonic()
    done = runner.run(SLEEP, "nap", block=(128,))
    assert time.monotonic() - started >= 0.2
    assert done.report["cpu_seconds"] < 0.1


def test_what_is_not_understood_is_named_with_its_line(runner: Runner) -> None:
    report = runner.refuse(
        ".visible .entry k()\n{\n  .reg .b32 %r<2>;\n  frobnicate.sync.b32 %r1, 3;\n  ret;\n}\n"
    )
    assert report["unsupported"] is True
    assert "line 7: frobnicate.sync.b32" in report["message"]


PARTLY = """
.func hard() { .reg .b32 %r<2>; frobnicate.b32 %r1, 3; ret; }
.visible .entry bad() { call.uni hard, (); ret; }
.visible .entry good(.param .u64 out)
{
  .reg .b32 %r<6>; .reg .b64 %rd<4>;
  mov.u32 %r1, %tid.x;
  shl.b32 %r2, %r1, 16;
  or.b32 %r2, %r2, 0xfff0;
  mov.u32 %r3, 0x00070003;
  min.s16x2 %r4, %r2, %r3;
  ld.param.u64 %rd1, [out];
  mul.wide.u32 %rd2, %r1, 4;
  add.u64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3], %r4;
  ret;
}
"""


def test_one_kernel_that_cannot_run_leaves_the_others_alone(runner: Runner) -> None:
    done = runner.run(PARTLY, "good", np.zeros(32, np.uint32))
    assert done.arrays[0].tolist() == [min(i, 7) << 16 | 0xFFF0 for i in range(32)]
    refused = runner.run(PARTLY, "bad", fault=ILLEGAL_INSTRUCTION)
    assert "frobnicate.b32" in refused.report["message"]


def test_unresolved_functions_are_named(runner: Runner) -> None:
    report = runner.refuse(".extern .func other();\n.visible .entry k() { call.uni other, (); ret; }\n")
    assert "other" in report["message"]
