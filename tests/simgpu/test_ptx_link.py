"""Linking PTX modules: what meets by name, what stays apart, what is refused."""

from __future__ import annotations

import pytest

HEADER = ".version 8.0 .target sm_80 .address_size 64\n"
BODY = "{ ret; }"


def link(ptx_dump, *texts: str) -> dict:
    return ptx_dump.parse(*(HEADER + text for text in texts))


def target(module: dict, function: int, instruction: int = 0, operand: int = 0) -> dict:
    """What a symbol operand of a function names."""
    found = module["functions"][function]["instructions"][instruction]["operands"][operand]
    assert found["kind"] == "symbol"
    symbol = module["symbols"][found["index"]]
    return module[symbol["kind"] + "s"][symbol["index"]]


@pytest.mark.parametrize("definition_first", [False, True])
def test_extern_function_meets_its_definition(ptx_dump, definition_first: bool) -> None:
    user = ".extern .func f(.param .b32 a); .visible .entry k() { .param .b32 p; call f, (p); ret; }"
    maker = ".visible .func f(.param .b32 a) { ret; }"
    module = link(ptx_dump, *((maker, user) if definition_first else (user, maker)))
    kernel = next(i for i, f in enumerate(module["functions"]) if f["is_entry"])
    callee = target(module, kernel)
    assert (callee["name"], callee["has_body"]) == ("f", True)
    assert len(module["functions"]) == 2


@pytest.mark.parametrize("definition_first", [False, True])
def test_extern_variable_meets_its_definition(ptx_dump, definition_first: bool) -> None:
    user = ".extern .global .u32 x; .visible .entry k() { .reg .b64 a; mov.b64 a, x; }"
    maker = ".global .u32 other; .visible .global .align 8 .u32 x = 7;"
    module = link(ptx_dump, *((maker, user) if definition_first else (user, maker)))
    found = target(module, 0, operand=1)
    assert (found["name"], found["initial"], found["alignment"]) == ("x", [7, 0, 0, 0], 8)


def test_relocations_follow_their_symbols(ptx_dump) -> None:
    module = link(ptx_dump, ".global .u32 a;", ".global .u32 a; .visible .global .u64 p = a;")
    pointer = next(v for v in module["variables"] if v["name"] == "p")
    symbol = module["symbols"][pointer["relocations"][0]["symbol"]]
    assert (symbol["name"], symbol["index"]) == ("a", 1)


def test_call_targets_follow_their_symbols(ptx_dump) -> None:
    text = (
        ".func f() { ret; } .func g() { ret; }"
        " .visible .entry %s() { .reg .b64 r; C: .calltargets g; call r, (), C; }"
    )
    module = link(ptx_dump, text % "k1", text % "k2")
    for kernel, expected in (("k1", 1), ("k2", 4)):
        function = next(f for f in module["functions"] if f["name"] == kernel)
        table = next(label for label in function["labels"] if label["name"] == "C")
        assert [module["symbols"][i]["index"] for i in table["targets"]] == [expected]


def test_internal_names_stay_apart(ptx_dump) -> None:
    text = (
        ".global .u32 x = {}; .func f() {{ .reg .b64 a; mov.b64 a, x; }} .visible .entry {}() {{ call f; }}"
    )
    module = link(ptx_dump, text.format("1", "k1"), text.format("2", "k2"))
    assert [v["initial"][0] for v in module["variables"]] == [1, 2]
    helpers = [i for i, f in enumerate(module["functions"]) if f["name"] == "f"]
    assert [target(module, i, operand=1)["initial"][0] for i in helpers] == [1, 2]


def test_kernels_keep_one_name_each(ptx_dump) -> None:
    module = link(ptx_dump, f".entry k() {BODY}", f".visible .entry k() {BODY}", f".entry k() {BODY}")
    names = [f["name"] for f in module["functions"]]
    assert len(set(names)) == 3
    assert names[1] == "k"


@pytest.mark.parametrize("weak_first", [False, True])
def test_strong_replaces_weak(ptx_dump, weak_first: bool) -> None:
    weak, strong = ".weak .global .u32 x = 1;", ".visible .global .u32 x = 2;"
    module = link(ptx_dump, *((weak, strong) if weak_first else (strong, weak)))
    assert [v["initial"][0] for v in module["variables"]] == [2]


def test_first_weak_wins(ptx_dump) -> None:
    module = link(ptx_dump, ".weak .func f() { trap; }", ".weak .func f() { exit; }")
    assert [f["instructions"][0]["opcode"] for f in module["functions"]] == ["trap"]


def test_common_takes_the_largest(ptx_dump) -> None:
    module = link(
        ptx_dump,
        ".common .global .b8 x[4];",
        ".common .global .align 16 .b8 x[9];",
        ".common .global .b8 x[2];",
    )
    assert [(v["size"], v["alignment"]) for v in module["variables"]] == [(9, 16)]


def test_dynamic_shared_memory_is_one(ptx_dump) -> None:
    text = ".extern .shared .align {} .b8 s[]; .visible .entry {}() {{ .reg .b32 a; mov.b32 a, s; }}"
    module = link(ptx_dump, text.format(4, "k1"), text.format(16, "k2"))
    assert [(v["name"], v["alignment"]) for v in module["variables"]] == [("s", 16)]


def test_unresolved_externs_are_left(ptx_dump) -> None:
    module = link(ptx_dump, ".extern .func f();", ".extern .func f(); .extern .global .u32 x;")
    assert [f["has_body"] for f in module["functions"]] == [False]
    assert module["variables"][0]["linkage"] == "extern"


def test_newest_version_and_target_are_kept(ptx_dump) -> None:
    module = ptx_dump.parse(".version 7.8 .target sm_90", ".version 8.2 .target sm_75")
    assert (module["version"], module["target"]) == ([8, 2], "sm_90")


def test_aliases_survive(ptx_dump) -> None:
    module = link(
        ptx_dump,
        ".global .u32 x;",
        ".func f() { ret; } .visible .func g(); .alias g, f;.visible .entry k() { call g; }",
    )
    kernel = next(i for i, f in enumerate(module["functions"]) if f["name"] == "k")
    assert target(module, kernel)["has_body"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (f".visible .func f() {BODY}", f".visible .func f() {BODY}", "'f' is defined in two modules"),
        (".visible .global .u32 x;", ".visible .global .u32 x;", "'x' is defined in two modules"),
        (".visible .global .u32 x;", ".extern .global .u64 x;", "'x' has different sizes"),
        (".visible .global .u32 x;", ".extern .shared .u32 x;", "'x' is in different state spaces"),
        (f".visible .func x() {BODY}", ".extern .global .u64 x;", "variable in one module and a function"),
        (f".visible .func f(.param .b32 a) {BODY}", ".extern .func f();", "'f' has different parameters"),
    ],
)
def test_disagreements(ptx_dump, first: str, second: str, message: str) -> None:
    for texts in ((first, second), (second, first)):
        _, found = ptx_dump.error(*(HEADER + text for text in texts))
        assert message in found


def test_address_sizes_must_agree(ptx_dump) -> None:
    _, message = ptx_dump.error(HEADER, HEADER.replace("64", "32"))
    assert "address_size" in message
