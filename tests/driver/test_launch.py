"""Launches: their parameters, their limits, and what becomes of a kernel that fails."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PTX = Path(__file__).parent / "ptx"


def test_saxpy(api: Any, kernels: Any, launch: Any, put: Any, get: Any) -> None:
    random = np.random.default_rng(1)
    x, y = random.random(10_000, np.float32), random.random(10_000, np.float32)
    out = put(y)
    launch(kernels("saxpy"), 40, 256, np.float32(2.5), put(x), out, np.uint32(10_000))
    expected = (np.float64(2.5) * x + y).astype(np.float32)  # exact in binary64, so rounded once as fma does
    assert (get(out, 10_000, np.float32) == expected).all()


def test_parameters_by_buffer(api: Any, kernels: Any, put: Any, get: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    buffer = np.zeros(24, np.uint8)
    buffer[0] = 200
    buffer[8:16] = np.array([1000, 1], np.uint32).view(np.uint8)
    buffer[16:24] = np.array([int(out)], np.uint64).view(np.uint8)
    size = np.array([24], np.uint64)
    extra = np.array([1, buffer.ctypes.data, 2, size.ctypes.data, 0], np.uint64)
    api.cuLaunchKernel(kernels("mixed"), 1, 1, 1, 1, 1, 1, 0, 0, 0, extra.ctypes.data)
    assert get(out, 1)[0] == 1201
    size[0] = 20
    arguments = (kernels("mixed"), 1, 1, 1, 1, 1, 1, 0, 0, 0, extra.ctypes.data)
    assert api.code("cuLaunchKernel", *arguments) == "INVALID_VALUE"


@pytest.mark.parametrize(
    ("grid", "block", "code"),
    [
        ((0, 1, 1), (1, 1, 1), "INVALID_VALUE"),
        ((1, 1, 1), (0, 1, 1), "INVALID_VALUE"),
        ((1, 1, 1), (1025, 1, 1), "INVALID_VALUE"),
        ((1, 1, 1), (32, 33, 1), "INVALID_VALUE"),
        ((1, 1, 1), (1, 1, 65), "INVALID_VALUE"),
        ((1, 65536, 1), (1, 1, 1), "INVALID_VALUE"),
        ((1 << 31, 1, 1), (1, 1, 1), "INVALID_VALUE"),
        ((4294967295, 4294967295, 4294967295), (4294967295, 4294967295, 4294967295), "INVALID_VALUE"),
        ((1, 1, 1), (1, 1, 64), "SUCCESS"),
        ((1, 65535, 1), (1, 1, 1), "SUCCESS"),
    ],
)
def test_dimensions(api: Any, kernels: Any, grid: tuple[int, ...], block: tuple[int, ...], code: str) -> None:
    assert api.code("cuLaunchKernel", kernels("empty"), *grid, *block, 0, 0, 0, 0) == code
    assert api.code("cuCtxSynchronize") == "SUCCESS"


def test_bounds_of_the_kernel(api: Any, kernels: Any) -> None:
    def code(name: str, x: int, y: int = 1, shared: int = 0) -> str:
        return api.code("cuLaunchKernel", kernels(name), 1, 1, 1, x, y, 1, shared, 0, 0, 0)

    assert code("bounded", 64) == "SUCCESS"
    assert code("bounded", 65) == "INVALID_VALUE"  # as numba-cuda's tests expect of cards
    assert code("exact", 32, 2) == "SUCCESS"
    assert code("exact", 64) != "SUCCESS"
    assert code("empty", 32, shared=48 * 1024) == "SUCCESS"
    assert code("empty", 32, shared=48 * 1024 + 1) == "INVALID_VALUE"


def test_missing_parameters(api: Any, kernels: Any) -> None:
    assert api.code("cuLaunchKernel", kernels("store"), 1, 1, 1, 1, 1, 1, 0, 0, 0, 0) == "INVALID_VALUE"


@pytest.mark.parametrize("handle", [0, 1, 0x1234, 0x5A05000000000000, 0x5A05000000FFFFF0, 2**63])
def test_forged_functions(api: Any, context: Any, handle: int) -> None:
    arguments = (api.CUfunction(handle), 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    assert api.code("cuLaunchKernel", *arguments) in ("INVALID_HANDLE", "INVALID_VALUE")


def test_cooperative(api: Any, kernels: Any) -> None:
    api.cuLaunchCooperativeKernel(kernels("empty"), 8, 1, 1, 128, 1, 1, 0, 0, 0)
    arguments = (kernels("empty"), 1 << 20, 1, 1, 1024, 1, 1, 0, 0, 0)
    assert api.code("cuLaunchCooperativeKernel", *arguments) == "COOPERATIVE_LAUNCH_TOO_LARGE"


def config(api: Any, **attributes: Any) -> Any:
    made = api.CUlaunchConfig()
    made.gridDimX = made.gridDimY = made.gridDimZ = made.blockDimX = made.blockDimY = made.blockDimZ = 1
    listed = []
    for name, value in attributes.items():
        attribute = api.CUlaunchAttribute()
        attribute.id = getattr(api.CUlaunchAttributeID, f"CU_LAUNCH_ATTRIBUTE_{name}")
        setattr(attribute.value, {"COOPERATIVE": "cooperative", "PRIORITY": "priority"}[name], value)
        listed.append(attribute)
    made.attrs, made.numAttrs = listed, len(listed)
    return made


def test_extended_launch(api: Any, kernels: Any) -> None:
    assert api.code("cuLaunchKernelEx", config(api), kernels("empty"), 0, 0) == "SUCCESS"
    assert (
        api.code("cuLaunchKernelEx", config(api, PRIORITY=-1, COOPERATIVE=1), kernels("empty"), 0, 0)
        == "SUCCESS"
    )
    assert api.code("cuCtxSynchronize") == "SUCCESS"


@pytest.mark.parametrize(
    ("kernel", "address", "code"),
    [
        ("store", 0, "ILLEGAL_ADDRESS"),
        ("store", 0x10000, "ILLEGAL_ADDRESS"),
        ("store", 0x7FFFFFFFFFFFF000, "ILLEGAL_ADDRESS"),
        ("store", None, "MISALIGNED_ADDRESS"),
        ("trap_now", (), "LAUNCH_FAILED"),
    ],
)
def test_faults_stick_until_reset(
    api: Any, kernels: Any, launch: Any, kernel: str, address: Any, code: str
) -> None:
    memory = api.cuMemAlloc(1024)
    address = int(memory) + 1 if address is None else address
    event = api.cuEventCreate(0)
    launch(kernels(kernel), 1, 1, *(() if address == () else (address,)))
    assert api.code("cuCtxSynchronize") == code
    for call, arguments in [
        ("cuMemAlloc", (16,)),
        ("cuMemFree", (memory,)),
        ("cuStreamSynchronize", (0,)),
        ("cuCtxSynchronize", ()),
        ("cuEventRecord", (event, 0)),
        ("cuMemsetD8", (memory, 0, 16)),
        ("cuStreamCreate", (0,)),
    ]:
        assert api.code(call, *arguments) == code, call
    assert api.code("cuCtxGetDevice") == "SUCCESS"
    device = api.cuDeviceGet(0)
    api.cuDevicePrimaryCtxReset(device)
    api.cuCtxSetCurrent(api.cuDevicePrimaryCtxRetain(device))
    assert api.code("cuMemAlloc", 16) == "SUCCESS"
    api.cuDevicePrimaryCtxRelease(device)


def test_a_fault_ends_what_else_the_context_runs(api: Any, kernels: Any, launch: Any) -> None:
    """A kernel that waits for ever does not keep the error of another from being told."""
    flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    first, second = api.cuStreamCreate(flags), api.cuStreamCreate(flags)
    flag = api.cuMemHostAlloc(4096, 0)
    ctypes.c_uint32.from_address(int(flag)).value = 0
    launch(kernels("wait_for"), 1, 1, flag, int(flag) + 64, stream=first)
    launch(kernels("store"), 1, 1, 0x10000, stream=second)
    assert api.code("cuCtxSynchronize") == "ILLEGAL_ADDRESS"


def test_use_after_free(api: Any, kernels: Any, launch: Any) -> None:
    memory = api.cuMemAlloc(8 << 20)
    api.cuMemFree(memory)
    launch(kernels("store"), 1, 1, memory)
    assert api.code("cuCtxSynchronize") == "ILLEGAL_ADDRESS"


def test_peer_memory_needs_permission(api: Any, kernels: Any, launch: Any) -> None:
    if api.cuDeviceGetCount() < 2:
        pytest.skip("one card")
    store = kernels("store")
    here = api.cuCtxGetCurrent()
    other = api.cuCtxCreate(None, 0, 1)
    there = api.cuMemAlloc(1024)
    api.cuCtxSetCurrent(here)
    assert api.cuDeviceCanAccessPeer(0, 1) == 1
    api.cuCtxEnablePeerAccess(other, 0)
    assert api.code("cuCtxEnablePeerAccess", other, 0) == "PEER_ACCESS_ALREADY_ENABLED"
    launch(store, 1, 1, there)
    api.cuCtxSynchronize()
    api.cuCtxDisablePeerAccess(other)
    launch(store, 1, 1, there)
    assert api.code("cuCtxSynchronize") == "ILLEGAL_ADDRESS"
    api.cuCtxPushCurrent(other)
    api.cuCtxDestroy(other)


def test_occupancy(api: Any, kernels: Any) -> None:
    blocks = api.cuOccupancyMaxActiveBlocksPerMultiprocessor
    per_multiprocessor = api.cuDeviceGetAttribute(
        api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 0
    )
    most_blocks = api.cuDeviceGetAttribute(
        api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 0
    )
    shared = api.cuDeviceGetAttribute(
        api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 0
    )
    assert blocks(kernels("empty"), 256, 0) == per_multiprocessor // 256
    assert blocks(kernels("empty"), 32, 0) == most_blocks
    # A block has 1 KiB for the driver beside its own, in units of 128 bytes (cards from 8.0 on).
    assert blocks(kernels("empty"), 32, 40_000) == shared // (-(-(40_000 + 1024) // 128) * 128)
    assert blocks(kernels("bounded"), 128, 0) == 0
    assert api.code("cuOccupancyMaxActiveBlocksPerMultiprocessor", kernels("empty"), 0, 0) == "INVALID_VALUE"


def test_results_of_printf_come_at_a_synchronisation(simgpu_env: dict[str, str]) -> None:
    script = """
import sys
from cuda.bindings import driver, nvrtc
source = b'extern "C" __device__ int printf(const char*, ...);' \\
         b'extern "C" __global__ void tell() { printf("thread %d of %s\\\\n", threadIdx.x, "four"); }'
program = nvrtc.nvrtcCreateProgram(source, b"tell.cu", 0, [], [])[1]
assert int(nvrtc.nvrtcCompileProgram(program, 1, [b"--gpu-architecture=compute_80"])[0]) == 0
ptx = b" " * nvrtc.nvrtcGetPTXSize(program)[1]
nvrtc.nvrtcGetPTX(program, ptx)
driver.cuInit(0)
driver.cuCtxSetCurrent(driver.cuDevicePrimaryCtxRetain(0)[1])
function = driver.cuModuleGetFunction(driver.cuModuleLoadData(ptx)[1], b"tell")[1]
driver.cuLaunchKernel(function, 1, 1, 1, 4, 1, 1, 0, 0, 0, 0)
assert int(driver.cuCtxSynchronize()[0]) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=simgpu_env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"thread {i} of four" for i in range(4)]


def test_the_process_ends_at_once_while_a_kernel_runs(simgpu_env: dict[str, str]) -> None:
    script = f"""
import ctypes
from cuda.bindings import driver
driver.cuInit(0)
driver.cuCtxSetCurrent(driver.cuDevicePrimaryCtxRetain(0)[1])
module = driver.cuModuleLoadData(open({str(PTX / "kernels.ptx")!r}, "rb").read() + b"\\0")[1]
function = driver.cuModuleGetFunction(module, b"spin")[1]
memory = driver.cuMemAlloc(16)[1]
arguments = ((1 << 60, memory), (ctypes.c_uint64, None))
print(int(driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, arguments, 0)[0]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=simgpu_env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_legacy_launch(api: Any, kernels: Any, put: Any, get: Any) -> None:
    """The calls that came before cuLaunchKernel, which cuda-bindings no longer wraps."""
    cuda = ctypes.CDLL("libcuda.so.1")
    out = put(np.zeros(1, np.uint32))
    function = ctypes.c_void_p(int(kernels("increment")))
    address = ctypes.c_uint64(int(out))
    assert cuda.cuFuncSetBlockShape(function, 16, 1, 1) == 0
    assert cuda.cuParamSetv(function, 0, ctypes.byref(address), 0) in (0, 1), "no bytes, where none were yet"
    assert cuda.cuParamSetSize(function, 8) == 0
    assert cuda.cuParamSetv(function, 0, ctypes.byref(address), 8) == 0
    assert cuda.cuLaunchGrid(function, 2, 1) == 0
    assert get(out, 1)[0] == 32
    assert cuda.cuParamSetv(function, 4096, ctypes.byref(address), 8) == 1
