"""Atomics, barriers, divergence, calls and tables of PTX (PTX ISA 9.7.12 and 9.7.13)."""

from __future__ import annotations

from typing import Any

import ieee
import numpy as np
import pytest
from ieee import F32
from ptx_atomics import ATOMICS
from ptx_cases import THREADS, TYPES, Answers, Case, instruction_sets, operands, run_cases

pytestmark = pytest.mark.sanitized

WIDTH = {kind: 8 * np.dtype(dtype).itemsize for kind, (dtype, _, _) in TYPES.items()}


def add_in_global_memory(a: int, b: int) -> int:
    """add.f32 flushes subnormals there, and only there (PTX ISA, atom and red)."""
    return F32.flush(ieee.add(F32, F32.flush(a), F32.flush(b)))


def place(space: str) -> tuple[str, dict[str, Any]]:
    """Code that sets %q1 to eight bytes of this thread alone, and what it needs declared."""
    if space == "shared":
        code = "mov.u32 %t1, %tid.x; mul.wide.u32 %q1, %t1, 8; mov.u64 %q2, m; add.u64 %q1, %q1, %q2;"
        return code, {"declarations": f".shared .align 8 .b8 m[{8 * THREADS}];"}
    code = "mul.wide.u32 %q1, %i, 8; mov.u64 %q2, m; add.u64 %q1, %q1, %q2;"
    return code, {"preamble": ".global .align 8 .b8 m[65536];"}


def atomics() -> list[Case]:
    made: list[Case] = []
    for space in ("global", "shared"):
        where, needs = place(space)
        for name, kinds, new_value in ATOMICS:
            for t in kinds:
                if (t, space) == ("f32", "global"):
                    new_value = add_in_global_memory
                access = f"b{WIDTH[t]}"
                temporary = {"f32": "%f1", "f64": "%g1"}.get(t, "%t3" if WIDTH[t] == 32 else "%q3")
                inputs = operands(t, t, count=50)
                start = f"{where} st.{space}.{access} [%q1], %a;"
                load = f"ld.{space}.{access} %d, [%q1];"
                full = f"{space}.{name}.{t}"
                new = f"{start} atom.{full} {temporary}, [%q1], %b; {load}"
                made.append(Case(f"atom.{full}", new, inputs, t, new_value, **needs))
                if name != "exch":
                    quiet = f"{start} red.{full} [%q1], %b; {load}"
                    made.append(Case(f"red.{full}", quiet, inputs, t, new_value, **needs))
                old = f"{start} atom.{full} %d, [%q1], %b;"
                made.append(Case(f"atom.{full}_old", old, inputs, t, lambda a, _: a, **needs))
        for t in ("b32", "b64"):
            pair = operands(t, t, count=50)
            hits = np.arange(len(pair[0][1]), dtype=np.uint32) % 3 % 2
            inputs = [*pair, ("u32", hits)]
            register = "%t3" if t == "b32" else "%q3"
            # Where %c is 1 the comparison is with what is there, and succeeds.
            code = (
                f"{where} st.{space}.{t} [%q1], %a; setp.ne.u32 %p1, %c, 0; not.{t} {register}, %a;"
                f"@%p1 mov.{t} {register}, %a; atom.{space}.cas.{t} {register}, [%q1], {register}, %b;"
                f"ld.{space}.{t} %d, [%q1];"
            )
            rule = lambda a, b, c: b if c else a  # noqa: E731
            made.append(Case(f"atom.{space}.cas.{t}", code, inputs, t, rule, **needs))
    return made


def numbers(count: int) -> list[tuple[str, np.ndarray]]:
    return [("u32", np.random.default_rng(5).integers(0, 2**32, count, dtype=np.uint32))]


def tickets(got: np.ndarray, _: np.ndarray) -> str | None:
    """Every thread drew another number, and none is missing."""
    return (
        None if sorted(got.tolist()) == list(range(len(got))) else f"not each number once: {sorted(got)[:40]}"
    )


def contended() -> list[Case]:
    code = "mov.u64 %q1, m; atom.global.add.u32 %d, [%q1], 1;"
    one = Case("tickets", code, numbers(5000), "u32", lambda _: 0, preamble=".global .u32 m;")
    one.check = tickets
    code = "mov.u64 %q1, m; " + lock_free_increment()
    two = Case("tickets_by_cas", code, numbers(2000), "u32", lambda _: 0, preamble=".global .u32 m;")
    two.check = tickets
    return [one, two]


def lock_free_increment() -> str:
    """A loop that each lane leaves at another time."""
    return (
        "ld.volatile.global.u32 %t1, [%q1]; AGAIN: add.u32 %t2, %t1, 1; mov.b32 %t3, %t1;"
        "atom.global.cas.b32 %t1, [%q1], %t3, %t2; setp.ne.u32 %p1, %t1, %t3; @%p1 bra AGAIN;"
        "mov.u32 %d, %t1;"
    )


def barriers() -> list[Case]:
    """Whole blocks only: a thread reads what another warp wrote."""
    count = 10 * THREADS
    ((_, values),) = numbers(count)
    blocks = values.reshape(-1, THREADS)
    rolled = iter(np.roll(blocks, -40, axis=1).ravel().tolist())
    code = (
        "mov.u32 %t1, %tid.x; shl.b32 %t2, %t1, 2; mov.u32 %t3, m; add.u32 %t2, %t2, %t3;"
        "st.shared.u32 [%t2], %a;"
        f"bar.sync 0; add.u32 %t1, %t1, 40; rem.u32 %t1, %t1, {THREADS}; shl.b32 %t2, %t1, 2;"
        "add.u32 %t2, %t2, %t3; ld.shared.u32 %d, [%t2];"
    )
    shared = f".shared .align 4 .b8 m[{4 * THREADS}];"
    made = [Case("bar.sync", code, [("u32", values)], "u32", lambda _: next(rolled), declarations=shared)]
    odd = "and.b32 %t1, %a, 1; setp.ne.u32 %p1, %t1, 0;"
    sums = iter(np.repeat((blocks & 1).sum(axis=1), THREADS).tolist())
    made.append(
        Case(
            "bar.red.popc",
            f"{odd} bar.red.popc.u32 %d, 0, %p1;",
            [("u32", values)],
            "u32",
            lambda _: next(sums),
        )
    )
    return made


def divergence() -> list[Case]:
    def triangle(a: int) -> int:
        return sum(range(a & 31))

    loop = (
        "and.b32 %t1, %a, 31; mov.u32 %d, 0; mov.u32 %t2, 0;"
        "LOOP: setp.ge.u32 %p1, %t2, %t1; @%p1 bra OUT; add.u32 %d, %d, %t2; add.u32 %t2, %t2, 1;"
        "bra LOOP; OUT:"
    )

    def collatz(a: int) -> int:
        value, steps = (a & 255) + 1, 0
        while value != 1:
            value, steps = value // 2 if value % 2 == 0 else 3 * value + 1, steps + 1
        return steps

    steps = (
        "and.b32 %t1, %a, 255; add.u32 %t1, %t1, 1; mov.u32 %d, 0;"
        "NEXT: setp.eq.u32 %p1, %t1, 1; @%p1 bra OUT; add.u32 %d, %d, 1; and.b32 %t2, %t1, 1;"
        "setp.ne.u32 %p2, %t2, 0; @%p2 bra ODD; shr.u32 %t1, %t1, 1; bra NEXT;"
        "ODD: mad.lo.u32 %t1, %t1, 3, 1; bra NEXT; OUT:"
    )

    def switch(a: int) -> int:
        return [a + 1, a * 3, a ^ 0xFFFF, a >> 3][a & 3]

    table = (
        "and.b32 %t1, %a, 3; T: .branchtargets L0, L1, L2, L3; brx.idx %t1, T;"
        "L0: add.u32 %d, %a, 1; bra OUT; L1: mul.lo.u32 %d, %a, 3; bra OUT;"
        "L2: xor.b32 %d, %a, 65535; bra OUT; L3: shr.u32 %d, %a, 3; OUT:"
    )
    predicated = (
        "and.b32 %t1, %a, 1; setp.ne.u32 %p1, %t1, 0; @%p1 add.u32 %d, %a, 5; @!%p1 sub.u32 %d, %a, 7;"
    )
    inputs = numbers(500)
    return [
        Case("loop", loop, inputs, "u32", triangle),
        Case("nested_divergence", steps, inputs, "u32", collatz),
        Case("brx.idx", table, inputs, "u32", switch),
        Case("predication", predicated, inputs, "u32", lambda a: a + 5 if a & 1 else a - 7),
    ]


def calls() -> list[Case]:
    def factorial(a: int) -> int:
        result = 1
        for k in range(1, (a & 15) + 1):
            result *= k
        return result

    recursive = """
        .func (.param .b32 r) f (.param .b32 n) {
          .reg .pred p; .reg .b32 a, b;
          ld.param.u32 a, [n]; setp.gt.u32 p, a, 1; @p bra MORE; st.param.b32 [r], 1; ret;
          MORE: { .param .b32 q; .param .b32 s; sub.u32 b, a, 1; st.param.b32 [q], b;
          call.uni (s), f, (q); ld.param.b32 b, [s]; }
          mul.lo.u32 a, a, b; st.param.b32 [r], a; ret;
        }"""
    call = "{ .param .b32 q; .param .b32 s; and.b32 %t1, %a, 15; st.param.b32 [q], %t1;"
    call += "call (s), f, (q); ld.param.b32 %d, [s]; }"
    two = """
        .func (.reg .u32 r) f (.reg .u32 a) { add.u32 r, a, 11; ret; }
        .func (.reg .u32 r) g (.reg .u32 a) { mul.lo.u32 r, a, 13; ret; }
        .global .u64 table[2] = {f, g};"""
    indirect = (
        "and.b32 %t1, %a, 1; mul.wide.u32 %q1, %t1, 8; mov.u64 %q2, table; add.u64 %q1, %q1, %q2;"
        "ld.global.u64 %q3, [%q1]; P: .callprototype (.reg .u32 _) _ (.reg .u32 _); call (%d), %q3, (%a), P;"
    )
    inputs = numbers(500)
    return [
        Case("recursion", call, inputs, "u32", factorial, preamble=recursive),
        Case("indirect_call", indirect, inputs, "u32", lambda a: a * 13 if a & 1 else a + 11, preamble=two),
    ]


CASES = [*atomics(), *contended(), *barriers(), *divergence(), *calls()]


@pytest.fixture(scope="module", params=instruction_sets())
def answers(request: pytest.FixtureRequest, native_dir, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_cases(
        CASES, native_dir / "simgpu/libcuda.so.1", tmp_path_factory.mktemp("control"), request.param
    )


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_control(answers: Answers, one: Case) -> None:
    answers.check(one)
