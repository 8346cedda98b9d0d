# pyright: reportRedeclaration=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportArgumentType=false
# (each row's rule has the same name)
# ruff: noqa: ARG005, E501 -- tables: rules take all operands of their instruction
"""Cases by tables: the forms of arithmetic, comparison, conversion, memory and atomics that a pattern names.

Expectations are exact fractions (ieee.py) and Python's integers. What needs more than a row of values to say
(barriers, matrices, video, small formats) has tests of its own beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import ieee
import numpy as np
from ieee import BF16, F16, F32, Format
from ptx_atomics import ATOMICS
from ptx_cases import FORMATS, PACKED, THREADS, TYPES, Case, case

Rule = Callable[..., int]
MODES = ("rn", "rz", "rm", "rp")
INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
WIDE = INTEGERS[2:]
SMALL_COUNT = 40  # random rows beside the edges


def optional(*words: str) -> tuple[str, ...]:
    return ("", *words)


def target_of(name: str) -> str:
    return "sm_90" if "bf16" in name else "sm_80"


def make(name: str, kinds: Iterable[str], output: str, rule: Rule, code: str = "", **options: object) -> Case:
    """A case with few random rows; without `code` the operands are d, a, b, c."""
    kinds = tuple(kinds)
    operands = ", ".join(f"%{x}" for x in "dabc"[: len(kinds) + 1])
    options = {
        "count": SMALL_COUNT if len(kinds) < 3 else 4 * SMALL_COUNT,
        "target": target_of(name),
        **options,
    }
    return case("form:" + name, code or f"{name} {operands};", kinds, output, rule, **options)


def flushed(fmt: Format, rule: Rule) -> Rule:
    return lambda *v: fmt.flush(rule(*(fmt.flush(x) for x in v)))


def relu(fmt: Format, bits: int) -> int:
    return 0 if not fmt.is_nan(bits) and fmt.is_negative(bits) else bits


def then(rule: Rule, after: Callable[[int], int]) -> Rule:
    return lambda *v: after(rule(*v))


def in_pairs(rule: Rule) -> Rule:
    return lambda *v: rule(*(x & 0xFFFF for x in v)) | rule(*(x >> 16 for x in v)) << 16


def form_rule(fmt: Format, rule: Rule, name: str) -> Rule:
    """A rule with the modifiers that a name has."""
    words = name.split(".")
    if "ftz" in words:
        rule = flushed(fmt, rule)
    if "sat" in words:
        rule = then(rule, lambda bits: ieee.saturate(fmt, bits))
    if "relu" in words:
        rule = then(rule, lambda bits: relu(fmt, bits))
    return in_pairs(rule) if words[-1].endswith("x2") else rule


def format_of(kind: str) -> Format:
    return PACKED.get(kind) or FORMATS[kind]


# --- floating point


def arithmetic_names() -> list[str]:
    names = [f"{o}{m}{z}{s}.f32" for o, m, z, s in product(
        ("add", "sub", "mul"), optional(*("." + m for m in MODES)), optional(".ftz"), optional(".sat"))]  # fmt: skip
    names += [f"{o}.{m}{z}{s}.f32" for o, m, z, s in product(
        ("fma", "mad"), MODES, optional(".ftz"), optional(".sat"))]  # fmt: skip
    names += [f"mad.{m}.f64" for m in MODES]
    names += [f"{o}{m}{z}{s}.{t}" for o, m, z, s, t in product(
        ("add", "sub", "mul"), optional(".rn"), optional(".ftz"), optional(".sat"), ("f16", "f16x2"))]  # fmt: skip
    names += [
        f"{o}{m}.{t}" for o, m, t in product(("add", "sub", "mul"), optional(".rn"), ("bf16", "bf16x2"))
    ]
    names += [f"fma.rn{z}{s}.{t}" for z, s, t in product(
        optional(".ftz"), optional(".sat", ".relu"), ("f16", "f16x2"))]  # fmt: skip
    names += [f"fma.rn{s}.{t}" for s, t in product(optional(".relu"), ("bf16", "bf16x2"))]
    names += [f"div.{m}{z}.f32" for m, z in product(MODES, optional(".ftz"))]
    names += [f"{o}.{m}{z}.f32" for o, m, z in product(("rcp", "sqrt"), MODES, optional(".ftz"))]
    return names


def arithmetic() -> list[Case]:
    made = []
    for name in arithmetic_names():
        words, kind = name.split("."), name.rsplit(".", 1)[1]
        mode = next((w for w in words if w in MODES), "rn")
        operation = {"mad": "fma"}.get(words[0], words[0])
        arity = {"fma": 3, "sqrt": 1, "rcp": 1}.get(operation, 2)
        fmt = format_of(kind)
        if operation == "rcp":
            rule = lambda a, fmt=fmt, mode=mode: ieee.div(fmt, fmt.bias << fmt.fraction, a, mode)  # noqa: E731
        else:
            exact = getattr(ieee, operation)
            rule = lambda *v, exact=exact, fmt=fmt, mode=mode: exact(fmt, *v, mode)  # noqa: E731
        made.append(make(name, (kind,) * arity, kind, form_rule(fmt, rule, name)))
    return made


def signs_and_extremes() -> list[Case]:
    made = []
    kinds = ["f16", "f16x2", "bf16", "bf16x2", "f32", "f64"]
    for operation, kind, ftz in product(("abs", "neg"), kinds, optional(".ftz")):
        if ftz and kind in ("bf16", "bf16x2", "f64"):
            continue
        fmt, name = format_of(kind), f"{operation}{ftz}.{kind}"
        change = (lambda a, f=fmt: a & ~f.sign) if operation == "abs" else (lambda a, f=fmt: a ^ f.sign)
        made.append(make(name, (kind,), kind, form_rule(fmt, change, name)))
    for (operation, sign), kind, ftz, nan, xor in product(
        (("min", 1), ("max", -1)), kinds[:5], optional(".ftz"), optional(".NaN"), optional(".xorsign.abs")
    ):
        if ftz and kind.startswith("bf16"):
            continue
        fmt, name = format_of(kind), f"{operation}{ftz}{nan}{xor}.{kind}"

        def rule(
            a: int, b: int, f: Format = fmt, s: int = sign, n: bool = bool(nan), x: bool = bool(xor)
        ) -> int:
            if not x:
                return ieee.minimum(f, a, b, s, n)
            value = ieee.minimum(f, a & ~f.sign, b & ~f.sign, s, n)
            return value if f.is_nan(value) else value | ((a ^ b) & f.sign)

        made.append(make(name, (kind, kind), kind, form_rule(fmt, rule, name), target="sm_90"))
    return made


# --- comparison and selection

ORDERED = ("eq", "ne", "lt", "le", "gt", "ge")
UNORDERED = tuple(word + "u" for word in ORDERED)
UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
COMBINE = {"and": lambda x, y: x and y, "or": lambda x, y: x or y, "xor": lambda x, y: bool(x) != bool(y)}


def holds(word: str, a: int, b: int) -> bool:
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[word[:2]]


def float_holds(fmt: Format, word: str, a: int, b: int, ftz: bool = False) -> bool:
    if ftz:
        a, b = fmt.flush(a), fmt.flush(b)
    unordered = fmt.is_nan(a) or fmt.is_nan(b)
    if word in ("num", "nan"):
        return unordered == (word == "nan")
    key = lambda bits: (-1 if fmt.is_negative(bits) else 1) * (bits & ~fmt.sign)  # noqa: E731
    return len(word) == 3 if unordered else holds(word, key(a), key(b))


def comparison_rule(kind: str, word: str, ftz: bool = False) -> Callable[[int, int], bool]:
    if kind in FORMATS:
        return lambda a, b: float_holds(FORMATS[kind], word, a, b, ftz)
    return lambda a, b: holds(UNSIGNED.get(word, word), a, b)


def comparisons() -> list[Case]:
    made = []
    words = [(t, w) for t in WIDE for w in ORDERED] + [
        (t, w) for t in ("u16", "u32", "u64") for w in UNSIGNED
    ]
    words += [(t, w) for t in ("f16", "bf16", "f32", "f64") for w in (*ORDERED, *UNORDERED, "num", "nan")]
    for kind, word in words:
        rule = comparison_rule(kind, word)
        code = f"setp.{word}.{kind} %p1|%p2, %a, %b; selp.u32 %d, 1, 0, %p1; @%p2 add.u32 %d, %d, 2;"
        made.append(
            make(f"setp.{word}.{kind}", (kind, kind), "u32", lambda a, b, r=rule: 1 if r(a, b) else 2, code)
        )
    odd = "and.b32 %t1, %c, 1; setp.ne.u32 %p1, %t1, 0;"
    tables = [(t, w, "") for t in ("b16", "b32", "b64") for w in ("eq", "ne")]
    tables += [(t, w, ".ftz") for t in ("f32", "f16") for w in ("lt", "geu")]
    for (kind, word, ftz), (name, both) in product(tables, COMBINE.items()):
        rule = comparison_rule(kind, word, bool(ftz))
        code = f"{odd} setp.{word}.{name}{ftz}.{kind} %p2, %a, %b, %p1; selp.u32 %d, 1, 0, %p2;"
        rule = lambda a, b, c, r=rule, both=both: bool(both(r(a, b), c & 1))  # noqa: E731
        made.append(make(f"setp.{word}.{name}{ftz}.{kind}", (kind, kind, "u32"), "u32", rule, code))
    for word, (name, both) in product(("lt", "geu"), COMBINE.items()):
        code = (
            f"{odd} setp.{word}.{name}.ftz.f16x2 %p2|%p3, %a, %b, %p1;"
            "selp.u32 %d, 1, 0, %p2; @%p3 add.u32 %d, %d, 2;"
        )

        def rule(a: int, b: int, c: int, w: str = word, both: Callable = both) -> int:
            truths = [float_holds(F16, w, a >> s & 0xFFFF, b >> s & 0xFFFF, True) for s in (0, 16)]
            return sum(bool(both(truth, c & 1)) << k for k, truth in enumerate(truths))

        made.append(make(f"setp.{word}.{name}.ftz.f16x2", ("f16x2", "f16x2", "u32"), "u32", rule, code))
    words2 = (*ORDERED, *UNORDERED, "num", "nan")
    for (kind, fmt), word in product(PACKED.items(), words2):
        code = f"setp.{word}.{kind} %p1|%p2, %a, %b; selp.u32 %d, 1, 0, %p1; @%p2 add.u32 %d, %d, 2;"

        def rule(a: int, b: int, f: Format = fmt, w: str = word) -> int:
            return float_holds(f, w, a & 0xFFFF, b & 0xFFFF) + 2 * float_holds(f, w, a >> 16, b >> 16)

        made.append(make(f"setp.{word}.{kind}", (kind, kind), "u32", rule, code))
    return made


def sets() -> list[Case]:
    made = []
    tables = [
        (t, w, "", d) for t in (*WIDE, "b16", "b32", "b64") for w in ("eq", "ne") for d in ("u32", "s32")
    ]
    tables += [
        (t, w, "", d) for t in ("f16", "bf16", "f32", "f64") for w in ("lt", "nan") for d in ("u32", "s32")
    ]
    tables += [
        ("f16", w, z, d) for w in ("lt", "nan") for z in optional(".ftz") for d in ("f16", "u16", "s16")
    ]
    tables += [("bf16", w, "", d) for w in ("lt", "nan") for d in ("bf16", "u16", "s16")]
    for kind, word, ftz, output in tables:
        true = -1 if output not in FORMATS else FORMATS[output].bias << FORMATS[output].fraction
        rule = comparison_rule(kind, word, bool(ftz))
        name = f"set.{word}{ftz}.{output}.{kind}"
        made.append(make(name, (kind, kind), output, lambda a, b, r=rule, t=true: t if r(a, b) else 0))
    for kind, word, ftz in product(PACKED, ("lt", "nan"), optional(".ftz")):
        if ftz and kind == "bf16x2":
            continue
        fmt = PACKED[kind]
        rule = lambda a, b, f=fmt, w=word, z=bool(ftz): (  # noqa: E731
            f.bias << f.fraction if float_holds(f, w, a, b, z) else 0
        )
        made.append(make(f"set.{word}{ftz}.{kind}.{kind}", (kind, kind), kind, in_pairs(rule)))
    return made


def selections() -> list[Case]:
    made = []
    kinds = ("b16", "b32", "b64", *WIDE, "f32", "f64")
    for kind in kinds:
        code = f"and.b32 %t1, %c, 1; setp.ne.u32 %p1, %t1, 0; selp.{kind} %d, %a, %b, %p1;"
        made.append(make(f"selp.{kind}", (kind, kind, "u32"), kind, lambda a, b, c: a if c & 1 else b, code))
        made.append(make(f"slct.{kind}.s32", (kind, kind, "s32"), kind, lambda a, b, c: a if c >= 0 else b))
    for kind, ftz in product(("b32", "f32", "f64"), optional(".ftz")):
        rule = lambda a, b, c, z=bool(ftz): a if float_holds(F32, "ge", c, 0, z) else b  # noqa: E731
        made.append(make(f"slct{ftz}.{kind}.f32", (kind, kind, "f32"), kind, rule))
    return made


# --- conversions


def bounds(kind: str) -> tuple[int, int]:
    info = np.iinfo(TYPES[kind][0])
    return int(info.min), int(info.max)


def integer_conversions() -> list[Case]:
    made = []
    for source, target, sat in product(INTEGERS, INTEGERS, optional(".sat")):
        low, high = bounds(target)
        rule = (lambda a, low=low, high=high: max(low, min(high, a))) if sat else (lambda a: a)
        made.append(make(f"cvt{sat}.{target}.{source}", (source,), target, rule))
    for source, target, mode, sat in product(INTEGERS, FORMATS, MODES, optional(".sat")):
        if sat and target in ("f16", "bf16"):
            continue
        fmt = FORMATS[target]
        rule = lambda a, fmt=fmt, mode=mode: ieee.encode(fmt, ieee.Fraction(a), mode)  # noqa: E731
        name = f"cvt.{mode}{sat}.{target}.{source}"
        made.append(make(name, (source,), target, form_rule(fmt, rule, name)))
    for source, target, mode, sat in product(FORMATS, INTEGERS, MODES, optional(".sat")):
        low, high = bounds(target)
        width, signed, fmt = (high - low).bit_length(), target[0] == "s", FORMATS[source]
        rule = lambda a, f=fmt, m=mode, w=width, s=signed: ieee.to_integer(f, a, m + "i", w, s)  # noqa: E731
        made.append(make(f"cvt.{mode}i{sat}.{target}.{source}", (source,), target, rule))
        if source == "f32" and target in ("u32", "s32") and not sat:
            rule = lambda a, r=rule: r(F32.flush(a))  # noqa: E731
            made.append(make(f"cvt.{mode}i.ftz.{target}.f32", ("f32",), target, rule))
    return made


def to_float(source: Format, target: Format, mode: str, name: str) -> Rule:
    words = name.split(".")

    def rule(bits: int) -> int:
        if "ftz" in words and source is F32:
            bits = F32.flush(bits)
        out = ieee.convert(source, target, bits, mode)
        if "ftz" in words and target is F32:
            out = F32.flush(out)
        if "satfinite" in words and target.is_inf(out):
            out -= 1
        if "relu" in words:
            out = relu(target, out)
        return ieee.saturate(target, out) if "sat" in words else out

    return rule


def float_conversion_names() -> list[str]:
    both = list(product(optional(".ftz"), optional(".sat")))
    names = [f"cvt{z}{s}.f32.f16" for z, s in both] + ["cvt.f32.bf16", "cvt.f64.f16", "cvt.f64.bf16"]
    names += [f"cvt{z}{s}.{t}.f32" for z, s in both for t in ("f32", "f64")]
    names += [f"cvt.{m}{z}{s}.f16.f32" for m in MODES for z, s in both]
    names += [f"cvt.{m}{z}{s}.f32.f64" for m in MODES for z, s in both]
    names += [f"cvt.{m}{r}{s}.{t}.f32" for m, r, s, t in product(
        ("rn", "rz"), optional(".relu"), optional(".satfinite"), ("f16", "bf16"))]  # fmt: skip
    names += [f"cvt.{m}.bf16.f32" for m in ("rm", "rp")]
    names += [f"cvt.{m}.{t}.f64" for m, t in product(MODES, ("f16", "bf16"))]
    names += ["cvt.rn.bf16.f16", "cvt.rn.f16.bf16", "cvt.rz.f16.bf16"]
    return list(dict.fromkeys(names))


def float_conversions() -> list[Case]:
    made = []
    for name in float_conversion_names():
        words = name.split(".")
        source, target = words[-1], words[-2]
        mode = next((w for w in words if w in MODES), "rn")
        rule = to_float(FORMATS[source], FORMATS[target], mode, name)
        made.append(make(name, (source,), target, rule, target="sm_90"))
    for mode, r, s, kind in product(("rn", "rz"), optional(".relu"), optional(".satfinite"), PACKED):
        name = f"cvt.{mode}{r}{s}.{kind}.f32"
        one = to_float(F32, PACKED[kind], mode, name)
        made.append(
            make(name, ("f32", "f32"), kind, lambda a, b, one=one: one(a) << 16 | one(b), target="sm_90")
        )
    for mode, sat, kind in product(MODES, optional(".sat"), FORMATS):
        fmt, name = FORMATS[kind], f"cvt.{mode}i{sat}.{kind}.{kind}"
        rule = lambda a, f=fmt, m=mode: ieee.round_to_integral(f, a, m + "i")  # noqa: E731
        made.append(make(name, (kind,), kind, form_rule(fmt, rule, name), target="sm_90"))
    return made


# --- memory

CELLS = ("b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64")


def cell_of(space: str) -> tuple[str, dict[str, str]]:
    """Code that sets %q1 to 64 bytes of this thread alone, and what it needs declared."""
    if space == "local":
        return "mov.u64 %q1, m;", {"declarations": ".local .align 16 .b8 m[64];"}
    if space == "shared":
        code = "mov.u32 %t1, %tid.x; mul.wide.u32 %q1, %t1, 64; mov.u64 %q2, m; add.u64 %q1, %q1, %q2;"
        return code, {"declarations": f".shared .align 16 .b8 m[{64 * THREADS}];"}
    code = "mul.wide.u32 %q1, %i, 64; mov.u64 %q2, m; add.u64 %q1, %q1, %q2;"
    return code, {"preamble": ".global .align 16 .b8 m[524288];"}


def as_input(kind: str) -> str:
    return {"b8": "u8"}.get(kind, kind)


def plain(kind: str) -> str:
    """The untyped access of a type's width."""
    return f"b{8 * np.dtype(TYPES[as_input(kind)][0]).itemsize}"


def memory_case(
    name: str, space: str, kind: str, code: str, rule: Rule = lambda a: a, output: str = ""
) -> Case:
    where, needs = cell_of(space)
    if space == "":
        where += " cvta.global.u64 %q1, %q1;"
    kind = as_input(kind)
    one = make(
        name, (kind,), output or kind, rule, f"{where} {code}", declarations=needs.get("declarations", "")
    )
    one.preamble = needs.get("preamble", "")
    return one


def scalars() -> list[Case]:
    made = []
    prefixes = ("", ".global", ".shared", ".local", ".volatile.global", ".relaxed.gpu.global")
    for prefix, kind in product((*prefixes, ".acquire.sys.global"), CELLS):
        space = prefix.rsplit(".", 1)[-1]
        at = f".{space}" if space else ""
        code = f"st{at}.{plain(kind)} [%q1+16], %a; ld{prefix}.{kind} %d, [%q1+16];"
        made.append(memory_case(f"ld{prefix}.{kind}", space, kind, code))
    for prefix, kind in product((*prefixes, ".release.sys.global"), CELLS):
        space = prefix.rsplit(".", 1)[-1]
        at = f".{space}" if space else ""
        code = f"st{prefix}.{kind} [%q1+16], %a; ld{at}.{plain(kind)} %d, [%q1+16];"
        made.append(memory_case(f"st{prefix}.{kind}", space, kind, code))
    for kind in ("b32", "f64"):
        for word in (".wb", ".cg", ".cs", ".wt", ".L1::no_allocate"):
            code = f"st.global{word}.{kind} [%q1], %a; ld.global.{plain(kind)} %d, [%q1];"
            made.append(memory_case(f"st.global{word}.{kind}", "global", kind, code))
        # Read-only loads may not see this kernel's stores: they read the input itself.
        start = f"ld.param.u64 %base, [a]; mad.wide.u32 %at, %i, {4 if kind == 'b32' else 8}, %base;"
        for word in (".ca", ".cg", ".cs", ".lu", ".cv", ".nc", ".nc.L1::evict_last", ".L2::128B"):
            code = f"{start} ld.global{word}.{kind} %d, [%at];"
            made.append(make(f"ld.global{word}.{kind}", (kind,), kind, lambda a: a, code))
        code = f"{start} ldu.global.{kind} %d, [%at];"
        made.append(make(f"ldu.global.{kind}", (kind,), kind, lambda a: a, code))
    return made


def vectors() -> list[Case]:
    """Element k is the value plus k; each element must come from and go to its own place."""
    made = []
    for kind, space, n in product(("b8", "b16", "b32", "f32", "b64"), ("", "global", "shared"), (2, 4)):
        width = int(plain(kind)[1:])
        if space == "" or width * n > 128:
            continue
        wide = "b64" if width == 64 else "b32"
        r = "%q" if width == 64 else "%t"
        register = "f32" if kind == "f32" else f"b{max(width, 16)}"
        names = [f"%v{k}" for k in range(n)]
        to_wide = f"cvt.u{wide[1:]}.u{width}" if width < 32 else f"mov.{wide}"
        from_wide = f"cvt.u{width}.u32" if width < 32 else f"mov.{wide}"
        spread = "".join(f"add.u{wide[1:]} {r}4, {r}3, {k}; {from_wide} %v{k}, {r}4;" for k in range(n))
        weigh = "".join(
            f"{to_wide} {r}4, %v{k}; mad.lo.u{wide[1:]} {r}5, {r}4, {2 * k + 1}, {r}5;" for k in range(n)
        )
        fill = "".join(f"st.{space}.{plain(kind)} [%q1+{k * width // 8}], %v{k};" for k in range(n))
        fetch = "".join(f"ld.{space}.{plain(kind)} %v{k}, [%q1+{k * width // 8}];" for k in range(n))
        listed = "{" + ", ".join(names) + "}"
        mask = (1 << width) - 1
        rule = lambda a, n=n, m=mask: sum(((a + k) & m) * (2 * k + 1) for k in range(n))  # noqa: E731
        begin, end = f"mov.{wide} {r}3, %a; {spread} mov.{wide} {r}5, 0;", f"{weigh} mov.{wide} %d, {r}5;"
        for name, body in (
            (f"ld.{space}.v{n}.{kind}", f"{fill} ld.{space}.v{n}.{kind} {listed}, [%q1];"),
            (f"st.{space}.v{n}.{kind}", f"st.{space}.v{n}.{kind} [%q1], {listed}; {fetch}"),
        ):
            one = memory_case(name, space, wide, f"{begin} {body} {end}", rule)
            one.declarations += "".join(f" .reg .{register} {v};" for v in names)
            made.append(one)
    return made


SMALL_ATOMICS = [
    ("add.noftz", (k, k + "x2"), lambda a, b, f=f: ieee.add(f, a, b))
    for k, f in (("f16", F16), ("bf16", BF16))
]


def atomics() -> list[Case]:
    made = []
    for (name, kinds, rule), space in product([*ATOMICS, *SMALL_ATOMICS], ("", "global", "shared")):
        for kind in kinds:
            where, needs = cell_of(space)
            if space == "":
                where += " cvta.global.u64 %q1, %q1;"
            dot = f".{space}" if space else ""
            operation = name.split(".")[0]
            full = name
            written = f"{dot}.{full}.{kind}"
            start = f"{where} st{dot}.{plain(kind)} [%q1], %a;"
            load = f"ld{dot}.{plain(kind)} %d, [%q1];"
            value = in_pairs(rule) if kind in PACKED else rule
            if (
                kind == "f32" and space != "shared"
            ):  # "" is global here: it flushes subnormals (PTX ISA, atom)
                value = flushed(F32, rule)
            names = [("atom", f"{start} atom{written} %d, [%q1], %b; {load}")]
            if operation != "exch":
                names.append(("red", f"{start} red{written} [%q1], %b; {load}"))
            for instruction, code in names:
                one = make(f"{instruction}{written}", (kind, kind), kind, value, code, target="sm_90")
                one.declarations, one.preamble = needs.get("declarations", ""), needs.get("preamble", "")
                made.append(one)
    for order, scope in product(
        ("relaxed", "acquire", "release", "acq_rel"), ("cta", "cluster", "gpu", "sys")
    ):
        where, needs = cell_of("global")
        written = f"atom.{order}.{scope}.global.add.u32"
        code = f"{where} st.global.u32 [%q1], %a; {written} %d, [%q1], %b; ld.global.u32 %d, [%q1];"
        one = make(written, ("u32", "u32"), "u32", lambda a, b: a + b, code, target="sm_90")
        one.preamble = needs["preamble"]
        made.append(one)
    return made


# --- bits and bytes


def cut(value: int, width: int, signed: bool) -> list[int]:
    parts = [value >> width * i & ((1 << width) - 1) for i in range(32 // width)]
    return [p - (1 << width) if signed and p >> (width - 1) else p for p in parts]


def nth_set(mask: int, base: int, offset: int) -> int:
    """fns: the |offset|-th set bit from `base` on, upwards or downwards; 0 asks for the bit itself."""
    step = 1 if offset >= 0 else -1
    base, missing = base & 31, max(abs(offset), 1)
    if offset == 0:
        return base if mask >> base & 1 else 0xFFFFFFFF
    at = base
    while 0 <= at < 32:
        missing -= mask >> at & 1
        if missing == 0:
            return at
        at += step
    return 0xFFFFFFFF


def bits() -> list[Case]:
    made = []
    for half, ta, tb in product(("lo", "hi"), ("u32", "s32"), ("u32", "s32")):
        kind = "s32" if "s32" in (ta, tb) else "u32"

        def rule(
            a: int, b: int, c: int, h: str = half, sa: bool = ta == "s32", sb: bool = tb == "s32"
        ) -> int:
            words, part = cut(a, 16, sa), cut(b, 8, sb)
            bytes_ = part[:2] if h == "lo" else part[2:]
            return c + words[0] * bytes_[0] + words[1] * bytes_[1]

        made.append(make(f"dp2a.{half}.{ta}.{tb}", ("b32", "b32", kind), kind, rule))
    small = lambda a, b, c: b < 32 and -33 < c < 33  # noqa: E731
    made.append(make("fns.b32", ("b32", "b32", "s32"), "b32", nth_set, only=small, count=3000))
    for kind, mode in product(("u32", "s32"), ("clamp", "wrap")):

        def extend(a: int, b: int, k: str = kind, m: str = mode) -> int:
            n = min(b, 32) if m == "clamp" else b & 31
            low = a & ((1 << n) - 1)
            return low - (1 << n) if k == "s32" and n and low >> (n - 1) else low

        made.append(make(f"szext.{mode}.{kind}", (kind, "u32"), kind, extend))
    for mode in ("clamp", "wrap"):

        def mask(a: int, b: int, m: str = mode) -> int:
            start, n = (min(a, 32), min(b, 32)) if m == "clamp" else (a & 31, b & 31)
            return ((1 << n) - 1) << start

        made.append(make(f"bmsk.{mode}.b32", ("u32", "u32"), "b32", mask))
    return made


CASES: list[Case] = [
    *arithmetic(), *signs_and_extremes(), *comparisons(), *sets(), *selections(), *integer_conversions(),
    *float_conversions(), *scalars(), *vectors(), *atomics(), *bits(),
]  # fmt: skip
