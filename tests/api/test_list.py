"""The rules of the list, and what people added to it: directions and sizes."""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from listing import toml_io, validate
from listing.model import Abi, ApiList, Function, Param

from .conftest import API

# Functions that real clients call between them (traces of libcudart 12 and 13, cuda-bindings, numba-cuda,
# CuPy and PyTorch): these at least have to be remoted, so each of their pointers needs an exact description.
CALLED = (API.parents[1] / "tests" / "api" / "called_functions.txt").read_text().split()

# Pointers that are never followed by the call they are passed to.
ADDRESSES_ONLY = {
    ("cuLogsRegisterCallback", "userData"),
}


@pytest.mark.parametrize("name", ["cuda", "nvml"])
def test_the_committed_list_follows_its_rules(name: str) -> None:
    assert validate.problems(toml_io.load(API / name)) == []


@pytest.mark.parametrize("name", ["cuda", "nvml"])
def test_the_committed_files_are_in_canonical_form(name: str, tmp_path: Path) -> None:
    toml_io.save(toml_io.load(API / name), tmp_path)
    files = [path.relative_to(API / name) for path in sorted((API / name).rglob("*.toml"))]
    assert len(files) > 10
    for file in files:
        assert (tmp_path / file).read_text() == (API / name / file).read_text(), file


def test_the_list_is_as_large_as_the_interface(cuda_list: ApiList, nvml_list: ApiList) -> None:
    assert len(cuda_list.symbols()) >= 730
    assert len(nvml_list.symbols()) >= 436


def test_called_functions_are_described_exactly(cuda_list: ApiList) -> None:
    listed = cuda_list.symbols()
    for symbol in CALLED:
        for param in listed[symbol][1].params:
            if param.is_pointer and param.dir == "address":
                assert (symbol, param.name) in ADDRESSES_ONLY, f"{symbol}({param.name})"


@pytest.mark.parametrize(
    ("symbol", "param", "dir", "bytes_", "count"),
    [
        ("cuMemcpyHtoD_v2", "srcHost", "in", "ByteCount", None),
        ("cuMemcpyDtoH_v2", "dstHost", "out", "ByteCount", None),
        ("cuMemcpyHtoDAsync_v2", "srcHost", "in", "ByteCount", None),
        ("cuMemAlloc_v2", "dptr", "out", None, None),
        ("cuDeviceGetName", "name", "out", "len", None),
        ("cuMemHostRegister_v2", "p", "address", None, None),
        ("cuGraphAddKernelNode_v2", "dependencies", "in", None, "numDependencies"),
        ("cuGraphGetNodes", "numNodes", "inout", None, None),
        ("cuLinkAddData_v2", "data", "in", "size", None),
        ("cuThreadExchangeStreamCaptureMode", "mode", "inout", None, None),
        ("cuStreamBatchMemOp_v2", "paramArray", "in", None, "count"),
    ],
)
def test_directions_and_sizes(
    cuda_list: ApiList, symbol: str, param: str, dir: str, bytes_: str | None, count: str | None
) -> None:
    found = next(p for p in cuda_list.symbols()[symbol][1].params if p.name == param)
    assert (found.dir, found.bytes, found.count) == (dir, bytes_, count)


def test_a_constant_pointer_is_never_written(cuda_list: ApiList, nvml_list: ApiList) -> None:
    for api in (cuda_list, nvml_list):
        for symbol, (_, abi) in api.symbols().items():
            for param in abi.params:
                if param.type.startswith("const ") and param.type.count("*") == 1:
                    assert param.dir == "in", f"{symbol}({param.name})"


def one_function(*params: Param, **abi: int) -> ApiList:
    function = Function("cuX", "memory", [Abi("cuX", 2000, params=params, **abi)])
    return ApiList(functions={"cuX": function})


SIZE = Param("size", "size_t")
DATA = Param("data", "void *", dir="in", bytes="size")


@pytest.mark.parametrize(
    ("api", "problem"),
    [
        (one_function(replace(DATA, bytes="sise"), SIZE), "sise, which is no parameter"),
        (one_function(replace(DATA, dir=None), SIZE), "needs a direction"),
        (one_function(replace(DATA, dir="sideways"), SIZE), "needs a direction"),
        (one_function(replace(DATA, bytes=None)), "needs its size"),
        (one_function(replace(DATA, count="size"), SIZE), "more than one of"),
        (one_function(replace(DATA, dir="address"), SIZE), "has no size"),
        (one_function(replace(SIZE, dir="in")), "neither direction nor size"),
        (one_function(SIZE, SIZE), "share a name"),
        (one_function(ptds=7000, ptsz=7000), "both stream variants"),
        (ApiList(functions={"cuX": Function("cuX", "memory")}), "has no ABI"),
    ],
)
def test_breaches_are_found(api: ApiList, problem: str) -> None:
    assert any(problem in text for text in validate.problems(api))


def test_a_valid_function_has_no_problems() -> None:
    assert validate.problems(one_function(DATA, SIZE)) == []


def test_members_in_a_size_are_not_taken_for_parameters() -> None:
    table = Param("table", "unsigned int *", dir="inout")
    data = Param("data", "int *", dir="out", count="*table->entries + 1")
    assert validate.problems(one_function(table, data)) == []


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "memory.toml").write_text('[[function]]\nname = "cuX"\n')
    with pytest.raises(toml_io.ListError, match=r"memory\.toml"):
        toml_io.load(tmp_path)
