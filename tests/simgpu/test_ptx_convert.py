"""Conversions and moves of PTX (PTX ISA 9.7.9: cvt, mov, cvta, ld, st; 9.7.13: shfl, vote, match, redux)."""

from __future__ import annotations

from collections.abc import Callable

import ieee
import numpy as np
import pytest
from ieee import F16, F32, F64
from ptx_cases import FORMATS, THREADS, TYPES, Answers, Case, case, instruction_sets, operands, run_cases

pytestmark = pytest.mark.sanitized

INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")


def bounds(kind: str) -> tuple[int, int]:
    info = np.iinfo(TYPES[kind][0])
    return int(info.min), int(info.max)


def clamp(value: int, kind: str) -> int:
    low, high = bounds(kind)
    return max(low, min(high, value))


def cases() -> list[Case]:
    made: list[Case] = []

    def add(
        name: str, kinds: tuple[str, ...], output: str, rule: Callable[..., int], code: str = "", **options
    ) -> None:
        made.append(case(name, code or f"{name} %d, %a;", kinds, output, rule, **options))

    between_integers(add)
    integers_and_floats(add)
    between_floats(add)
    packing(add)
    memory(add)
    shuffles(made)
    votes(made)
    return made


def between_integers(add: Callable[..., None]) -> None:
    for source in INTEGERS:
        for target in INTEGERS:
            if source == target:
                continue
            add(f"cvt.{target}.{source}", (source,), target, lambda a: a, count=100)
            add(f"cvt.sat.{target}.{source}", (source,), target, lambda a, t=target: clamp(a, t), count=100)


def integers_and_floats(add: Callable[..., None]) -> None:
    for f in ("f16", "f32", "f64"):
        fmt = FORMATS[f]
        for i in INTEGERS:
            if f == "f16" and i.endswith("8"):
                continue
            low, high = bounds(i)
            width, signed = (high - low).bit_length(), i[0] == "s"
            for mode in ("rni", "rzi", "rmi", "rpi"):
                # NaN to a 64-bit integer is 0x8000000000000000 on some cards: no promise.
                keep = (lambda a, fmt=fmt: not fmt.is_nan(a)) if width == 64 else None
                rule = lambda a, fmt=fmt, mode=mode, w=width, s=signed: ieee.to_integer(fmt, a, mode, w, s)  # noqa: E731
                add(f"cvt.{mode}.{i}.{f}", (f,), i, rule, count=300, **({"only": keep} if keep else {}))
            for mode in ("rn", "rz", "rm", "rp"):
                if f == "f16" and mode != "rn":
                    continue
                rule = lambda a, fmt=fmt, mode=mode: ieee.encode(fmt, ieee.Fraction(a), mode)  # noqa: E731
                add(f"cvt.{mode}.{f}.{i}", (i,), f, rule, count=300)


def between_floats(add: Callable[..., None]) -> None:
    for mode in ("rn", "rz", "rm", "rp"):
        add(f"cvt.{mode}.f32.f64", ("f64",), "f32", lambda a, mode=mode: ieee.convert(F64, F32, a, mode))
    for mode in ("rn", "rz"):
        add(f"cvt.{mode}.f16.f32", ("f32",), "f16", lambda a, mode=mode: ieee.convert(F32, F16, a, mode))
    add("cvt.rn.f16.f64", ("f64",), "f16", lambda a: ieee.convert(F64, F16, a))
    add("cvt.f64.f32", ("f32",), "f64", lambda a: ieee.convert(F32, F64, a))
    add("cvt.f32.f16", ("f16",), "f32", lambda a: ieee.convert(F16, F32, a))
    add("cvt.f64.f16", ("f16",), "f64", lambda a: ieee.convert(F16, F64, a))
    add("cvt.ftz.f32.f16", ("f16",), "f32", lambda a: F32.flush(ieee.convert(F16, F32, a)))
    add("cvt.rn.ftz.f32.f64", ("f64",), "f32", lambda a: F32.flush(ieee.convert(F64, F32, a)))
    add("cvt.sat.f32.f32", ("f32",), "f32", lambda a: ieee.saturate(F32, a))
    add("cvt.rn.sat.f32.f64", ("f64",), "f32", lambda a: ieee.saturate(F32, ieee.convert(F64, F32, a)))
    add("cvt.ftz.f32.f32", ("f32",), "f32", F32.flush)
    for f in ("f32", "f64"):
        for mode in ("rni", "rzi", "rmi", "rpi"):
            rule = lambda a, fmt=FORMATS[f], mode=mode: ieee.round_to_integral(fmt, a, mode)  # noqa: E731
            add(f"cvt.{mode}.{f}.{f}", (f,), f, rule)
    # Two at once, the first one to the upper half.
    pair = lambda a, b: ieee.convert(F32, F16, a) << 16 | ieee.convert(F32, F16, b)  # noqa: E731
    add("cvt.rn.f16x2.f32", ("f32", "f32"), "b32", pair, "cvt.rn.f16x2.f32 %d, %a, %b;",
        only=lambda a, b: not F32.is_nan(a) and not F32.is_nan(b))  # fmt: skip


def packing(add: Callable[..., None]) -> None:
    add("mov.b32_pack", ("b16", "b16"), "b32", lambda a, b: b << 16 | a, "mov.b32 %d, {%a, %b};")
    add("mov.b64_pack", ("b32", "b32"), "b64", lambda a, b: b << 32 | a, "mov.b64 %d, {%a, %b};")
    add("mov.b64_pack4", ("b16", "b16"), "b64", lambda a, b: b << 48 | a << 32 | b << 16 | a,
        "mov.b64 %d, {%a, %b, %a, %b};")  # fmt: skip
    add("mov.b64_low", ("b64",), "b32", lambda a: a, "mov.b64 {%d, %t1}, %a;")
    add("mov.b64_high", ("b64",), "b32", lambda a: a >> 32, "mov.b64 {%t1, %d}, %a;")
    add("mov.b32_high", ("b32",), "b16", lambda a: a >> 16, "mov.b32 {_, %d}, %a;")
    add(
        "mov.b32_swap",
        ("b32",),
        "b32",
        lambda a: a << 16 | a >> 16,
        "mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};",
    )
    add("mov.f32_bits", ("f32",), "b32", lambda a: a, "mov.b32 %d, %a;")


def memory(add: Callable[..., None]) -> None:
    """What is stored in a space is read back whole, in parts, with a sign, as a vector and generically."""
    slots = {  # bytes in all, and each thread's own place in them
        "shared": (
            2048,
            "mov.u32 %t1, %tid.x; mul.lo.u32 %t1, %t1, 16; mov.u32 %t2, m; add.u32 %t1, %t1, %t2;",
        ),
        "local": (16, "mov.u32 %t1, m;"),
    }
    for space, (size, where) in slots.items():
        declarations = f".{space} .align 16 .b8 m[{size}];"
        st, ld = f"{where} st.{space}", f"ld.{space}"
        forms: list[tuple[str, tuple[str, ...], str, Callable[..., int], str]] = [
            ("b64", ("b64",), "b64", lambda a: a, f"{st}.b64 [%t1], %a; {ld}.b64 %d, [%t1];"),
            (
                *("parts", ("b64",), "u32", lambda a: (a >> 8 & 255) + (a >> 48)),
                f"{st}.b64 [%t1], %a; {ld}.u8 %t4, [%t1+1]; {ld}.u16 %t5, [%t1+6]; add.u32 %d, %t4, %t5;",
            ),
            (
                *("signed", ("b64",), "s32", lambda a: ((a & 255) ^ 128) - 128),
                f"{st}.b64 [%t1], %a; {ld}.s8 %d, [%t1];",
            ),
            (
                *("vector", ("b32", "b32"), "b32", lambda a, b: a - b),
                f"{st}.v4.b32 [%t1], {{%a, %b, %b, %a}}; {ld}.v2.b32 {{%t4, %t5}}, [%t1+8];"
                "sub.u32 %d, %t5, %t4;",
            ),
            (
                *("generic", ("b64",), "b64", lambda a: a),
                f"{where} cvt.u64.u32 %q1, %t1; cvta.{space}.u64 %q1, %q1; st.b64 [%q1], %a;"
                f"{ld}.b64 %d, [%t1];",
            ),
        ]
        for name, kinds, output, rule, code in forms:
            add(f"{space}.{name}", kinds, output, rule, code, declarations=declarations)
    digits = [3, 1, 4, 1, 5, 9, 2, 6]
    code = (
        "and.b32 %t1, %a, 7; mul.wide.u32 %q1, %t1, 4; mov.u64 %q2, table; add.u64 %q1, %q1, %q2;"
        "ld.const.u32 %d, [%q1];"
    )
    table = f".const .u32 table[8] = {{{', '.join(map(str, digits))}}};"
    add("const.table", ("u32",), "u32", lambda a: digits[a & 7], code, declarations=table)


FULL = 0xFFFFFFFF
LANES = 32

Rule = Callable[[np.ndarray, int], int]


def warp_case(name: str, code: str, rule: Rule) -> Case:
    """Whole warps only: the rule sees the 32 values of a lane's warp, and the lane."""
    ((_, values),) = operands("u32", count=200)
    values = values[: len(values) // THREADS * THREADS]
    expected = [int(rule(row, lane)) & FULL for row in values.reshape(-1, LANES) for lane in range(LANES)]
    # The rule of a case sees one value: the row that it belongs to is told by order.
    order = iter(expected)
    return Case(name, code, [("u32", values)], "u32", lambda _value: next(order))


def shuffle(mode: str, step: int, width: int) -> Rule:
    segment = ~(width - 1) & 31

    def rule(row: np.ndarray, lane: int) -> int:
        base = lane & segment
        within = base | step & ~segment & 31
        source = {"up": lane - step, "down": lane + step, "bfly": lane ^ step, "idx": within}[mode]
        # bfly has an upper bound only: it may read a lower segment (PTX ISA, shfl.sync).
        inside = source >= base if mode == "up" else source < base + width
        return row[source] if inside else row[lane]

    return rule


def shuffles(made: list[Case]) -> None:
    for width in (32, 8):
        for mode in ("up", "down", "bfly", "idx"):
            for step in (1, 5, 16):
                mask = (32 - width) << 8 | (0 if mode == "up" else 31)
                code = f"shfl.sync.{mode}.b32 %d, %a, {step}, {mask}, -1;"
                made.append(warp_case(f"shfl.{mode}.{step}.{width}", code, shuffle(mode, step, width)))


def same(row: np.ndarray, lane: int, mask: int) -> int:
    """The lanes whose value agrees with this lane's under the mask."""
    return sum(1 << i for i in range(LANES) if (int(row[i]) ^ int(row[lane])) & mask == 0)


def odd(row: np.ndarray) -> np.ndarray:
    return (row & 1).astype(bool)


def votes(made: list[Case]) -> None:
    set_p1 = "and.b32 %t1, %a, 1; setp.ne.u32 %p1, %t1, 0;"
    branch = "@%p1 bra ODD; activemask.b32 %d; bra.uni DONE; ODD: activemask.b32 %d; DONE:"
    rules: list[tuple[str, str, Rule]] = [
        (
            "vote.ballot",
            f"{set_p1} vote.sync.ballot.b32 %d, %p1, -1;",
            lambda r, _: sum(1 << i for i in np.flatnonzero(odd(r)).tolist()),
        ),
        (
            "match.any",
            "and.b32 %t1, %a, 3; match.any.sync.b32 %d, %t1, -1;",
            lambda r, lane: same(r, lane, 3),
        ),
        ("redux.add.u32", "redux.sync.add.u32 %d, %a, -1;", lambda r, _: int(r.astype(np.uint64).sum())),
        ("redux.min.u32", "redux.sync.min.u32 %d, %a, -1;", lambda r, _: int(r.min())),
        ("redux.max.s32", "redux.sync.max.s32 %d, %a, -1;", lambda r, _: int(r.view(np.int32).max())),
        ("redux.xor.b32", "redux.sync.xor.b32 %d, %a, -1;", lambda r, _: int(np.bitwise_xor.reduce(r))),
        ("laneid", "mov.u32 %d, %laneid;", lambda _, lane: lane),
        ("lanemask_lt", "mov.u32 %d, %lanemask_lt;", lambda _, lane: (1 << lane) - 1),
        ("activemask", f"{set_p1} {branch}", lambda r, lane: same(r, lane, 1)),
    ]
    for word, rule in (("any", np.any), ("all", np.all), ("uni", lambda o: o.all() or not o.any())):
        code = f"{set_p1} vote.sync.{word}.pred %p2, %p1, -1; selp.u32 %d, 1, 0, %p2;"
        rules.append((f"vote.{word}", code, lambda r, _, rule=rule: bool(rule(odd(r)))))
    made.extend(warp_case(*row) for row in rules)


CASES = cases()


@pytest.fixture(scope="module", params=instruction_sets())
def answers(request: pytest.FixtureRequest, native_dir, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_cases(
        CASES, native_dir / "simgpu/libcuda.so.1", tmp_path_factory.mktemp("convert"), request.param
    )


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_conversion(answers: Answers, one: Case) -> None:
    answers.check(one)
