"""The device runtime: malloc and free in kernels, the grid-wide barrier of libcudadevrt.a, its linking."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TEXT = (Path(__file__).parent / "ptx" / "device_runtime.ptx").read_bytes() + b"\0"
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
ARCHIVE = Path(sys.prefix, "lib", VERSION, "site-packages", "nvidia", "cu13", "lib", "libcudadevrt.a")


@pytest.fixture
def runtime(api: Any, context: Any) -> Callable[[str], Any]:
    """Finds a kernel of ptx/device_runtime.ptx, linked with the vendor's archive."""
    module = None

    def find(name: str) -> Any:
        nonlocal module
        if module is None:
            state, kinds = api.cuLinkCreate(0, [], []), api.CUjitInputType
            api.cuLinkAddData(state, kinds.CU_JIT_INPUT_PTX, TEXT, len(TEXT), b"test", 0, [], [])
            api.cuLinkAddFile(state, kinds.CU_JIT_INPUT_LIBRARY, str(ARCHIVE).encode(), 0, [], [])
            image, _ = api.cuLinkComplete(state)
            module = api.cuModuleLoadData(image)
            api.cuLinkDestroy(state)
        return api.cuModuleGetFunction(module, name.encode())

    return find


def test_malloc_gives_each_thread_its_own(api: Any, runtime: Any, launch: Any, put: Any, get: Any) -> None:
    threads = 200
    where, seen = put(np.zeros(threads, np.uint64)), put(np.zeros(threads, np.uint32))
    launch(runtime("take"), 2, 100, where, np.uint64(24))
    addresses = np.sort(get(where, threads, np.uint64))
    assert addresses[0] != 0
    assert not (addresses % 16).any()
    assert (np.diff(addresses) >= 24).all()
    launch(runtime("give"), 2, 100, where, seen)
    assert (get(seen, threads) == np.arange(threads)).all()
    assert api.code("cuCtxSynchronize") == "SUCCESS"


def test_malloc_returns_null_when_the_heap_is_full(
    api: Any, runtime: Any, launch: Any, put: Any, get: Any
) -> None:
    api.cuCtxSetLimit(api.CUlimit.CU_LIMIT_MALLOC_HEAP_SIZE, 4 << 20)
    where, seen = put(np.zeros(8, np.uint64)), put(np.zeros(8, np.uint32))
    launch(runtime("take"), 1, 8, where, np.uint64(1 << 20))
    first = get(where, 8, np.uint64)
    assert 3 <= np.count_nonzero(first) <= 4
    launch(runtime("take"), 1, 1, where, np.uint64(1 << 62))
    assert get(where, 1, np.uint64)[0] == 0
    taken = put(first[first != 0])
    launch(runtime("give"), 1, int(np.count_nonzero(first)), taken, seen)
    launch(runtime("take"), 1, 1, where, np.uint64(3 << 20))
    assert get(where, 1, np.uint64)[0] != 0, "what was freed is one piece again"


def test_size_of_the_heap_is_settled_once_it_is_made(api: Any, runtime: Any) -> None:
    runtime("take")
    limit = api.CUlimit.CU_LIMIT_MALLOC_HEAP_SIZE
    assert api.code("cuCtxSetLimit", limit, 1 << 20) == "INVALID_VALUE"


def test_heap_larger_than_the_card_refuses_the_module(api: Any, context: Any) -> None:
    text = TEXT.replace(b".extern .func (.param .b64 result) cudaCG", b"// ").split(b"// Each block's")[0]
    text = text.replace(b".extern .func (.param .b32 result) cudaCG", b"// ") + b"\0"
    api.cuCtxSetLimit(api.CUlimit.CU_LIMIT_MALLOC_HEAP_SIZE, 1 << 45)
    assert api.code("cuModuleLoadData", text) == "SHARED_OBJECT_INIT_FAILED"


def test_heap_is_charged_and_comes_back(api: Any, runtime: Any) -> None:
    before, _ = api.cuMemGetInfo()
    runtime("take")
    after, _ = api.cuMemGetInfo()
    assert before - after >= 8 << 20


def test_freeing_twice_is_a_fault(api: Any, runtime: Any, launch: Any, put: Any, get: Any) -> None:
    where, seen = put(np.zeros(1, np.uint64)), put(np.zeros(1, np.uint32))
    launch(runtime("take"), 1, 1, where, np.uint64(16))
    for _ in range(2):
        launch(runtime("give"), 1, 1, where, seen)
    assert api.code("cuCtxSynchronize") == "ILLEGAL_ADDRESS"


def test_grid_barrier(api: Any, runtime: Any, put: Any, get: Any) -> None:
    blocks = 12
    counter, out = put(np.zeros(1, np.uint32)), put(np.zeros(2 * blocks, np.uint32))
    boxes = [np.array(int(each), np.uint64) for each in (counter, out)]
    pointers = np.array([box.ctypes.data for box in boxes], np.uint64)
    api.cuLaunchCooperativeKernel(runtime("meet"), blocks, 1, 1, 96, 1, 1, 0, 0, pointers.ctypes.data)
    assert (get(out, 2 * blocks).reshape(blocks, 2) == [blocks, 2 * blocks]).all()


def test_grid_barrier_fails_in_an_ordinary_launch(runtime: Any, launch: Any, put: Any, get: Any) -> None:
    counter, out = put(np.zeros(1, np.uint32)), put(np.zeros(2, np.uint32))
    launch(runtime("meet"), 1, 32, counter, out)
    assert (get(out, 2) == 0xFFFFFFFF).all()


def test_register_limit_holds_through_the_linker(api: Any, context: Any) -> None:
    text = (Path(__file__).parent / "ptx" / "kernels.ptx").read_bytes() + b"\0"
    option, kinds = api.CUjit_option.CU_JIT_MAX_REGISTERS, api.CUjitInputType
    found = {}
    for options in ([], [option]):
        state = api.cuLinkCreate(len(options), options, [5] * len(options))
        api.cuLinkAddData(state, kinds.CU_JIT_INPUT_PTX, text, len(text), b"kernels", 0, [], [])
        module = api.cuModuleLoadData(api.cuLinkComplete(state)[0])
        attribute = api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_NUM_REGS
        function = api.cuModuleGetFunction(module, b"saxpy")
        found[len(options)] = api.cuFuncGetAttribute(attribute, function)
        api.cuLinkDestroy(state)
    assert found[1] == 5 < found[0]
