# pyright: reportRedeclaration=false, reportAssignmentType=false
# ruff: noqa: ARG005, E501, E731 -- tables: rules take all operands of their instruction
"""Cases by tables: constant and read-only memory, 128 bits at once, atomics on vectors, and addresses of spaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import ieee
import numpy as np
from ieee import Format
from ptx_cases import FORMATS, PACKED, TYPES, Case, floats
from ptx_forms import as_input, cell_of, make, memory_case, plain

U64 = (1 << 64) - 1

# --- tables that no kernel writes

TABLE = np.random.default_rng(31).integers(0, 256, 64).astype(np.uint8)
BYTES = TABLE.tobytes()


def table(space: str) -> str:
    """64 bytes of a space, with these values from the start."""
    return f".{space} .align 16 .b8 table[64] = {{{', '.join(map(str, TABLE.tolist()))}}};"


def cell(index: int, size: int) -> int:
    """The `size` bytes at an index into the table, the first the lowest."""
    at = index % (64 // size) * size
    return int.from_bytes(BYTES[at : at + size], "little")


def indexed(size: int) -> str:
    """Code that sets %q1 to the cell that %a chooses."""
    return f"rem.u32 %t1, %a, {64 // size}; mul.wide.u32 %q1, %t1, {size}; mov.u64 %q2, table; add.u64 %q1, %q1, %q2;"


def constants() -> list[Case]:
    made = []
    for kind in (
        "b8",
        "u8",
        "s8",
        "b16",
        "u16",
        "s16",
        "b32",
        "u32",
        "s32",
        "f32",
        "b64",
        "u64",
        "s64",
        "f64",
    ):
        size = int(plain(kind)[1:]) // 8
        code = f"{indexed(size)} ld.const.{kind} %d, [%q1];"
        rule = lambda a, n=size: cell(a, n)
        one = make(f"ld.const.{kind}", ("u32",), as_input(kind), rule, code)
        made.append(replace(one, preamble=table("const")))
    code = f"{indexed(16)} ld.const.b128 %w, [%q1]; mov.b128 {{%q3, %q4}}, %w; xor.b64 %d, %q3, %q4;"
    one = make(
        "ld.const.b128", ("u32",), "b64", lambda a: fold(cell(a, 16)), code, declarations=".reg .b128 %w;"
    )
    made.append(replace(one, preamble=table("const")))
    return made


def fold(wide: int) -> int:
    """128 bits in 64: a half that is lost or in the wrong place shows."""
    return (wide & U64) ^ (wide >> 64)


def read_only_vectors() -> list[Case]:
    made = []
    for kind in ("b8", "b16", "b32", "f32", "b64"):
        width = int(plain(kind)[1:])
        register = "f32" if kind == "f32" else f"b{max(width, 16)}"
        first = {8: "cvt.u64.u16", 16: "cvt.u64.u16", 32: "cvt.u64.u32", 64: "mov.b64"}[width]
        take = lambda to, v, k=kind, f=first: (
            f"mov.b32 %t2, {v}; cvt.u64.u32 {to}, %t2;" if k == "f32" else f"{f} {to}, {v};"
        )
        code = (
            f"{indexed(width // 4)} ld.global.nc.v2.{kind} {{%v0, %v1}}, [%q1];"
            f"{take('%q3', '%v0')} {take('%q4', '%v1')} mad.lo.u64 %d, %q4, 3, %q3;"
        )

        def rule(a: int, w: int = width) -> int:
            both = cell(a, w // 4)
            return (both & ((1 << w) - 1)) + 3 * (both >> w)

        declarations = f".reg .{register} %v0, %v1;"
        one = make(f"ld.global.nc.v2.{kind}", ("u32",), "b64", rule, code, declarations=declarations)
        made.append(replace(one, preamble=table("global")))
    code = (
        "createpolicy.fractional.L2::evict_first.b64 %q7, 1.0; ld.param.u64 %base, [a];"
        "mad.wide.u32 %at, %i, 4, %base; ld.global.L2::cache_hint.b32 %d, [%at], %q7;"
    )
    made.append(make("ld.global.L2::cache_hint.b32", ("b32",), "b32", lambda a: a, code))
    return made


# --- 128 bits


def wide_accesses() -> list[Case]:
    made = []
    pack, unpack = (
        "not.b64 %q3, %a; mov.b128 %w, {%q3, %a};",
        "mov.b128 {%q5, %q6}, %w2; mad.lo.u64 %d, %q6, 3, %q5;",
    )
    rule = lambda a: (a ^ U64) + 3 * a
    for prefix in ("", ".global", ".shared", ".local", ".volatile.global", ".relaxed.gpu.global"):
        space = prefix.rsplit(".", 1)[-1]
        dot = f".{space}" if space else ""
        fill = f"st{dot}.b64 [%q1+16], %q3; st{dot}.b64 [%q1+24], %a;"
        fetch = f"ld{dot}.b64 %q5, [%q1+16]; ld{dot}.b64 %q6, [%q1+24]; mad.lo.u64 %d, %q6, 3, %q5;"
        loads = [prefix, *([".acquire.sys.global"] if prefix == ".global" else [])]
        stores = [prefix, *([".release.sys.global"] if prefix == ".global" else [])]
        cases = [(f"ld{p}.b128", f"{pack} {fill} ld{p}.b128 %w2, [%q1+16]; {unpack}") for p in loads]
        cases += [(f"st{p}.b128", f"{pack} st{p}.b128 [%q1+16], %w; {fetch}") for p in stores]
        for name, code in cases:
            one = memory_case(name, space, "b64", code, rule)
            one.declarations += " .reg .b128 %w, %w2;"
            made.append(replace(one, version="8.3"))
    return made


def wide_exchanges() -> list[Case]:
    """exch gives what was there; cas does so too, and changes it only where it compares equal."""
    made = []
    for space, operation in product(("", "shared"), ("exch", "cas")):
        dot = f".{space}" if space else ""
        name = f"atom{dot}.{operation}.b128"
        start = f"not.b64 %q3, %a; st{dot}.v2.b64 [%q1], {{%a, %q3}}; mov.b128 %w, {{%b, %a}};"
        # where b is odd, cas compares with another upper half than is there
        other = "and.b64 %q4, %b, 1; xor.b64 %q5, %q3, %q4; mov.b128 %w3, {%a, %q5};"
        access = f"{name} %w2, [%q1], {'%w3, ' if operation == 'cas' else ''}%w;"
        end = (
            f"mov.b128 {{%q4, %q5}}, %w2; ld{dot}.v2.b64 {{%q6, %q7}}, [%q1];"
            "mul.lo.u64 %q4, %q4, 3; mul.lo.u64 %q5, %q5, 5; mul.lo.u64 %q6, %q6, 7; mul.lo.u64 %q7, %q7, 11;"
            "xor.b64 %q4, %q4, %q5; xor.b64 %q6, %q6, %q7; xor.b64 %d, %q4, %q6;"
        )

        def rule(a: int, b: int, swaps: bool = operation == "cas") -> int:
            old = (a, a ^ U64)
            new = old if swaps and b & 1 else (b, a)
            return (old[0] * 3 & U64) ^ (old[1] * 5 & U64) ^ (new[0] * 7 & U64) ^ (new[1] * 11 & U64)

        where, needs = cell_of(space)
        generic = "cvta.global.u64 %q1, %q1;" if space == "" else ""
        code = f"{where} {generic} {start} {other} {access} {end}"
        declarations = needs.get("declarations", "") + " .reg .b128 %w, %w2, %w3;"
        one = make(name, ("b64", "b64"), "b64", rule, code, declarations=declarations, target="sm_90")
        made.append(replace(one, preamble=needs.get("preamble", ""), version="8.4"))
    return made


# --- atomics on vectors: as many accesses, each of its own

CHOICES: dict[str, Callable[[Format, int, int], int]] = {
    "add": ieee.add,
    "min": lambda f, a, b: ieee.minimum(f, a, b),
    "max": lambda f, a, b: ieee.minimum(f, a, b, -1),
}


def fill(fmt: Format, name: str, count: int, seed: int) -> np.ndarray:
    """64-bit words full of numbers of a format: edges, and numbers of like size."""
    rng = np.random.default_rng(seed)
    edges = np.array([x for x in floats(name) if not fmt.is_nan(x)], np.uint64)
    per = 64 // fmt.width
    near = (fmt.bias + rng.integers(-2, 3, (count, per))).astype(np.uint64) << np.uint64(fmt.fraction)
    signs = rng.integers(0, 2, (count, per)).astype(np.uint64) << np.uint64(fmt.width - 1)
    numbers = near | signs | rng.integers(0, 1 << fmt.fraction, (count, per)).astype(np.uint64)
    chosen = np.where(rng.random((count, per)) < 0.4, rng.choice(edges, (count, per)), numbers)
    return np.bitwise_or.reduce(chosen << (np.arange(per, dtype=np.uint64) * np.uint64(fmt.width)), axis=1)


def parts(words: list[int], width: int, count: int) -> list[int]:
    whole = sum(word << 64 * k for k, word in enumerate(words))
    return [whole >> width * k & ((1 << width) - 1) for k in range(count)]


def vector_atomic(instruction: str, kind: str, n: int, operation: str) -> Case:
    fmt = PACKED.get(kind) or FORMATS[kind]
    name_of_format = kind.removesuffix("x2")
    width = np.dtype(TYPES[kind][0]).itemsize * 8
    total, numbers = width * n, width * n // fmt.width
    flush = kind == "f32"  # f32 in global memory: PTX ISA, atom
    suffix = "" if kind == "f32" else ".noftz"
    name = f"{instruction}.global.v{n}.{kind}.{operation}{suffix}"
    names = [f"%v{k}" for k in range(n)]
    halves = 64 // width
    code = "st.global.v2.b64 [%q1], {%a, %b};"
    for word, operand in enumerate(("%b", "%a")[: max(total // 64, 1)]):
        own = [f"%v{word * halves + k}" for k in range(halves)]
        code += f"mov.b64 {{{', '.join(own)}}}, {operand};"
    given, taken = "{" + ", ".join(names) + "}", "{" + ", ".join(f"%o{k}" for k in range(n)) + "}"
    if instruction == "red":
        code += f"{name} [%q1], {given}; setp.eq.u32 %p1, 0, 0;"
    else:
        code += f"{name} {taken}, [%q1], {given};"
        old = f"mov.b{total} %{'q3' if total == 64 else 't3'}, {taken};"
        same = (
            "setp.eq.b64 %p1, %q3, %a;" if total == 64 else "cvt.u32.u64 %t4, %a; setp.eq.b32 %p1, %t3, %t4;"
        )
        code += old + same
    code += "ld.global.v2.b64 {%q4, %q5}, [%q1]; mad.lo.u64 %d, %q5, 3, %q4; selp.b64 %d, %d, 7, %p1;"

    def after(a: int, b: int) -> list[int]:
        old, new = parts([a, b], fmt.width, numbers), parts([b, a], fmt.width, numbers)
        ready = (lambda x: fmt.flush(x)) if flush else (lambda x: x)
        return [ready(CHOICES[operation](fmt, ready(x), ready(y))) for x, y in zip(old, new, strict=True)]

    def rule(a: int, b: int) -> int:
        both = a | b << 64
        value = sum(part << fmt.width * k for k, part in enumerate(after(a, b)))
        value |= both >> total << total
        return (value & U64) + 3 * (value >> 64)

    x, y = fill(fmt, name_of_format, 150, 41), fill(fmt, name_of_format, 150, 42)
    keep = [not any(fmt.is_nan(v) for v in after(int(a), int(b))) for a, b in zip(x, y, strict=True)]
    register = {16: ".b16", 32: ".f32" if kind == "f32" else ".b32"}[width]
    where, needs = cell_of("global")
    declarations = f".reg {register} %v<8>; .reg {register} %o<8>;"
    inputs = [("b64", x[np.array(keep)]), ("b64", y[np.array(keep)])]
    return Case(
        "form:" + name, f"{where} {code}", inputs, "b64", rule, declarations, needs["preamble"],
        target="sm_90", version="8.1",
    )  # fmt: skip


def vector_atomics() -> list[Case]:
    made = [vector_atomic(word, "f32", 2, "add") for word in ("atom", "red")]
    kinds = ("f16", "bf16", "f16x2", "bf16x2")
    made += [vector_atomic("atom", kind, 2, operation) for kind, operation in product(kinds, CHOICES)]
    made += [vector_atomic("red", kind, 4, operation) for kind, operation in product(kinds, CHOICES)]
    return made


# --- addresses


def addresses() -> list[Case]:
    made = []
    for space in ("global", "shared", "local"):
        code = f"st.{space}.b32 [%q1], %a; cvta.{space}.u64 %q2, %q1; cvta.to.{space}.u64 %q3, %q2; ld.{space}.b32 %d, [%q3];"
        made.append(memory_case(f"cvta.to.{space}.u64", space, "b32", code))
    code = f"{indexed(4)} cvta.const.u64 %q3, %q1; cvta.to.const.u64 %q4, %q3; ld.const.u32 %d, [%q4];"
    one = make("cvta.to.const.u64", ("u32",), "u32", lambda a: cell(a, 4), code)
    made.append(replace(one, preamble=table("const")))
    # The kernel's last parameter is the count of its rows.
    code = "mov.b64 %q1, count; cvta.param.u64 %q2, %q1; ld.u32 %t1, [%q2]; add.u32 %d, %t1, %a;"
    one = make("cvta.param.u64", ("u32",), "u32", lambda a: 0, code)
    rows = one.count
    made.append(replace(one, rule=lambda a: a + rows, target="sm_70", version="7.7"))
    for space, word in product(("global", "shared", "local"), ("param", "shared::cta", "shared::cluster")):
        code = f"cvta.{space}.u64 %q2, %q1; isspacep.{word} %p1, %q2; selp.u32 %d, 1, 0, %p1;"
        truth = space == "shared" and word != "param"
        one = memory_case(f"isspacep.{word}|{space}", space, "b32", code, lambda a, t=truth: int(t), "u32")
        made.append(replace(one, target="sm_90"))
    code = "mov.b64 %q1, count; cvta.param.u64 %q2, %q1; isspacep.param %p1, %q2; selp.u32 %d, 1, 0, %p1;"
    made.append(
        replace(
            make("isspacep.param|param", ("u32",), "u32", lambda a: 1, code), target="sm_70", version="7.7"
        )
    )
    return made


def single_additions() -> list[Case]:
    """add.f32 flushes subnormals in global memory and keeps them in shared memory, whatever way it is reached."""
    made = []
    small = lambda a, b: all(0 < x & 0x7FFFFFFF < 0x01000000 for x in (a, b))
    for word, space, generic in product(("atom", "red"), ("global", "shared"), (False, True)):
        where, needs = cell_of(space)
        at = f"cvta.{space}.u64 %q1, %q1;" if generic else ""
        dot = "" if generic else f".{space}"
        to = "%f1, " if word == "atom" else ""
        code = f"{where} st.{space}.b32 [%q1], %a; {at} {word}{dot}.add.f32 {to}[%q1], %b; ld{dot}.b32 %d, [%q1];"
        ready = ieee.F32.flush if space == "global" else (lambda x: x)
        rule = lambda a, b, r=ready: r(ieee.add(ieee.F32, r(a), r(b)))
        name = f"{word}{dot}.add.f32|{space} of subnormals"
        one = make(
            name, ("f32", "f32"), "f32", rule, code, declarations=needs.get("declarations", ""), only=small
        )
        made.append(replace(one, preamble=needs.get("preamble", "")))
    return made


CASES: list[Case] = [
    *constants(), *read_only_vectors(), *wide_accesses(), *wide_exchanges(), *vector_atomics(), *addresses(),
    *single_additions(),
]  # fmt: skip
