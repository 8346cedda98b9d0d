"""Hostile PTX: soup of tokens, mutations of good modules, inputs on which careless parsers take forever."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).resolve().parents[2] / "native/simgpu/fuzz/corpus/ptx"
HEADER = ".version 8.0 .target sm_80 .address_size 64\n"
TOKENS = [
    ".entry", ".func", ".reg", ".param", ".global", ".shared", ".b32", ".u64", ".pred", ".v4", ".align 8",
    "%r<9>", "%r1", "%tid.x", "x", "y", "_", "{", "}", "(", ")", "[", "]", ",", ";", ":", "|", "@", "!",
    "=", "<", ">", "+", "-", "0", "1", "0x10", "0f3f800000", "generic", "call", "bra", "add.u32",
    ".branchtargets", ".callprototype", ".visible", ".extern", ".weak", ".common", ".loc 1 1 1", "\"s\"",
    "//", "/*", "*/", "\n", "?", "WARP_SZ",
]  # fmt: skip
examples = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def accepts_or_refuses(ptx_dump, text: str | bytes) -> bool:
    """True where the text is PTX. A refusal must name a line of the text; anything else fails."""
    done = ptx_dump.run("--quiet", texts=[text])
    if done.returncode == 0:
        return True
    answer = json.loads(done.stdout)
    assert answer["error"]
    newlines = text.count(b"\n") if isinstance(text, bytes) else text.count("\n")
    assert 1 <= answer["line"] <= newlines + 1
    return False


@pytest.mark.sanitized
@examples
@given(st.lists(st.sampled_from(TOKENS), max_size=60))
def test_token_soup(ptx_dump, tokens: list[str]) -> None:
    accepts_or_refuses(ptx_dump, HEADER + " ".join(tokens))
    accepts_or_refuses(ptx_dump, HEADER + ".entry k() { " + " ".join(tokens) + " }")


@pytest.mark.sanitized
@examples
@given(st.binary(max_size=200))
def test_bytes(ptx_dump, text: bytes) -> None:
    accepts_or_refuses(ptx_dump, text)
    accepts_or_refuses(ptx_dump, HEADER.encode() + text)


@pytest.mark.sanitized
def test_every_truncation_of_a_module_is_answered(ptx_dump) -> None:
    text = (CORPUS / "features.ptx").read_text()
    accepted = [end for end in range(0, len(text), 23) if accepts_or_refuses(ptx_dump, text[:end])]
    assert accepts_or_refuses(ptx_dump, text)
    # A module may end between two declarations only.
    assert all(text[:end].rstrip()[-1:] in "};48" for end in accepted)


REGISTER_TYPES = ["b16", "b32", "b64", "f32", "f64", "pred"]


@st.composite
def modules(draw) -> str:
    """A well-formed module: registers, variables, labels, blocks and instructions in any arrangement."""
    name = st.sampled_from(["a", "b", "c", "%r1", "%r2", "$x", "_y"])
    number = st.one_of(
        st.integers(-(2**63), 2**64 - 1).map(str), st.integers(0, 2**32 - 1).map(lambda v: f"0f{v:08x}")
    )

    def block(depth: int) -> str:
        lines: list[str] = []
        names = draw(st.lists(name, unique=True, min_size=1, max_size=4))
        lines += [f".reg .{draw(st.sampled_from(REGISTER_TYPES))} {n};" for n in names]
        register = st.sampled_from(names)
        for i in range(draw(st.integers(0, 5))):
            operand = st.one_of(register, number, register.map(lambda r: f"[{r}+8]"), st.just("%tid.x"))
            vector = st.lists(register, min_size=2, max_size=4).map(lambda rs: "{" + ", ".join(rs) + "}")
            given_operands = draw(st.lists(st.one_of(operand, vector), max_size=4))
            label = draw(st.booleans())
            lines.append((f"L{depth}_{i}: " if label else "") + "op.m.n " + ", ".join(given_operands) + ";")
            if label and draw(st.booleans()):
                lines.append(f"bra L{depth}_{i};")
            if depth < 3 and draw(st.integers(0, 3)) == 0:
                lines.append("{ " + block(depth + 1) + " }")
        return " ".join(lines)

    values = draw(st.lists(st.integers(0, 255), min_size=1, max_size=9))
    table = f".global .align 4 .b8 table[{len(values)}] = {{{', '.join(map(str, values))}}};\n"
    return HEADER + table + ".visible .entry k(.param .u64 p)\n{ " + block(0) + " ret; }\n"


@examples
@given(modules())
def test_printed_modules_parse_to_the_same(ptx_dump, text: str) -> None:
    first = ptx_dump.run("--ptx", texts=[text])
    assert first.returncode == 0, first.stdout
    second = ptx_dump.run("--ptx", texts=[first.stdout])
    assert second.returncode == 0, second.stdout
    assert ptx_dump.run("--ptx", texts=[second.stdout]).stdout == second.stdout
    before, after = ptx_dump.parse(text), ptx_dump.parse(first.stdout)
    assert before["variables"][0]["initial"] == after["variables"][0]["initial"]
    for old, new in zip(*(m["functions"][0]["instructions"] for m in (before, after)), strict=True):
        assert (old["opcode"], old["modifiers"]) == (new["opcode"], new["modifiers"])
        assert [o["kind"] for o in old["operands"]] == [o["kind"] for o in new["operands"]]
        assert [o.get("imm") for o in old["operands"]] == [o.get("imm") for o in new["operands"]]
        types = [
            [function["registers"][o["index"]]["type"] for o in item["operands"] if o["kind"] == "register"]
            for function, item in ((before["functions"][0], old), (after["functions"][0], new))
        ]
        assert types[0] == types[1]


@pytest.mark.sanitized
def test_mutations_hold_every_property(fuzz) -> None:
    assert "20000 mutations" in fuzz("ptx", "--seed", "3", "--iterations", "20000", str(CORPUS))


@pytest.mark.sanitized
def test_mutations_are_compiled_or_refused(fuzz) -> None:
    assert "15000 mutations" in fuzz("exec", "--seed", "3", "--iterations", "15000", str(CORPUS))


N = 60_000
HOSTILE = {
    "open blocks around many instructions": "{.reg .b32 a;" * 250 + "mov.b32 a, a;" * N + "}" * 250,
    "labels that pass through many blocks": "{" * 250
    + "".join(f"bra L{i};" for i in range(N))
    + "}" * 250
    + "".join(f"L{i}:" for i in range(N)),
    "ranges that hide each other": "{.reg .b32 %r<9>;" * 250
    + "mov.b32 %r1, %r8; { .reg .b32 %r<5>; }" * N
    + "}" * 250,
    "a register at the end of a large range": ".reg .b32 %r<2000000000>; mov.b32 %r1, %r1999999999;",
    "a table that names every label": "".join(f"L{i}:" for i in range(N))
    + "T: .branchtargets "
    + ", ".join(f"L{i}" for i in range(N))
    + ";"
    + "{ bra T; }" * 1000,
    "one long sum": ".reg .b32 a; mov.b32 a, 1" + "+1" * N + ";",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_time_and_memory_stay_linear(ptx_dump, body: str) -> None:
    text = HEADER + ".entry k() {" + body + "}"
    start = time.monotonic()
    assert accepts_or_refuses(ptx_dump, text)
    # Two megabytes at most: a parser that is quadratic in any of them needs minutes.
    assert time.monotonic() - start < 10
