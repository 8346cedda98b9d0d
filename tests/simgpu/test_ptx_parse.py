"""What the PTX parser makes of each form of the syntax (PTX ISA chapters 4 to 6 and 11)."""

from __future__ import annotations

import struct

import pytest

HEADER = ".version 8.3\n.target sm_90a, debug\n.address_size 64\n"


def kernel(statements: str) -> str:
    header = ".version 8.0 .target sm_80 .address_size 64 .visible .entry k(.param .u64 data)"
    return f"{header} {{\n{statements}\n}}\n"


def operands(ptx_dump, statements: str, instruction: int = -1) -> list[dict]:
    return ptx_dump.body(statements)["instructions"][instruction]["operands"]


def imm(ptx_dump, expression: str) -> int:
    (_, value) = operands(ptx_dump, f".reg .b64 a; mov.b64 a, {expression};")
    assert value["kind"] == "immediate"
    return value["imm"]["bits"]


def variable(ptx_dump, declaration: str) -> dict:
    return ptx_dump.parse(HEADER + declaration)["variables"][-1]


def test_header(ptx_dump) -> None:
    module = ptx_dump.parse("// comment\n/* and\nanother */" + HEADER)
    assert module["version"] == [8, 3]
    assert (module["target"], module["sm"], module["address_size"]) == ("sm_90a", 90, 64)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected '.version'"),
        ("\n\n.target sm_80", 3, "expected '.version'"),
        (".version 8.0\n.address_size 64", 2, "expected '.target'"),
        (".version 8.0 .target debug", 1, "expected a target such as sm_80"),
        (HEADER + ".global .f99 x;", 4, "expected a type, found '.f99'"),
        (HEADER + ".global .u32 x = ;", 4, "expected a constant, found ';'"),
        (HEADER + ".global .u32 x\n.global .u32 y;", 5, "expected ';' after a declaration, found '.global'"),
        (HEADER + ".entry k() {\nret\n}", 6, "expected ';' after an instruction, found '}'"),
        (HEADER + ".entry k() {\nret;", 5, "found end of text"),
        (HEADER + ".entry k() {\nbra NOWHERE;\n}", 5, "undeclared name or label 'NOWHERE'"),
        (HEADER + ".entry k() {\n\nmov.b32 %r1, 0;\n}", 6, "undeclared register '%r1'"),
        (HEADER + ".entry k() { .reg .b32 %r<4>;\nmov.b32 %r4, 0;\n}", 5, "undeclared register '%r4'"),
        (HEADER + ".entry k() { .reg .b32 a, a; }", 4, "register 'a' is declared twice"),
        (HEADER + ".entry k() { L: L: }", 4, "label 'L' is defined twice"),
        (HEADER + ".entry k() {} .entry k() {}", 4, "function 'k' is defined twice"),
        (HEADER + ".func f(.param .b32 a); .func f(.param .b64 a) {}", 4, "differs from its declaration"),
        (HEADER + ".global .u32 x; .global .u32 x;", 4, "'x' is declared twice"),
        (HEADER + ".global .align 3 .u32 x;", 4, "power of two, found 3"),
        (HEADER + ".global .u8 x[2] = {1,2,3};", 4, "too many initial values for 'x'"),
        (HEADER + ".global .u64 x = y;", 4, "undeclared symbol 'y'"),
        (HEADER + "/* no end", 4, "expected '*/'"),
        (HEADER + ".entry k() { .reg .b32 r; @r ret; }", 4, "expected a predicate register"),
        (
            HEADER + ".entry k() { .reg .b32 r; mov.b32 r, 0f3f8; }",
            4,
            "expected 8 hexadecimal digits after 0f",
        ),
        (HEADER + ".entry k() { .reg .b32 r; mov.b32 r, 1/0; }", 4, "division by zero"),
        (
            HEADER + ".entry k() { .reg .b32 r; mov.b32 r, 99999999999999999999; }",
            4,
            "does not fit in 64 bits",
        ),
        (HEADER + ".section .debug_info { .b8 1", 4, "expected '}' at the end of a section"),
        (HEADER + ".entry k() " + "{" * 1000, 4, "nested more than 256 deep"),
        (HEADER + ".entry k() { mov.b32 " + "(" * 1000, 4, "nested more than 256 deep"),
        (HEADER + ".global .b8 x[1099511627776][2];", 4, "larger than 2^40 bytes"),
        (HEADER + ".global .b8 x[2][999999999] = {{1},{1}};", 4, "initial values take more than"),
    ],
)
def test_refusals_name_line_and_expectation(ptx_dump, text: str, line: int, message: str) -> None:
    found_line, found = ptx_dump.error(text)
    assert message in found
    assert found_line == line


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0x1F", 31),
        ("017", 15),
        ("0b101", 5),
        ("0b101U", 5),
        ("18446744073709551615", 2**64 - 1),
        ("-1", 2**64 - 1),
        ("WARP_SZ", 32),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-7 / 2", 2**64 - 3),
        ("-7 % 3", 2**64 - 1),
        ("1 << 4 | 1", 17),
        ("6 & 3 ^ 8", 10),
        ("~0 >> 60", 2**64 - 1),
        ("(.u64)~0 >> 60", 15),
        ("-1 < 1", 1),
        ("(.u64)-1 < 1", 0),
        ("1 == 1 && 2 != 2 || 3 >= 3", 1),
        ("!5", 0),
        ("3 > 2 ? 10 : 20", 10),
        ("0 ? 10 : 0 ? 20 : 30", 30),
        ("(.s64)0x8000000000000000 / -1", 2**63),
    ],
)
def test_constant_expressions(ptx_dump, expression: str, value: int) -> None:
    if expression.startswith("!"):  # as an operand "!" negates a predicate; in an initial value it is C's
        assert variable(ptx_dump, f".global .u64 x = {expression};")["initial"] == list(
            value.to_bytes(8, "little")
        )
    else:
        assert imm(ptx_dump, expression) == value


def test_float_literals(ptx_dump) -> None:
    one, pi, small = (
        operands(ptx_dump, f".reg .f64 a; mov.f64 a, {text};")[1]["imm"]
        for text in ("0f3F800000", "0d400921fb54442d18", "-1.5e-3")
    )
    assert one == {"kind": "f32", "bits": 0x3F800000}
    assert struct.unpack("<d", struct.pack("<Q", pi["bits"]))[0] == pytest.approx(3.14159265358979)
    assert struct.unpack("<d", struct.pack("<Q", small["bits"]))[0] == -0.0015


@pytest.mark.parametrize(
    ("declaration", "size", "alignment", "initial"),
    [
        (".global .u32 x;", 4, 4, []),
        (".global .align 16 .b8 x[3] = {1, 2, 3};", 3, 16, [1, 2, 3]),
        (".global .v4 .f32 x = {1.0, 2.0, 3.0, 4.0};", 16, 16, list(struct.pack("<4f", 1, 2, 3, 4))),
        (".const .s16 x[2][2] = {{1}, {-1, 2}};", 8, 2, [1, 0, 0, 0, 255, 255, 2, 0]),
        (".global .u16 x[2][2] = {1, 2, 3};", 8, 2, [1, 0, 2, 0, 3, 0]),
        (".global .b32 x[] = {7, 8};", 8, 4, [7, 0, 0, 0, 8, 0, 0, 0]),
        (".global .f64 x = 0.5;", 8, 8, list(struct.pack("<d", 0.5))),
        (".global .f32 x = 0f3F800000;", 4, 4, [0, 0, 128, 63]),
        (".global .f32 x = 3;", 4, 4, list(struct.pack("<f", 3))),
        (".global .b32 x = 0f3F800000;", 4, 4, [0, 0, 128, 63]),
        (".global .u8 x = 300;", 1, 1, [44]),
        (".const[3] .u32 x = 1;", 4, 4, [1, 0, 0, 0]),
        (".global .attribute(.managed) .align 4 .b8 x[8];", 8, 4, []),
        (".global .b128 x;", 16, 16, []),
        (".global .b128 x = -2;", 16, 16, [254, *[255] * 15]),
        (".global .b128 x = 0xFFFFFFFFFFFFFFFE;", 16, 16, [254, *[255] * 7, *[0] * 8]),
    ],
)
def test_variables(ptx_dump, declaration: str, size: int, alignment: int, initial: list[int]) -> None:
    made = variable(ptx_dump, declaration)
    assert (made["size"], made["alignment"]) == (size, alignment)
    assert made.get("initial", []) == initial


def test_unsized_extern_shared(ptx_dump) -> None:
    made = variable(ptx_dump, ".extern .shared .align 16 .b8 buffer[];")
    assert (made["space"], made["unsized"], made["size"], made["linkage"]) == ("shared", True, 0, "extern")


def test_addresses_in_initial_values(ptx_dump) -> None:
    module = ptx_dump.parse(
        HEADER + ".global .u32 a[4]; .func f();"
        ".global .u64 t[4] = {a, a+8, generic(a)+4, f};"
        ".global .u8 m[2] = {0xFF(a), 0xFF00(generic(a)+1)};"
    )
    table, bytes_ = module["variables"][1]["relocations"], module["variables"][2]["relocations"]
    assert [(r["at"], r["symbol"], r["addend"], r["generic"]) for r in table] == [
        (0, 0, 0, False),
        (8, 0, 8, False),
        (16, 0, 4, True),
        (24, 1, 0, False),
    ]
    assert [(r["at"], r["width"], r["mask_shift"], r["addend"]) for r in bytes_] == [
        (0, 1, 0, 0),
        (1, 1, 1, 1),
    ]


def test_registers_exist_once_they_are_used(ptx_dump) -> None:
    made = ptx_dump.body(".reg .b32 %r<2000000000>; mov.b32 %r7, %r1999999999; mov.b32 %r7, 1;")
    assert [r["name"] for r in made["registers"]] == ["%r7", "%r1999999999"]


def test_a_number_may_split_in_two_ways(ptx_dump) -> None:
    made = ptx_dump.body(".reg .b32 t<4>; .reg .b64 t1<3>; mov.b32 t3, t12; mov.b32 t2, t1;")
    assert [(r["name"], r["type"]) for r in made["registers"]] == [
        ("t3", "b32"),
        ("t12", "b64"),
        ("t2", "b32"),
        ("t1", "b32"),
    ]


def test_blocks_hide_names(ptx_dump) -> None:
    made = ptx_dump.body(
        """.reg .b32 a, %r<9>; mov.b32 a, %r1;
        { .reg .f32 a; .reg .f32 %r<3>; mov.f32 a, %r1; mov.f32 a, %r5; }
        mov.b32 a, %r1; { mov.b32 a, %r2; } mov.b32 a, %r2;"""
    )
    used = [tuple(o["index"] for o in i["operands"]) for i in made["instructions"]]
    types = [r["type"] for r in made["registers"]]
    assert used[0] == used[3]
    assert used[4] == used[5]
    assert [types[i] for i in used[1]] == ["f32", "f32"]
    assert [types[i] for i in used[2]] == ["f32", "b32"]
    assert not set(used[1]) & set(used[0])


def test_labels_belong_to_blocks(ptx_dump) -> None:
    made = ptx_dump.body("bra L; { bra L; { bra L; L: bra L; } bra M; L: ret; } L: ret; M: bra L; ret;")
    targets = [made["labels"][o["index"]]["target"] for i in made["instructions"] for o in i["operands"]]
    assert targets == [6, 5, 3, 3, 7, 6]


def test_vector_registers(ptx_dump) -> None:
    whole, part = operands(ptx_dump, ".reg .v4 .f32 v; .reg .f32 a; mov.v4.f32 v, v; mov.f32 a, v.w;", 0)
    assert whole == part
    assert [o["index"] for o in whole["items"]] == [0, 1, 2, 3]
    assert operands(ptx_dump, ".reg .v2 .f32 v<2>; .reg .f32 a; mov.f32 a, v1.y;")[1]["index"] == 2


@pytest.mark.parametrize(
    ("text", "offset"), [("a", 0), ("a+8", 8), ("a + -8", -8), ("a-4", -4), ("a+4+4", 8), ("a+(2*3)", 6)]
)
def test_addresses(ptx_dump, text: str, offset: int) -> None:
    address = operands(ptx_dump, f".reg .b64 a; .reg .b32 r; ld.global.b32 r, [{text}];")[1]
    assert address["kind"] == "address"
    assert address["items"][0]["kind"] == "register"
    assert address.get("offset", 0) == offset


def test_address_of_parameter_variable_symbol_and_number(ptx_dump) -> None:
    made = ptx_dump.parse(
        HEADER + ".global .u32 g[8]; .visible .entry k(.param .u64 p) { .local .b8 l[8]; .reg .b32 r;"
        "ld.b32 r, [p+4]; ld.b32 r, [l]; ld.b32 r, [g]; ld.b32 r, [64]; mov.b32 r, g+12; ld.b32 r, g[3];"
        "tex.1d.v4.f32.s32 {r, _, r, r}, [g, l, {r}]; }"
    )["functions"][0]["instructions"]
    bases = [i["operands"][1]["items"][0]["kind"] for i in made[:4]]
    assert bases == ["parameter", "local", "symbol", "immediate"]
    assert made[4]["operands"][1] == {"kind": "symbol", "index": 0, "offset": 12}
    assert (made[5]["operands"][1]["kind"], made[5]["operands"][1]["offset"]) == ("address", 12)
    assert [o["kind"] for o in made[6]["operands"][1]["items"]] == ["symbol", "local", "vector"]
    assert made[6]["operands"][0]["items"][1] == {"kind": "sink"}


def test_predicates_pairs_and_guards(ptx_dump) -> None:
    made = ptx_dump.body(
        ".reg .pred p, q; .reg .b32 r; @!p setp.lt.and.s32 p|q, r, 1, !q;shfl.sync.idx.b32 r|_, r, 0, 31, -1;"
    )["instructions"]
    assert (made[0]["guard"], made[0]["guard_negated"]) == (0, True)
    pair = made[0]["operands"][0]
    assert pair["paired"]
    assert (pair["index"], pair["items"][-1]["index"]) == (0, 1)
    assert made[0]["operands"][3]["negated"]
    assert made[1]["operands"][0]["items"] == [{"kind": "sink"}]


def test_modifiers_keep_double_colons_and_digits(ptx_dump) -> None:
    made = ptx_dump.body(
        ".reg .b64 a; .reg .b32 r; ld.global.nc.L1::evict_last.L2::128B.v2.b32 {r, r}, [a];"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [a], [a], r, [a];"
        "tcgen05.ld.sync.aligned.16x64b.x1.b32 {r}, [r];"
    )["instructions"]
    assert made[0]["modifiers"] == ["global", "nc", "L1::evict_last", "L2::128B", "v2", "b32"]
    assert made[1]["modifiers"][-1] == "mbarrier::complete_tx::bytes"
    assert made[2]["modifiers"] == ["ld", "sync", "aligned", "16x64b", "x1", "b32"]


def test_special_registers(ptx_dump) -> None:
    names = [
        "%tid.x",
        "%laneid",
        "%clock64",
        "%envreg31",
        "%globaltimer",
        "%lanemask_lt",
        "%nctaid.z",
        "%pm3_64",
    ]
    made = ptx_dump.body(".reg .b32 r;" + "".join(f"mov.b32 r, {name};" for name in names))
    assert [i["operands"][1]["name"] for i in made["instructions"]] == names


def test_calls(ptx_dump) -> None:
    module = ptx_dump.parse(
        HEADER + ".func (.param .b32 r) f (.param .b32 a);"
        ".visible .entry k() { .reg .b32 x; .reg .b64 q; { .param .b32 a, r; call.uni (r), f, (a); call f; }"
        "P: .callprototype (.param .b32 _) _ (.param .b64 _, .param .align 8 .b8 _[16]);"
        "call (x), q, (q, 1), P; }"
    )
    made = module["functions"][1]
    first, second, third = (i["operands"] for i in made["instructions"])
    assert [o["kind"] for o in first] == ["list", "symbol", "list"]
    assert [o["kind"] for o in second] == ["symbol"]
    assert [o["kind"] for o in third] == ["list", "register", "list", "label"]
    prototype = made["labels"][third[3]["index"]]
    assert prototype["kind"] == "callprototype"
    assert [p["size"] for p in prototype["parameters"]] == [8, 16]


def test_branch_and_call_targets(ptx_dump) -> None:
    module = ptx_dump.parse(
        HEADER + ".func f(); .func g();"
        ".visible .entry k() { .reg .b32 r; T: .branchtargets A, B; brx.idx r, T; A: ret; B: ret;"
        "C: .calltargets f, g; call r, (), C; }"
    )
    made = module["functions"][2]
    labels = {label["name"]: label for label in made["labels"]}
    assert [made["labels"][i]["name"] for i in labels["T"]["targets"]] == ["A", "B"]
    assert (labels["A"]["target"], labels["B"]["target"]) == (1, 2)
    assert labels["C"]["targets"] == [0, 1]


def test_register_parameters(ptx_dump) -> None:
    made = ptx_dump.parse(
        HEADER + ".func (.reg .u32 out) f (.reg .u32 a, .param .b64 b) { add.u32 out, a, 1; }"
    )
    function = made["functions"][0]
    assert function["return_registers"] == [0]
    assert function["parameter_registers"] == [1, -1]
    assert [o.get("index") for o in function["instructions"][0]["operands"][:2]] == [0, 1]


def test_directives_of_entries(ptx_dump) -> None:
    made = ptx_dump.parse(
        HEADER + ".visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 4 .b8 s[12])\n"
        ".maxntid 128, 2\n.minnctapersm 2 .maxnreg 64 .reqnctapercluster 2, 1, 1 .explicitcluster\n"
        '.maxclusterrank 8 .pragma "nounroll"; { .pragma "a", "b";\n'
        ".loc 1 2 3, function_name $L+4, inlined_at 1 2 3\n"
        "ret; }\n.func n() .noreturn { trap; }"
    )["functions"]
    assert made[0]["max_threads"] == [128, 2, 1]
    assert (made[0]["min_blocks"], made[0]["max_registers"], made[0]["max_cluster"]) == (2, 64, 8)
    assert made[0]["required_cluster"] == [2, 1, 1]
    assert made[0]["explicit_cluster"]
    assert [(p["size"], p["alignment"]) for p in made[0]["parameters"]] == [(8, 8), (12, 4)]
    assert made[1]["no_return"]


def test_debug_data_is_passed_over(ptx_dump) -> None:
    module = ptx_dump.parse(
        HEADER + '.file 1 "a.cu", 1700000000, 42\n.section .debug_str { L: .b8 1,2 // }\n .b64 L+4 \n}\n'
        ".section .debug_abbrev\n{\n}\n.global .u32 x;"
    )
    assert [v["name"] for v in module["variables"]] == ["x"]


def test_variables_inside_functions(ptx_dump) -> None:
    module = ptx_dump.parse(
        kernel(".shared .f32 s[4]; .local .v2 .b32 l; .const .u32 c = 5; .global .u32 g;")
    )
    assert [v["space"] for v in module["functions"][0]["variables"]] == ["shared", "local"]
    assert [v["name"] for v in module["variables"]] == ["c", "g"]


def test_declaration_and_definition_are_one_symbol(ptx_dump) -> None:
    module = ptx_dump.parse(
        HEADER + ".visible .func f(); .extern .global .u32 x; .global .u32 x = 1; .func f() { ret; }"
    )
    assert [(s["name"], s["kind"]) for s in module["symbols"]] == [("f", "function"), ("x", "variable")]
    assert module["functions"][0]["has_body"]
    assert module["functions"][0]["linkage"] == "visible"
    assert module["variables"][0]["initial"] == [1, 0, 0, 0]


def test_alias(ptx_dump) -> None:
    module = ptx_dump.parse(HEADER + ".func f() { ret; } .visible .func g(); .alias g, f;")
    assert [s["index"] for s in module["symbols"]] == [0, 0]


def test_video_selectors(ptx_dump) -> None:
    made = operands(ptx_dump, ".reg .b32 a; vadd.s32.u32.s32.sat a, a.b0, a.h1, a;")
    assert [o.get("name", "") for o in made] == ["", "b0", "h1", ""]


def test_a_nul_ends_the_text(ptx_dump) -> None:
    assert ptx_dump.parse((HEADER + ".global .u32 x;\0garbage").encode())["variables"]
