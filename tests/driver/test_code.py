"""Modules, libraries, kernels and the linker: from an image to a function."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import nvidia
import pytest

PTX = Path(__file__).parent / "ptx"


def text(name: str) -> bytes:
    return (PTX / f"{name}.ptx").read_bytes() + b"\0"


def test_functions_of_a_module(api: Any, kernels: Any) -> None:
    assert int(kernels("empty")) == int(kernels("empty"))
    count = api.cuModuleGetFunctionCount(kernels.module)
    names = [api.cuFuncGetName(each) for each in api.cuModuleEnumerateFunctions(count, kernels.module)]
    assert b"saxpy" in names
    assert len(names) == count
    assert int(api.cuFuncGetModule(kernels("empty"))) == int(kernels.module)


@pytest.mark.parametrize(
    ("name", "code"), [(b"nothing", "NOT_FOUND"), (b"", "INVALID_VALUE"), (b"twice", "NOT_FOUND")]
)
def test_functions_that_are_not_there(api: Any, kernels: Any, name: bytes, code: str) -> None:
    assert api.code("cuModuleGetFunction", kernels.module, name) == code


def test_globals(api: Any, kernels: Any, launch: Any, get: Any) -> None:
    address, size = api.cuModuleGetGlobal(kernels.module, b"counter")
    assert size == 4
    assert get(address, 1)[0] == 7
    assert (get(api.cuModuleGetGlobal(kernels.module, b"table")[0], 4) == [10, 20, 30, 40]).all()
    launch(kernels("count"), 1, 4)
    assert get(address, 1)[0] == 107
    assert api.code("cuModuleGetGlobal", kernels.module, b"nothing") == "NOT_FOUND"
    assert api.code("cuMemFree", address) == "INVALID_VALUE"


def test_an_unloaded_module(api: Any, kernels: Any) -> None:
    function = kernels("empty")
    api.cuModuleUnload(kernels.module)
    assert api.code("cuModuleUnload", kernels.module) == "INVALID_HANDLE"
    assert api.code("cuModuleGetFunction", kernels.module, b"empty") == "INVALID_HANDLE"
    assert api.code("cuLaunchKernel", function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0) == "INVALID_HANDLE"


def test_loading_gives_its_memory_back(api: Any, context: Any) -> None:
    before = api.cuMemGetInfo()
    for _ in range(20):
        api.cuModuleUnload(api.cuModuleLoadData(text("kernels")))
    assert api.cuMemGetInfo() == before


def fat_binary(*entries: tuple[int, int, bytes]) -> bytes:
    """A container of (kind, sm, payload) entries, as nvcc writes them."""
    body = b""
    for kind, sm, payload in entries:
        payload += b"\0" * (-len(payload) % 8)
        body += struct.pack(
            "<HHIQIIHHIIIQQQ", kind, 0x101, 64, len(payload), 0, 0, 0, 7, sm, 0, 0, 0x11, 0, 0
        )
        body += payload
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_fat_binary(api: Any, context: Any) -> None:
    module = api.cuModuleLoadData(fat_binary((2, 90, b"\x7fELF" + b"\0" * 60), (1, 70, text("kernels"))))
    assert api.code("cuModuleGetFunction", module, b"saxpy") == "SUCCESS"


def test_newer_text_than_the_card(api: Any, context: Any) -> None:
    newer = text("kernels").replace(b"sm_70", b"sm_120").replace(b".version 7.0", b".version 9.0")
    assert api.code("cuModuleLoadData", fat_binary((1, 120, newer))) == "SUCCESS"


@pytest.mark.parametrize(
    ("image", "codes"),
    [
        (b"\0" * 64, ("INVALID_IMAGE", "INVALID_PTX")),
        (b"not a module at all\0", ("INVALID_IMAGE", "INVALID_PTX")),
        (
            b".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry f() { bogus.u32 %r1; }\0",
            ("INVALID_PTX", "NOT_SUPPORTED"),
        ),
        (b".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry f(\0", ("INVALID_PTX",)),
        (struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 0) + b"\0" * 64, ("INVALID_IMAGE", "NO_BINARY_FOR_GPU")),
        (struct.pack("<IHHQ", 0xBA55ED50, 9, 16, 64) + b"\0" * 64, ("INVALID_IMAGE",)),
    ],
)
def test_bad_images(api: Any, context: Any, image: bytes, codes: tuple[str, ...]) -> None:
    assert api.code("cuModuleLoadData", image) in codes
    assert api.code("cuLibraryLoadData", image, [], [], 0, [], [], 0) in codes


def test_machine_code_alone(api: Any, context: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert api.code("cuModuleLoadData", fat_binary((2, 90, b"\x7fELF" + b"\0" * 60))) == "NO_BINARY_FOR_GPU"
    assert "compute_" in capfd.readouterr().err


def cubin(text_of: bytes, folder: Path) -> bytes:
    """Machine code for compute capability 7.5, made by NVIDIA's assembler."""
    source, result = folder / "source.ptx", folder / "result.cubin"
    source.write_bytes(text_of.rstrip(b"\0"))
    assembler = Path(nvidia.__path__[0]) / "cu13/bin/ptxas"
    subprocess.run([assembler, "-arch=sm_75", source, "-o", result], check=True, capture_output=True)
    return result.read_bytes()


def test_library_of_machine_code_alone(api: Any, context: Any, tmp_path: Path) -> None:
    """It is loaded where it is used: a program that never uses it runs, and only its kernels are refused."""
    machine_code = fat_binary((2, 75, cubin(text("kernels"), tmp_path)))
    assert api.code("cuModuleLoadData", machine_code) == "NO_BINARY_FOR_GPU"
    library = api.cuLibraryLoadData(machine_code, [], [], 0, [], [], 0)
    kernel = api.cuLibraryGetKernel(library, b"increment")
    assert api.cuKernelGetName(kernel) == b"increment"
    assert api.code("cuKernelGetFunction", kernel) == "NO_BINARY_FOR_GPU"
    assert api.code("cuLibraryGetModule", library) == "NO_BINARY_FOR_GPU"
    launched = api.code("cuLaunchKernel", api.CUfunction(int(kernel)), 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    assert launched == "NO_BINARY_FOR_GPU"
    assert api.code("cuLibraryGetKernel", library, b"no_such_kernel") == "NOT_FOUND"
    api.cuLibraryUnload(library)


@pytest.mark.parametrize("cut", [8, 64, 200, -64])
def test_library_of_broken_machine_code(api: Any, context: Any, tmp_path: Path, cut: int) -> None:
    broken = cubin(text("kernels"), tmp_path)[:cut]
    library = api.cuLibraryLoadData(fat_binary((2, 75, broken)), [], [], 0, [], [], 0)
    assert api.code("cuLibraryGetModule", library) == "NO_BINARY_FOR_GPU"
    api.cuLibraryUnload(library)


def test_error_log(api: Any, context: Any) -> None:
    log = bytes(512)  # cuda-bindings has the driver write into it
    options = [api.CUjit_option.CU_JIT_ERROR_LOG_BUFFER, api.CUjit_option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]
    broken = b".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry f() { ret }\0"
    assert api.code("cuModuleLoadDataEx", broken, 2, options, [log, 512]) == "INVALID_PTX"
    assert b"line 4" in log


def test_library(api: Any, context: Any, launch: Any, put: Any, get: Any) -> None:
    library = api.cuLibraryLoadData(text("kernels"), [], [], 0, [], [], 0)
    kernel = api.cuLibraryGetKernel(library, b"increment")
    out = put(np.zeros(1, np.uint32))
    launch(api.cuKernelGetFunction(kernel), 1, 32, out)
    launch(api.CUfunction(int(kernel)), 1, 32, out)  # a kernel in place of a function
    assert get(out, 1)[0] == 64
    assert int(api.cuKernelGetLibrary(kernel)) == int(library)
    assert api.cuKernelGetName(kernel) == b"increment"
    assert get(api.cuLibraryGetGlobal(library, b"counter")[0], 1)[0] == 7
    module = api.cuLibraryGetModule(library)
    assert api.code("cuModuleUnload", module) == "NOT_PERMITTED"
    api.cuLibraryUnload(library)
    assert api.code("cuLibraryUnload", library) == "INVALID_HANDLE"
    assert api.code("cuKernelGetFunction", kernel) == "INVALID_HANDLE"


def test_library_is_loaded_in_each_context(api: Any, context: Any, launch: Any) -> None:
    library = api.cuLibraryLoadData(text("kernels"), [], [], 0, [], [], 0)
    here, _ = api.cuLibraryGetGlobal(library, b"counter")
    other = api.cuCtxCreate(None, 0, 0)
    there, _ = api.cuLibraryGetGlobal(library, b"counter")
    assert int(here) != int(there)
    launch(api.cuKernelGetFunction(api.cuLibraryGetKernel(library, b"count")), 1, 1)
    api.cuCtxSynchronize()
    api.cuCtxDestroy(other)
    value = np.zeros(1, np.uint32)
    api.cuMemcpyDtoH(value.ctypes.data, here, 4)
    assert value[0] == 7
    api.cuLibraryUnload(library)


def test_link(api: Any, context: Any, launch: Any, put: Any, get: Any) -> None:
    state = api.cuLinkCreate(0, [], [])
    kind = api.CUjitInputType.CU_JIT_INPUT_PTX
    for name in ("caller", "callee"):
        api.cuLinkAddData(state, kind, text(name), len(text(name)), name.encode(), 0, [], [])
    image, size = api.cuLinkComplete(state)
    assert size > 0
    module = api.cuModuleLoadData(image)
    api.cuLinkDestroy(state)
    out = put(np.zeros(1, np.uint32))
    launch(api.cuModuleGetFunction(module, b"call_twice"), 1, 1, out)
    assert get(out, 1)[0] == 42
    assert api.code("cuLinkDestroy", state) == "INVALID_HANDLE"


def test_link_file(api: Any, context: Any) -> None:
    state, kind = api.cuLinkCreate(0, [], []), api.CUjitInputType.CU_JIT_INPUT_PTX
    api.cuLinkAddFile(state, kind, str(PTX / "kernels.ptx").encode(), 0, [], [])
    assert api.code("cuLinkAddFile", state, kind, b"/nowhere.ptx", 0, [], []) == "FILE_NOT_FOUND"
    assert api.cuLinkComplete(state)[1] > 0
    api.cuLinkDestroy(state)


def test_link_conflict(api: Any, context: Any) -> None:
    state, kind = api.cuLinkCreate(0, [], []), api.CUjitInputType.CU_JIT_INPUT_PTX
    for _ in range(2):
        api.cuLinkAddData(state, kind, text("callee"), len(text("callee")), b"callee", 0, [], [])
    assert api.code("cuLinkComplete", state) == "INVALID_PTX"
    api.cuLinkDestroy(state)


def test_parameters_of_a_function(api: Any, kernels: Any) -> None:
    function = kernels("mixed")
    assert [api.cuFuncGetParamInfo(function, i) for i in range(3)] == [(0, 1), (8, 8), (16, 8)]
    assert api.code("cuFuncGetParamInfo", function, 3) == "INVALID_VALUE"


def test_attributes_of_a_function(api: Any, kernels: Any) -> None:
    kinds = api.CUfunction_attribute
    ask = api.cuFuncGetAttribute
    assert ask(kinds.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernels("bounded")) == 64
    assert ask(kinds.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernels("with_shared")) == 1024
    assert ask(kinds.CU_FUNC_ATTRIBUTE_PTX_VERSION, kernels("empty")) == 70
    assert 1 <= ask(kinds.CU_FUNC_ATTRIBUTE_NUM_REGS, kernels("saxpy")) <= 255
    shared = kinds.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    assert ask(shared, kernels("with_shared")) == 48 * 1024 - 1024
    api.cuFuncSetAttribute(kernels("with_shared"), shared, 60 * 1024)
    assert ask(shared, kernels("with_shared")) == 60 * 1024
    assert api.code("cuFuncSetAttribute", kernels("with_shared"), shared, 1 << 30) == "INVALID_VALUE"
    assert (
        api.code("cuFuncSetAttribute", kernels("empty"), kinds.CU_FUNC_ATTRIBUTE_NUM_REGS, 3)
        == "INVALID_VALUE"
    )
