# pyright: reportRedeclaration=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportArgumentType=false
# (each row's rule has the same name)
# ruff: noqa: C901, E501, E731, F841 -- tables: rules take all operands of their instruction
"""Cases by tables: video, carries, packed integers, moves, and the rest of the warp."""

from __future__ import annotations

from itertools import product

import numpy as np
from ptx_cases import FORMATS, THREADS, Case
from ptx_forms import Rule, cut, float_holds, make, memory_case, optional

U32 = (1 << 32) - 1
SIGNED = {"u32": False, "s32": True}


def clamp(value: int, width: int, signed: bool) -> int:
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    return max(low, min(high, value))


def number(word: int, signed: bool, width: int = 32) -> int:
    word &= (1 << width) - 1
    return word - (1 << width) if signed and word >> (width - 1) else word


# --- video

SIMPLE: dict[str, Rule] = {
    "vadd": lambda a, b: a + b,
    "vsub": lambda a, b: a - b,
    "vabsdiff": lambda a, b: abs(a - b),
    "vmin": min,
    "vmax": max,
}
SECOND: dict[str, Rule] = {".add": lambda r, c: r + c, ".min": min, ".max": max}


def finished(value: int, c: int, signed: bool, saturate: bool, second: str) -> int:
    """The result's type, saturation and the second operation of a scalar video instruction."""
    value = clamp(value, 32, signed) if saturate else number(value, signed)
    return (SECOND[second](value, number(c, signed)) if second else value) & U32


def video() -> list[Case]:
    made = []
    words = ("b32", "b32", "b32")
    for op, td, ta, sat, second in product(SIMPLE, SIGNED, SIGNED, optional(".sat"), optional(*SECOND)):
        name = f"{op}.{td}.{ta}.{ta}{sat}{second}"
        third = ", %c" if second else ""

        def rule(a: int, b: int, c: int, o=op, d=SIGNED[td], s=SIGNED[ta], z=bool(sat), t=second) -> int:
            x, y = number(a, s, 8), number(b >> 16, s, 16)
            return finished(SIMPLE[o](x, y), c, d, z, t)

        made.append(make(name, words, "b32", rule, f"{name} %d, %a.b0, %b.h1{third};"))
    for op, td, ta, sat, mode, add in product(
        ("vshl", "vshr"), SIGNED, SIGNED, optional(".sat"), ("clamp", "wrap"), optional(".add")
    ):
        name = f"{op}.{td}.{ta}.u32{sat}.{mode}{add}"

        def rule(a: int, b: int, c: int, o=op, d=SIGNED[td], s=SIGNED[ta], z=bool(sat), m=mode, t=add) -> int:
            n = min(b, 32) if m == "clamp" else b & 31
            x = number(a, s)
            return finished(x << n if o == "vshl" else x >> n, c, d, z, t)

        # A left shift by up to 32 drops no bits before it saturates: the pseudo-code of 9.7.18.1.2 clamps
        # ta << tb as a number. (9.7.18.1 calls the intermediate 34 bits wide, which ta << tb is not.)
        made.append(make(name, words, "b32", rule, f"{name} %d, %a, %b{', %c' if add else ''};"))
    for td, ta, sat, scale in product(SIGNED, SIGNED, optional(".sat"), (0, 7, 15)):
        name = f"vmad.{td}.{ta}.{ta}{sat}{f'.shr{scale}' if scale else ''}"

        # The sum's sign is that of the factors, whatever the type of the result (9.7.18.1.3).
        def rule(a: int, b: int, c: int, s=SIGNED[ta], z=bool(sat), n=scale) -> int:
            value = (number(a, s, 16) * number(b >> 16, s, 16) + number(c, s)) >> n
            return (clamp(value, 32, s) if z else value) & U32

        made.append(make(name, words, "b32", rule, f"{name} %d, %a.h0, %b.h1, %c;"))
    for ta, word, second in product(SIGNED, ("eq", "ne", "lt", "le", "gt", "ge"), optional(*SECOND)):
        name = f"vset.{ta}.{ta}.{word}{second}"

        def rule(a: int, b: int, c: int, s=SIGNED[ta], w=word, t=second) -> int:
            x, y = number(a, s), number(b, s)
            truth = int({"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[w])
            return (SECOND[t](truth, c) if t else truth) & U32

        made.append(make(name, words, "b32", rule, f"{name} %d, %a, %b{', %c' if second else ''};"))
    return made


def lanes(made_of: int, word: int, signed: bool) -> list[int]:
    return cut(word, 32 // made_of, signed)


def simd_video() -> list[Case]:
    made = []
    simple = {**SIMPLE, "vavrg": lambda a, b: (a + b + (a + b >= 0)) >> 1}
    for op, n, td, ta, note in product(simple, (2, 4), SIGNED, SIGNED, optional(".sat", ".add")):
        name = f"{op}{n}.{td}.{ta}.{ta}{note}"
        width = 32 // n

        def rule(a: int, b: int, c: int, o=op, n=n, w=width, d=SIGNED[td], s=SIGNED[ta], t=note) -> int:
            each = [simple[o](x, y) for x, y in zip(lanes(n, a, s), lanes(n, b, s), strict=True)]
            if t == ".add":
                return (sum(each) + c) & U32
            if t == ".sat":
                each = [clamp(value, w, d) for value in each]
            return sum((value & ((1 << w) - 1)) << w * k for k, value in enumerate(each))

        made.append(make(name, ("b32",) * 3, "b32", rule, f"{name} %d, %a, %b, %c;"))
    for n, ta, word, add in product((2, 4), SIGNED, ("eq", "ne", "lt", "le", "gt", "ge"), optional(".add")):
        name = f"vset{n}.{ta}.{ta}.{word}{add}"

        def rule(a: int, b: int, c: int, n=n, s=SIGNED[ta], w=word, t=add) -> int:
            pairs = zip(lanes(n, a, s), lanes(n, b, s), strict=True)
            truths = [
                {"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[w]
                for x, y in pairs
            ]
            return (sum(truths) + c) & U32 if t else sum(v << 32 // n * k for k, v in enumerate(truths))

        made.append(make(name, ("b32",) * 3, "b32", rule, f"{name} %d, %a, %b, %c;"))
    return made


# --- integers


def integers() -> list[Case]:
    made = []
    for t, r in (("s32", "%t"), ("s64", "%q")):
        w = int(t[1:])
        m = (1 << w) - 1
        two = lambda high, low, w=w, m=m: (high & m) << w | (low & m)
        for op, sign in (("add", 1), ("sub", -1)):
            # (b:a) op (c:b): the upper half of a sum in two steps, then of one in three
            rule = lambda a, b, c, s=sign, two=two, w=w: (two(b, a) + s * two(c, b)) >> w
            made.append(
                make(f"{op}.cc.{t}", (t,) * 3, t, rule, f"{op}.cc.{t} {r}1, %a, %b; {op}c.{t} %d, %b, %c;")
            )
            three = lambda a, b, c, s=sign, w=w, m=m: (
                (
                    ((a & m) << 2 * w | (b & m) << w | (a & m))
                    + s * ((c & m) << 2 * w | (c & m) << w | (b & m))
                )
                >> 2 * w
            )
            code = f"{op}.cc.{t} {r}1, %a, %b; {op}c.cc.{t} {r}2, %b, %c; {op}c.{t} %d, %a, %c;"
            made.append(make(f"{op}c.cc.{t}", (t,) * 3, t, three, code))
    for t, half, cc in product(("u32", "s32", "u64", "s64"), ("lo", "hi"), optional(".cc")):
        w, r = int(t[1:]), "%t" if t.endswith("32") else "%q"
        m = (1 << w) - 1
        unsigned = f"u{w}"

        # A carry of a + a comes in; with .cc the carry that goes out is what is looked at.
        def rule(a: int, b: int, c: int, w=w, m=m, h=half, cc=bool(cc)) -> int:
            carry = ((a & m) + (a & m)) >> w
            part = a * b & m if h == "lo" else a * b >> w & m
            total = part + (c & m) + carry
            return total >> w if cc else total

        end = (
            f"madc.{half}.cc.{t} {r}2, %a, %b, %c; addc.{unsigned} %d, 0, 0;"
            if cc
            else f"madc.{half}.{t} %d, %a, %b, %c;"
        )
        made.append(make(f"madc.{half}{cc}.{t}", (t,) * 3, t, rule, f"add.cc.{unsigned} {r}1, %a, %a; {end}"))
        if cc:
            plain = lambda a, b, c, w=w, m=m, h=half: (
                ((a * b & m if h == "lo" else a * b >> w & m) + (c & m)) >> w
            )
            code = f"mad.{half}.cc.{t} {r}1, %a, %b, %c; addc.{unsigned} %d, 0, 0;"
            made.append(make(f"mad.{half}.cc.{t}", (t,) * 3, t, plain, code))
    for t, sat in (("u32", ""), ("s32", ""), ("s32", ".sat")):
        s = t == "s32"

        def high(a: int, b: int, c: int, s=s, z=bool(sat)) -> int:
            value = number((number(a, s, 24) * number(b, s, 24)) >> 16, s) + c
            return clamp(value, 32, True) if z else value

        made.append(make(f"mad24.hi{sat}.{t}", (t,) * 3, t, high))
    for op, kind, note in product(("add", "min", "max"), ("u16x2", "s16x2"), optional(".relu")):
        if note and (op == "add" or kind == "u16x2"):
            continue
        choose = {"add": lambda x, y: x + y, "min": min, "max": max}[op]

        def pairs(a: int, b: int, f=choose, s=kind[0] == "s", z=bool(note)) -> int:
            out = [f(x, y) for x, y in zip(cut(a, 16, s), cut(b, 16, s), strict=True)]
            out = [max(value, 0) if z else value for value in out]
            return (out[1] & 0xFFFF) << 16 | out[0] & 0xFFFF

        name = f"{op}{note}.{kind}"
        made.append(make(name, ("b32", "b32"), "b32", pairs, f"{name} %d, %a, %b;", target="sm_90"))
    for t in ("u2", "s2", "u4", "s4", "u8", "s8", "u16", "s16"):
        w, s = int(t[1:]), t[0] == "s"
        name = f"cvt.pack.sat.{t}.s32{'.b32' if w < 16 else ''}"

        def pack(a: int, b: int, c: int = 0, w=w, s=s) -> int:
            cutoff = (1 << w) - 1
            return (c << 2 * w | (clamp(a, w, s) & cutoff) << w | clamp(b, w, s) & cutoff) & U32

        made.append(make(name, ("s32", "s32", "b32")[: 3 if w < 16 else 2], "b32", pack))
    for t in ("b16", "b32", "b64"):
        w = int(t[1:])
        made.append(make(f"shr.{t}", (t, "u32"), t, lambda a, b, w=w: a >> b if b < w else 0))
    for t in ("b16", "u16", "s16", "s32", "s64", "f32"):
        made.append(make(f"mov.{t}", (t,), t, lambda a: a))
    code = "setp.ne.u32 %p1, %a, 0; mov.pred %p2, %p1; selp.u32 %d, 1, 0, %p2;"
    made.append(make("mov.pred", ("u32",), "u32", lambda a: a != 0, code))
    for t in ("u32", "s32", "f32", "f64"):
        odd = "and.b32 %t1, %c, 1; setp.ne.u32 %p1, %t1, 0;"
        rule = (
            (lambda a, b, c, f=FORMATS[t]: 0x3F800000 if float_holds(f, "lt", a, b) and c & 1 else 0)
            if t in FORMATS
            else (lambda a, b, c: 0x3F800000 if a < b and c & 1 else 0)
        )
        code = f"{odd} set.lt.and.f32.{t} %d, %a, %b, %p1;"
        made.append(make(f"set.lt.and.f32.{t}", (t, t, "u32"), "f32", rule, code))
    return made


def exchanges() -> list[Case]:
    """Compare and swap in each space: where b has an odd value the comparison is made to fail."""
    made = []
    for space, t in product(("", "global", "shared"), ("b16", "b32", "b64")):
        dot, w = f".{space}" if space else "", int(t[1:])
        r = {"b16": "%h", "b32": "%t", "b64": "%q"}[t]
        code = (
            f"st{dot}.{t} [%q1], %a; mov.{t} {r}5, %a; xor.{t} {r}6, {r}5, 1; not.{t} {r}7, {r}5;"
            f"atom{dot}.cas.{t} {r}4, [%q1], {r}6, {r}7; xor.{t} {r}7, {r}5, 2;"
            f"atom{dot}.cas.{t} {r}4, [%q1], {r}5, {r}7; ld{dot}.{t} %d, [%q1];"
        )
        made.append(memory_case(f"atom{dot}.cas.{t}", space, t, code, lambda a: a ^ 2))
    return made


def warp() -> list[Case]:
    """A warp's values as one row each: whole warps, from NumPy."""
    rng = np.random.default_rng(17)
    values = rng.integers(0, 2**32, 10 * THREADS, dtype=np.uint64).astype(np.uint32)
    values[:THREADS] &= 3
    values[32:64] = 7
    rows = values.reshape(-1, 32)
    signed = rows.view(np.int32)
    made = []

    def add(name: str, code: str, expected: np.ndarray, target: str = "sm_80") -> None:
        found = iter(np.broadcast_to(expected, rows.shape).ravel().tolist())
        made.append(
            Case("form:" + name, code, [("u32", values)], "u32", lambda _: next(found), target=target)
        )

    for name, out in (
        ("add.u32", rows.sum(axis=1, dtype=np.uint32)), ("add.s32", rows.sum(axis=1, dtype=np.uint32)),
        ("min.u32", rows.min(axis=1)), ("max.u32", rows.max(axis=1)),
        ("min.s32", signed.min(axis=1)), ("max.s32", signed.max(axis=1)),
        ("and.b32", np.bitwise_and.reduce(rows, axis=1)), ("or.b32", np.bitwise_or.reduce(rows, axis=1)),
        ("xor.b32", np.bitwise_xor.reduce(rows, axis=1)),
    ):  # fmt: skip
        add(f"redux.sync.{name}", f"redux.sync.{name} %d, %a, -1;", out[:, None])
    same = (rows[:, :, None] == rows[:, None, :]) @ (1 << np.arange(32, dtype=np.uint64))
    add("match.any.sync.b32", "match.any.sync.b32 %d, %a, -1;", same)
    add("match.any.sync.b64", "mov.b64 %q1, {%a, %a}; match.any.sync.b64 %d, %q1, -1;", same)
    all_same = (rows == rows[:, :1]).all(axis=1)[:, None]
    add("match.all.sync.b32", "match.all.sync.b32 %t1|%p1, %a, -1; selp.b32 %d, %t1, 7, %p1;",
        np.where(all_same, U32, 7))  # fmt: skip
    add("match.all.sync.b64", "mov.b64 %q1, {%a, %a}; match.all.sync.b64 %t1|%p1, %q1, -1; selp.b32 %d, %t1, 7, %p1;",
        np.where(all_same, U32, 7))  # fmt: skip
    odd = rows & 1 == 1
    voted = {
        "all": odd.all(axis=1), "any": odd.any(axis=1), "uni": odd.all(axis=1) | ~odd.any(axis=1),
    }  # fmt: skip
    for name, out in voted.items():
        code = f"and.b32 %t1, %a, 1; setp.ne.u32 %p1, %t1, 0; vote.sync.{name}.pred %p2, %p1, -1; selp.u32 %d, 1, 0, %p2;"
        add(f"vote.sync.{name}.pred", code, out[:, None])
    return made


CASES: list[Case] = [
    *video(), *simd_video(), *integers(), *exchanges(), *warp(),
]  # fmt: skip
