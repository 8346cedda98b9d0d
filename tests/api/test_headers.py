"""The list against the vendor's headers: prototypes, sizes, offsets, values and versions are the same.

Each question is asked twice. Once of the list's data, read by libclang; once of a compiler, by one program
built on the vendor's header and again on ours, so that a fault in our reader cannot hide one in the list.
"""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from listing.model import ApiList, Record

from .conftest import API, ROOT, Compile

pytestmark = pytest.mark.timeout(600)

VENDOR_INCLUDES = {
    "cuda": """#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cudaGL.h>
#include <cudaEGL.h>
#include <vdpau/vdpau.h>
#include <cudaVDPAU.h>
#include <cudaProfiler.h>
""",
    "nvml": "#define NVML_NO_UNVERSIONED_FUNC_DEFS\n#include <nvml.h>\n",
}
# Exported, but in no header that the wheels carry.
UNDECLARED = {
    "cuEGLApiInit",
    "cuMemGetAttribute",
    "cuMemGetAttribute_v2",
    "cuDriverGetGpuCodeIsaVersion",
    "cuSubgridCreate",
    "cuSubgridWorkerGridCreate",
    "cuSubgridWorksetCreate",
    "cudbgApiAttach",
    "cudbgApiDetach",
    "cudbgApiInit",
    "cudbgGetAPI",
    "cudbgGetAPIVersion",
    "cudbgMain",
    "cudbgReportDriverApiError",
    "cudbgReportDriverInternalError",
    "nvmlInternalGetExportTable",
}

PROBE_HEAD = """#include <cstddef>
#include <cstdio>
template <typename T> void signature(const char* name) {
  std::printf("%s: %s\\n", name, __PRETTY_FUNCTION__);
}
template <typename T> void number(const char* name, T value) {
  std::printf("%s: %lld\\n", name, (long long)value);
}
int main() {
"""


@pytest.fixture(scope="session")
def declared(newest_toolkit: Path) -> dict[str, ApiList]:
    from listing import headers

    return {"cuda": headers.read_cuda(newest_toolkit), "nvml": headers.read_nvml(newest_toolkit)}


@pytest.fixture(scope="session")
def lists(cuda_list: ApiList, nvml_list: ApiList) -> dict[str, ApiList]:
    return {"cuda": cuda_list, "nvml": nvml_list}


@pytest.mark.parametrize("name", ["cuda", "nvml"])
def test_every_prototype_of_the_newest_header_is_listed(
    name: str, declared: dict[str, ApiList], lists: dict[str, ApiList]
) -> None:
    listed = lists[name].symbols()
    for symbol, (_, abi) in declared[name].symbols().items():
        assert symbol in listed, f"{symbol} is declared but not listed"
        ours = listed[symbol][1]
        assert [p.type for p in ours.params] == [p.type for p in abi.params], symbol
        assert [p.name for p in ours.params] == [p.name for p in abi.params], symbol
        assert ours.result == abi.result, symbol


@pytest.mark.parametrize("name", ["cuda", "nvml"])
def test_what_is_listed_is_declared_or_known_to_be_undeclared(
    name: str, declared: dict[str, ApiList], lists: dict[str, ApiList]
) -> None:
    extra = set(lists[name].symbols()) - set(declared[name].symbols())
    removed = {symbol for symbol, (_, abi) in lists[name].symbols().items() if abi.until is not None}
    assert extra - removed <= UNDECLARED


def test_functions_that_only_older_toolkits_declare_are_kept(
    toolkits: list[Path], cuda_list: ApiList
) -> None:
    from listing import headers

    listed = cuda_list.symbols()
    for include in toolkits[:-1]:
        for symbol, (_, abi) in headers.read_cuda(include).symbols().items():
            assert symbol in listed
            assert len(listed[symbol][1].params) == len(abi.params), symbol


def record_paths(api: ApiList, record: Record, prefix: str = "") -> Iterator[str]:
    """Every member that `offsetof` can name, members of nested and unnamed records included."""
    for field in record.fields:
        if field.bits is not None:
            continue
        path = f"{prefix}{field.name}"
        if field.name:
            yield path
        if field.inline and not field.array:
            yield from record_paths(api, api.records[field.inline], f"{path}." if field.name else prefix)


def probe_body(api: ApiList) -> str:
    lines = [f'number("sizeof {n}", sizeof({n}));' for n in api.records if "." not in n]
    lines += [f'number("alignof {n}", alignof({n}));' for n in api.records if "." not in n]
    for name, record in api.records.items():
        if "." not in name:
            paths = record_paths(api, record)
            lines += [f'number("{name}.{p}", offsetof({name}, {p}));' for p in paths]
    for enum in api.enums.values():
        lines += [f'number("{value}", {value});' for value in enum.values]
    lines += [f'signature<{alias}>("{alias}");' for alias in api.aliases]
    symbols = [s for s in api.symbols() if s not in UNDECLARED]
    lines += [f'signature<decltype(&{symbol})>("{symbol}");' for symbol in symbols]
    return "".join(f"  {line}\n" for line in lines)


def constant_body(api: ApiList) -> str:
    """Integer constants only: others are strings, casts of pointers, or helpers."""
    integer = re.compile(r"\(?-?~?\s*(0x)?[0-9a-fA-F]+[uUlL]*\)?$")
    names = [name for name, value in api.constants.items() if integer.match(value)]
    assert len(names) > 30
    return "".join(f'  number("{name}", {name});\n' for name in names)


def run_probe(compile_cpp: Compile, folder: Path, name: str, text: str, *includes: Path) -> list[str]:
    source = folder / f"{name}.cpp"
    source.write_text(text)
    flags = [f"-I{include}" for include in includes]
    program = compile_cpp(folder / name, source, *flags, "-Wno-invalid-offsetof", "-Wno-deprecated")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cuda", "nvml"])
def test_a_compiler_sees_the_same_interface_through_both_headers(
    name: str,
    declared: dict[str, ApiList],
    newest_toolkit: Path,
    generated: Path,
    foreign_headers: Path,
    compile_cpp: Compile,
    tmp_path: Path,
) -> None:
    text = PROBE_HEAD + probe_body(declared[name]) + constant_body(declared[name]) + "}\n"
    vendor = VENDOR_INCLUDES[name] + text
    ours = f'#include "aliquot/{name}_abi.h"\n' + text
    expected = run_probe(compile_cpp, tmp_path, "vendor", vendor, newest_toolkit, foreign_headers)
    actual = run_probe(compile_cpp, tmp_path, "ours", ours, generated, ROOT)
    assert len(expected) > 2000
    assert [pair for pair in zip(expected, actual, strict=True) if pair[0] != pair[1]] == []


def typed_pointers(include: Path) -> dict[str, tuple[str, int, str | None]]:
    """PFN name -> base name, version, stream variant, by a plain reading of the cuda*Typedefs.h files."""
    pattern = re.compile(r"\*(PFN_(\w+?)_v(\d+)(?:_(ptds|ptsz))?)\)")
    found = {}
    for header in sorted(include.glob("cuda*Typedefs.h")):
        text = re.sub(r"#ifdef _WIN32.*?#endif", "", header.read_text(), flags=re.DOTALL)
        for match in pattern.finditer(text):
            found[match[1]] = (match[2], int(match[3]), match[4])
    return found


def symbol_of(api: ApiList, base: str, version: int, variant: str | None) -> str | None:
    for abi in api.functions[base].abis:
        if variant is None and abi.since == version:
            return abi.symbol
        if variant is not None and getattr(abi, variant) == version:
            return abi.thread_symbol
    return None


def test_every_typed_pointer_names_a_listed_version(toolkits: list[Path], cuda_list: ApiList) -> None:
    total = 0
    for include in toolkits:
        for pointer, (base, version, variant) in typed_pointers(include).items():
            assert symbol_of(cuda_list, base, version, variant) is not None, pointer
            total += 1
    assert total > 1000


@pytest.mark.slow
def test_every_typed_pointer_has_the_type_of_its_symbol(
    newest_toolkit: Path, cuda_list: ApiList, foreign_headers: Path, compile_cpp: Compile, tmp_path: Path
) -> None:
    """Says that versions are paired with the right symbols, not only with as many."""
    lines = [VENDOR_INCLUDES["cuda"], "#include <type_traits>\n"]
    lines += [f"#include <{path.name}>\n" for path in sorted(newest_toolkit.glob("cuda*Typedefs.h"))]
    for pointer, key in typed_pointers(newest_toolkit).items():
        symbol = symbol_of(cuda_list, *key)
        lines.append(f'static_assert(std::is_same_v<{pointer}, decltype(&{symbol})>, "{pointer}");\n')
    source = tmp_path / "typed_pointers.cpp"
    source.write_text("".join(lines))
    flags = [f"-I{newest_toolkit}", f"-I{foreign_headers}", "-c", "-Wno-deprecated"]
    compile_cpp(tmp_path / "typed_pointers.o", source, *flags)


def test_the_extractor_proposes_nothing_new(toolkits: list[Path]) -> None:
    import extract

    assert toolkits
    assert extract.main(["--check", "--list", str(API)]) == 0
