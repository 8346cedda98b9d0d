"""Integer instructions of PTX against Python's integers (PTX ISA 9.7.1, 9.7.2, 9.7.5, 9.7.6, 9.7.8)."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
import pytest
from ptx_cases import TYPES, Answers, Case, case, instruction_sets, run_cases

pytestmark = pytest.mark.sanitized

WIDTH = {kind: 8 * np.dtype(dtype).itemsize for kind, (dtype, _, _) in TYPES.items()}


def clamp(value: int, kind: str) -> int:
    width = WIDTH[kind]
    return max(-(1 << (width - 1)), min((1 << (width - 1)) - 1, value))


def truncated(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


Add = Callable[..., None]


def cases() -> list[Case]:
    made: list[Case] = []

    def add(
        name: str, kinds: tuple[str, ...], output: str, rule: Callable[..., int], **options: object
    ) -> None:
        """A case; its code is the name with %d and the inputs unless `code` gives another."""
        code = str(options.pop("code", f"{name} %d, {', '.join('%' + n for n in 'abc'[: len(kinds)])};"))
        made.append(case(name, code, kinds, output, rule, **options))

    for kind in ("u16", "s16", "u32", "s32", "u64", "s64"):
        arithmetic(add, kind)
        comparisons(add, kind)
    narrow(add)
    logic(add)
    bit_fields(add)
    carry_chains(add)
    selections(add)
    dot_products(add)
    return made


def arithmetic(add: Add, t: str) -> None:
    width = WIDTH[t]
    add(f"add.{t}", (t, t), t, lambda a, b: a + b)
    add(f"sub.{t}", (t, t), t, lambda a, b: a - b)
    add(f"mul.lo.{t}", (t, t), t, lambda a, b: a * b)
    add(f"mul.hi.{t}", (t, t), t, lambda a, b: a * b >> width)
    add(f"mad.lo.{t}", (t, t, t), t, lambda a, b, c: a * b + c)
    add(f"mad.hi.{t}", (t, t, t), t, lambda a, b, c: (a * b >> width) + c)
    add(f"min.{t}", (t, t), t, min)
    add(f"max.{t}", (t, t), t, max)
    add(f"sad.{t}", (t, t, t), t, lambda a, b, c: abs(a - b) + c)
    add(f"shr.{t}", (t, "u32"), t, lambda a, n: a >> min(n, width))

    def divisible(a: int, b: int) -> bool:
        return b != 0 and not (a == -(1 << (width - 1)) and b == -1)

    add(f"div.{t}", (t, t), t, truncated, only=divisible)
    add(f"rem.{t}", (t, t), t, lambda a, b: a - truncated(a, b) * b, only=divisible)
    if width < 64:
        double = f"{t[0]}{2 * width}"
        add(f"mul.wide.{t}", (t, t), double, lambda a, b: a * b)
        add(f"mad.wide.{t}", (t, t, double), double, lambda a, b, c: a * b + c)
    if t[0] == "s":
        add(f"abs.{t}", (t,), t, lambda a: abs(a))
        add(f"neg.{t}", (t,), t, lambda a: -a)


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    # For unsigned types only.
    "lo": operator.lt,
    "ls": operator.le,
    "hi": operator.gt,
    "hs": operator.ge,
}


def comparisons(add: Add, t: str) -> None:
    for word, rule in COMPARISONS.items():
        if t[0] == "u" or word not in ("lo", "ls", "hi", "hs"):
            code = f"setp.{word}.{t} %p1, %a, %b; selp.u32 %d, 1, 0, %p1;"
            add(f"setp.{word}.{t}", (t, t), "u32", rule, code=code)


def narrow(add: Add) -> None:
    """Saturation, and products of 24 bits."""
    add("add.sat.s32", ("s32", "s32"), "s32", lambda a, b: clamp(a + b, "s32"))
    add("sub.sat.s32", ("s32", "s32"), "s32", lambda a, b: clamp(a - b, "s32"))
    add("mad.hi.sat.s32", ("s32", "s32", "s32"), "s32", lambda a, b, c: clamp((a * b >> 32) + c, "s32"))

    def low24(value: int, signed: bool) -> int:
        return (value & 0xFFFFFF) - ((value & 0x800000) << 1 if signed else 0)

    for t, signed in (("u32", False), ("s32", True)):
        lo = lambda a, b, c=0, s=signed: low24(a, s) * low24(b, s) + c  # noqa: E731
        hi = lambda a, b, s=signed: low24(a, s) * low24(b, s) >> 16  # noqa: E731
        add(f"mul24.lo.{t}", (t, t), t, lo)
        add(f"mul24.hi.{t}", (t, t), t, hi)
        add(f"mad24.lo.{t}", (t, t, t), t, lo)


def logic(add: Add) -> None:
    for t in ("b16", "b32", "b64"):
        add(f"and.{t}", (t, t), t, lambda a, b: a & b)
        add(f"or.{t}", (t, t), t, lambda a, b: a | b)
        add(f"xor.{t}", (t, t), t, lambda a, b: a ^ b)
        add(f"not.{t}", (t,), t, lambda a: ~a)
        add(f"cnot.{t}", (t,), t, lambda a: a == 0)
        add(f"shl.{t}", (t, "u32"), t, lambda a, n, width=WIDTH[t]: a << n if n < width else 0)
    for mode in ("", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"):
        add(f"prmt.b32{mode}", ("b32", "b32", "b32"), "b32", permute(mode))
    for table in (0x00, 0x1E, 0x80, 0x96, 0xCA, 0xE8, 0xFE, 0xFF):
        code = f"lop3.b32 %d, %a, %b, %c, {table};"
        add(f"lop3.b32_{table:02x}", ("b32", "b32", "b32"), "b32", lookup(table), code=code)
    for direction in ("l", "r"):
        for mode in ("wrap", "clamp"):
            add(f"shf.{direction}.{mode}.b32", ("b32", "b32", "u32"), "b32", funnel(direction, mode))


def bit_fields(add: Add) -> None:
    # Position and length come from one operand's bytes.
    bytes_of = "and.b32 %t1, %{0}, 255; shr.u32 %t2, %{0}, 8; and.b32 %t2, %t2, 255;"
    for t in ("b32", "b64"):
        width = WIDTH[t]
        add(f"popc.{t}", (t,), "u32", lambda a: a.bit_count())
        add(f"clz.{t}", (t,), "u32", lambda a, width=width: width - a.bit_length())
        add(f"brev.{t}", (t,), t, lambda a, width=width: int(f"{a:0{width}b}"[::-1], 2))
        code = f"{bytes_of.format('c')} bfi.{t} %d, %a, %b, %t1, %t2;"
        add(f"bfi.{t}", (t, t, "u32"), t, bit_insert(width), code=code)
    for t in ("u32", "s32", "u64", "s64"):
        code = f"{bytes_of.format('b')} bfe.{t} %d, %a, %t1, %t2;"
        add(f"bfe.{t}", (t, "u32"), t, bit_extract(t), code=code)
        add(f"bfind.{t}", (t,), "u32", lambda a: (a if a >= 0 else ~a).bit_length() - 1)
        add(f"bfind.shiftamt.{t}", (t,), "u32", find_shift(WIDTH[t]))


def bit_insert(width: int) -> Callable[..., int]:
    def rule(a: int, b: int, c: int) -> int:
        position, length = c & 255, c >> 8 & 255
        for i in range(length):
            if position + i >= width:
                break
            b = b & ~(1 << (position + i)) | (a >> i & 1) << (position + i)
        return b

    return rule


def bit_extract(kind: str) -> Callable[..., int]:
    width = WIDTH[kind]

    def rule(a: int, b: int) -> int:
        position, length = b & 255, b >> 8 & 255
        bits = a & ((1 << width) - 1)
        signed = kind[0] == "s" and length > 0
        sign = bits >> min(position + length - 1, width - 1) & 1 if signed else 0
        result = 0
        for i in range(width):
            inside = i < length and position + i < width
            result |= (bits >> (position + i) & 1 if inside else sign) << i
        return result

    return rule


def find_shift(width: int) -> Callable[[int], int]:
    def rule(a: int) -> int:
        top = (a if a >= 0 else ~a).bit_length() - 1
        return top if top < 0 else width - 1 - top

    return rule


def permute(mode: str) -> Callable[..., int]:
    def rule(a: int, b: int, c: int) -> int:
        pool = [(b << 32 | a) >> 8 * i & 255 for i in range(8)]
        n = c & 3
        chosen = {
            ".f4e": [n, n + 1, n + 2, n + 3],
            ".b4e": [n, (n - 1) % 8, (n - 2) % 8, (n - 3) % 8],
            ".rc8": [n] * 4,
            ".ecl": [max(i, n) for i in range(4)],
            ".ecr": [min(i, n) for i in range(4)],
            ".rc16": [2 * (n & 1), 2 * (n & 1) + 1] * 2,
        }
        result = 0
        for i in range(4):
            if mode:
                byte = pool[chosen[mode][i]]
            else:
                selector = c >> 4 * i & 15
                byte = pool[selector & 7]
                if selector & 8:
                    byte = 255 if byte & 128 else 0
            result |= byte << 8 * i
        return result

    return rule


def lookup(table: int) -> Callable[..., int]:
    def rule(a: int, b: int, c: int) -> int:
        return sum(
            (table >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1)) & 1) << i for i in range(32)
        )

    return rule


def funnel(direction: str, mode: str) -> Callable[..., int]:
    def rule(a: int, b: int, c: int) -> int:
        n = c & 31 if mode == "wrap" else min(c, 32)
        both = b << 32 | a
        return both << n >> 32 if direction == "l" else both >> n

    return rule


def carry_chains(add: Add) -> None:
    """128-bit sums and products in 32-bit or 64-bit steps, cut to their upper half."""
    for t, width in (("u32", 32), ("u64", 64)):
        r = "%t" if width == 32 else "%q"
        mask = (1 << width) - 1
        # (b:a) + (c:b) and its kin: low halves make the carry, the upper sum is what comes out.
        add(
            f"add.cc.{t}", (t, t, t), t, lambda a, b, c, w=width: ((b << w | a) + (c << w | b)) >> w,
            code=f"add.cc.{t} {r}1, %a, %b; addc.{t} %d, %b, %c;",
        )  # fmt: skip
        add(
            f"addc.cc.{t}", (t, t, t), t,
            lambda a, b, c, w=width: ((a << 2 * w | b << w | a) + (c << 2 * w | c << w | b)) >> 2 * w,
            code=f"add.cc.{t} {r}1, %a, %b; addc.cc.{t} {r}2, %b, %c; addc.{t} %d, %a, %c;",
        )  # fmt: skip
        add(
            f"sub.cc.{t}", (t, t, t), t, lambda a, b, c, w=width: ((b << w | a) - (c << w | b)) >> w,
            code=f"sub.cc.{t} {r}1, %a, %b; subc.{t} %d, %b, %c;",
        )  # fmt: skip
        add(
            f"subc.cc.{t}", (t, t, t), t,
            lambda a, b, c, w=width: ((a << 2 * w | b << w | a) - (c << 2 * w | c << w | b)) >> 2 * w,
            code=f"sub.cc.{t} {r}1, %a, %b; subc.cc.{t} {r}2, %b, %c; subc.{t} %d, %a, %c;",
        )  # fmt: skip
        add(
            f"mad.lo.cc.{t}", (t, t, t), t, lambda a, b, c, w=width, m=mask: (a * b + (a << w | c)) >> w & m,
            code=f"mad.lo.cc.{t} {r}1, %a, %b, %c; madc.hi.{t} %d, %a, %b, %a;",
        )  # fmt: skip
        add(
            f"madc.hi.cc.{t}", (t, t, t), t,
            lambda a, b, c, w=width: (a * b + (c << w | c)) >> 2 * w,
            code=f"mad.lo.cc.{t} {r}1, %a, %b, %c; madc.hi.cc.{t} {r}2, %a, %b, %c; addc.{t} %d, 0, 0;",
        )  # fmt: skip


def selections(add: Add) -> None:
    add("slct.s32.s32", ("s32", "s32", "s32"), "s32", lambda a, b, c: a if c >= 0 else b)
    add("slct.u64.s32", ("u64", "u64", "s32"), "u64", lambda a, b, c: a if c >= 0 else b)
    add("set.lt.u32.s32", ("s32", "s32"), "u32", lambda a, b: 0xFFFFFFFF if a < b else 0)
    add("set.ge.and.u32.u32", ("u32", "u32", "u32"), "u32",
        lambda a, b, c: 0xFFFFFFFF if a >= b and c & 1 else 0,
        code="and.b32 %t1, %c, 1; setp.ne.u32 %p1, %t1, 0; set.ge.and.u32.u32 %d, %a, %b, %p1;")  # fmt: skip
    for word, rule in (
        ("and", lambda a, b, c: a < b and c % 2 == 1),
        ("or", lambda a, b, c: a < b or c % 2 == 1),
        ("xor", lambda a, b, c: (a < b) != (c % 2 == 1)),
    ):
        add(f"setp.lt.{word}.s32", ("s32", "s32", "s32"), "u32", rule,
            code=f"and.b32 %t1, %c, 1; setp.ne.u32 %p1, %t1, 0; setp.lt.{word}.s32 %p2|%p3, %a, %b, %p1;"
            "selp.u32 %d, 1, 0, %p2;")  # fmt: skip
    add("setp_second", ("s32", "s32", "s32"), "u32", lambda a, b, c: not a < b and c % 2 == 1,
        code="and.b32 %t1, %c, 1; setp.ne.u32 %p1, %t1, 0; setp.lt.and.s32 %p2|%p3, %a, %b, %p1;"
        "selp.u32 %d, 1, 0, %p3;")  # fmt: skip
    add("setp_negated", ("s32", "s32", "s32"), "u32", lambda a, b, c: a < b and c % 2 == 0,
        code="and.b32 %t1, %c, 1; setp.ne.u32 %p1, %t1, 0; setp.lt.and.s32 %p2, %a, %b, !%p1;"
        "selp.u32 %d, 1, 0, %p2;")  # fmt: skip
    for word, rule in (("and", lambda a, b: a & b), ("or", lambda a, b: a | b), ("xor", lambda a, b: a ^ b)):
        add(f"{word}.pred", ("u32", "u32"), "u32", lambda a, b, rule=rule: rule(a & 1, b & 1),
            code="and.b32 %t1, %a, 1; and.b32 %t2, %b, 1; setp.ne.u32 %p1, %t1, 0; setp.ne.u32 %p2, %t2, 0;"
            f"{word}.pred %p3, %p1, %p2; selp.u32 %d, 1, 0, %p3;")  # fmt: skip
    code = "setp.ne.u32 %p1, %a, 0; not.pred %p1, %p1; selp.u32 %d, 1, 0, %p1;"
    add("not.pred", ("u32",), "u32", lambda a: a == 0, code=code)


def dot_products(add: Add) -> None:
    def parts(value: int, signed: bool) -> list[int]:
        cut = [value >> 8 * i & 255 for i in range(4)]
        return [c - 256 if signed and c >= 128 else c for c in cut]

    for ta in ("u32", "s32"):
        for tb in ("u32", "s32"):
            t = "s32" if "s32" in (ta, tb) else "u32"

            def rule(
                a: int, b: int, c: int, signed_a: bool = ta == "s32", signed_b: bool = tb == "s32"
            ) -> int:
                return c + sum(x * y for x, y in zip(parts(a, signed_a), parts(b, signed_b), strict=True))

            add(f"dp4a.{ta}.{tb}", ("b32", "b32", t), t, rule)


CASES = cases()


@pytest.fixture(scope="module", params=instruction_sets())
def answers(request: pytest.FixtureRequest, native_dir, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_cases(
        CASES, native_dir / "simgpu/libcuda.so.1", tmp_path_factory.mktemp("integer"), request.param
    )


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_integer(answers: Answers, one: Case) -> None:
    answers.check(one)
