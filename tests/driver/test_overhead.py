"""What contexts and modules take of a card for themselves."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
KERNELS = Path(__file__).parent / "ptx" / "kernels.ptx"


def used(api: Any) -> int:
    free, total = api.cuMemGetInfo()
    return total - free


def limit(api: Any, name: str) -> Any:
    return getattr(api.CUlimit, f"CU_LIMIT_{name}")


def smallest(api: Any) -> int:
    """The device with the least memory."""
    return min(range(api.cuDeviceGetCount()), key=api.cuDeviceTotalMem)


def threads_of(api: Any, device: int = 0) -> int:
    names = api.CUdevice_attribute
    threads = names.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR
    multiprocessors = names.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    return api.cuDeviceGetAttribute(threads, device) * api.cuDeviceGetAttribute(multiprocessors, device)


def test_a_context_is_charged_and_comes_back(api: Any, context: Any) -> None:
    before = used(api)
    another = api.cuCtxCreate(None, 0, 0)
    cost = used(api) - before
    assert cost % (2 * MIB) == 0
    assert cost >= threads_of(api) * 1024, "local memory for every thread that can be resident"
    assert 300 * MIB < cost < 700 * MIB, "what is seen on cards of this size"
    api.cuCtxDestroy(another)
    assert used(api) == before


def test_a_small_card_has_small_contexts(api: Any) -> None:
    first = api.cuCtxCreate(None, 0, smallest(api))
    before = used(api)
    second = api.cuCtxCreate(None, 0, smallest(api))
    assert 60 * MIB < used(api) - before < 160 * MIB
    api.cuCtxDestroy(second)
    api.cuCtxDestroy(first)


def test_limits_are_charged(api: Any) -> None:
    made = api.cuCtxCreate(None, 0, 0)
    before = used(api)
    api.cuCtxSetLimit(limit(api, "STACK_SIZE"), 5 * 1024)
    assert used(api) - before == 4 * 1024 * threads_of(api)
    api.cuCtxSetLimit(limit(api, "STACK_SIZE"), 1024)
    assert used(api) == before
    api.cuCtxSetLimit(limit(api, "PRINTF_FIFO_SIZE"), 64 * MIB)
    assert used(api) - before in (62 * MIB, 64 * MIB)
    api.cuCtxDestroy(made)


def test_what_does_not_fit_is_refused(api: Any) -> None:
    card = smallest(api)
    made = api.cuCtxCreate(None, 0, card)
    stack = limit(api, "STACK_SIZE")
    before = used(api), api.cuCtxGetLimit(stack)
    assert api.code("cuCtxSetLimit", stack, 512 * 1024) == "OUT_OF_MEMORY"
    assert (used(api), api.cuCtxGetLimit(stack)) == before
    made_contexts = []
    while (result := api.module.cuCtxCreate(None, 0, card))[0] == api.CUresult.CUDA_SUCCESS:
        made_contexts.append(result[1])
        assert len(made_contexts) < 1000
    assert result[0] == api.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    assert len(made_contexts) > 50
    for each in made_contexts:
        api.cuCtxDestroy(each)
    api.cuCtxSetCurrent(made)
    assert used(api) == before[0]
    api.cuCtxDestroy(made)


def test_a_module_is_charged(api: Any, context: Any) -> None:
    before = used(api)
    module = api.cuModuleLoadData(KERNELS.read_bytes() + b"\0")
    assert used(api) - before == 2 * MIB
    api.cuModuleUnload(module)
    assert used(api) == before


@pytest.mark.parametrize(("size", "least", "most"), [("64MiB", 64, 120), ("0", 40, 45), ("default", 98, 104)])
def test_the_machine_says_what_a_context_takes(
    native_dir: Path, simgpu_env: Mapping[str, str], run_python: Any, size: str, least: int, most: int
) -> None:
    env = {**simgpu_env, "ALIQUOT_SIMGPU": "t4:1"}
    tool = str(native_dir / "bin" / "aliquot-simgpu")
    subprocess.run([tool, "context-memory", size], env=env, check=True, capture_output=True)
    script = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
assert cuda.cuInit(0) == 0 and cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
print((total.value - free.value) >> 20)
"""
    done = run_python("-c", script, env=env)
    assert done.returncode == 0, done.stderr
    assert least <= int(done.stdout) <= most


def test_tools_see_it(native_dir: Path, simgpu_env: Mapping[str, str], run_python: Any) -> None:
    """The machine's list of processes, while a program holds a context and nothing else."""
    script = f"""
import ctypes, json, os, subprocess
cuda = ctypes.CDLL("libcuda.so.1")
context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
assert cuda.cuInit(0) == 0 and cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
command = [{str(native_dir / "bin" / "aliquot-simgpu")!r}, "processes", "--json"]
shown = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
mine = [each["vram_bytes"] for each in shown["live"] if each["pid"] == os.getpid()]
assert mine == [total.value - free.value], (mine, total.value - free.value)
assert cuda.cuCtxDestroy_v2(context) == 0
"""
    done = run_python("-c", script, env=simgpu_env)
    assert done.returncode == 0, done.stderr
