"""What programs do with cuda.bindings: the driver's API and NVRTC, call by call. See `run.py`."""

# The names of cuda.bindings are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cuda.bindings import driver, nvrtc, runtime

SUCCESS = driver.CUresult.CUDA_SUCCESS


def call(answer: tuple) -> Any:
    status, *values = answer
    assert int(status) == 0, status
    return values[0] if len(values) == 1 else values


call(driver.cuInit(0))
device = call(driver.cuDeviceGet(0))
context = call(driver.cuDevicePrimaryCtxRetain(device))
call(driver.cuCtxSetCurrent(context))


def attribute(name: str) -> int:
    return call(driver.cuDeviceGetAttribute(getattr(driver.CUdevice_attribute, name), device))


ARCHITECTURE = 10 * attribute("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR") + attribute(
    "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR"
)


def ptx_of(source: str) -> bytes:
    program = call(nvrtc.nvrtcCreateProgram(source.encode(), b"source.cu", 0, [], []))
    options = [f"--gpu-architecture=compute_{ARCHITECTURE}".encode(), b"-std=c++17"]
    call(nvrtc.nvrtcCompileProgram(program, len(options), options))
    code = b" " * call(nvrtc.nvrtcGetPTXSize(program))
    call(nvrtc.nvrtcGetPTX(program, code))
    call(nvrtc.nvrtcDestroyProgram(program))
    return code


ADD = ptx_of(
    '__device__ int gauge = 40; extern "C" __global__ void add(int* x, int v, int n) {'
    "  const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) x[i] += v; if (i == 0) gauge += v; }"
)


def launch(kernel, stream, pointer, value: int, count: int) -> None:
    values = (int(pointer), value, count)
    types = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    blocks = (count + 63) // 64
    call(driver.cuLaunchKernel(kernel, blocks, 1, 1, 64, 1, 1, 0, stream, (values, types), 0))


def check_devices():
    assert call(driver.cuDeviceGetCount()) >= 1
    assert call(driver.cuDriverGetVersion()) >= 13000
    assert call(driver.cuDeviceGetName(128, device)).split(b"\0")[0]
    free, total = call(driver.cuMemGetInfo())
    assert 0 < free <= total == call(driver.cuDeviceTotalMem(device))
    assert call(driver.cuDeviceGetUuid(device)).bytes != b"\0" * 16


def check_modules():
    module = call(driver.cuModuleLoadData(ADD))
    add = call(driver.cuModuleGetFunction(module, b"add"))
    x = np.arange(1000, dtype=np.int32)
    pointer = call(driver.cuMemAlloc(x.nbytes))
    call(driver.cuMemcpyHtoD(pointer, x, x.nbytes))
    launch(add, 0, pointer, 7, 1000)
    got = np.zeros_like(x)
    call(driver.cuMemcpyDtoH(got, pointer, x.nbytes))
    np.testing.assert_array_equal(got, x + 7)
    where, size = call(driver.cuModuleGetGlobal(module, b"gauge"))
    gauge = np.zeros(1, np.int32)
    call(driver.cuMemcpyDtoH(gauge, where, size))
    assert gauge[0] == 47
    call(driver.cuMemFree(pointer))
    call(driver.cuModuleUnload(module))


def check_libraries():
    library = call(driver.cuLibraryLoadData(ADD, [], [], 0, [], [], 0))
    kernel = call(driver.cuLibraryGetKernel(library, b"add"))
    assert call(driver.cuKernelGetName(kernel)) == b"add"
    offset, size = call(driver.cuKernelGetParamInfo(kernel, 1))
    assert (offset, size) == (8, 4)
    pointer = call(driver.cuMemAlloc(400))
    call(driver.cuMemsetD32(pointer, 5, 100))
    launch(driver.CUfunction(int(kernel)), 0, pointer, 6, 100)
    got = np.zeros(100, np.int32)
    call(driver.cuMemcpyDtoH(got, pointer, 400))
    np.testing.assert_array_equal(got, np.full(100, 11))
    call(driver.cuMemFree(pointer))
    call(driver.cuLibraryUnload(library))


def check_streams():
    stream = call(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
    module = call(driver.cuModuleLoadData(ADD))
    add = call(driver.cuModuleGetFunction(module, b"add"))
    begin, done = (call(driver.cuEventCreate(0)) for _ in range(2))
    host = np.arange(256, dtype=np.int32)
    got = np.zeros_like(host)
    pointer = call(driver.cuMemAllocAsync(host.nbytes, stream))
    call(driver.cuEventRecord(begin, stream))
    call(driver.cuMemcpyHtoDAsync(pointer, host, host.nbytes, stream))
    for value in range(10):
        launch(add, stream, pointer, value, 256)
    call(driver.cuMemcpyDtoHAsync(got, pointer, host.nbytes, stream))
    call(driver.cuMemFreeAsync(pointer, stream))
    call(driver.cuEventRecord(done, stream))
    call(driver.cuStreamSynchronize(stream))
    np.testing.assert_array_equal(got, host + 45)
    assert call(driver.cuEventElapsedTime(begin, done)) >= 0
    call(driver.cuStreamDestroy(stream))


def check_sets_and_copies():
    pointer = call(driver.cuMemAlloc(4096))
    call(driver.cuMemsetD8(pointer, 0xAB, 4096))
    call(driver.cuMemsetD16(int(pointer) + 1024, 0x1234, 512))
    call(driver.cuMemcpyDtoD(int(pointer) + 3072, int(pointer) + 1024, 1024))
    got = np.zeros(4096, np.uint8)
    call(driver.cuMemcpyDtoH(got, pointer, 4096))
    pattern = np.full(512, 0x1234, np.uint16).view(np.uint8)
    expected = np.full(4096, 0xAB, np.uint8)
    expected[1024:2048] = pattern
    expected[3072:] = pattern
    np.testing.assert_array_equal(got, expected)
    base, size = call(driver.cuMemGetAddressRange(int(pointer) + 100))
    assert (int(base), size) == (int(pointer), 4096)
    call(driver.cuMemFree(pointer))


def check_pools():
    pool = call(driver.cuDeviceGetDefaultMemPool(device))
    stream = call(driver.cuStreamCreate(0))
    pointer = call(driver.cuMemAllocFromPoolAsync(1 << 20, pool, stream))
    used = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_USED_MEM_CURRENT
    call(driver.cuStreamSynchronize(stream))
    held = int(call(driver.cuMemPoolGetAttribute(pool, used)))
    assert held >= 1 << 20
    call(driver.cuMemFreeAsync(pointer, stream))
    call(driver.cuStreamSynchronize(stream))
    assert int(call(driver.cuMemPoolGetAttribute(pool, used))) <= held - (1 << 20)
    call(driver.cuStreamDestroy(stream))


def check_runtime_api():
    """cuda.bindings.runtime has a libcudart of its own inside."""
    assert call(runtime.cudaRuntimeGetVersion()) >= 13000
    pointer = call(runtime.cudaMalloc(1024))
    call(runtime.cudaMemset(pointer, 3, 1024))
    got = np.zeros(1024, np.uint8)
    call(runtime.cudaMemcpy(got, pointer, 1024, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost))
    np.testing.assert_array_equal(got, np.full(1024, 3))
    call(runtime.cudaFree(pointer))


def status(answer: tuple) -> driver.CUresult:
    return answer[0]


def check_errors():
    error = driver.CUresult
    assert status(driver.cuModuleLoadData(b"not a module\0")) in (
        error.CUDA_ERROR_INVALID_IMAGE,
        error.CUDA_ERROR_INVALID_PTX,
    )
    module = call(driver.cuModuleLoadData(ADD))
    assert status(driver.cuModuleGetFunction(module, b"missing")) == error.CUDA_ERROR_NOT_FOUND
    pointer = call(driver.cuMemAlloc(64))
    call(driver.cuMemFree(pointer))
    assert status(driver.cuMemFree(pointer)) == error.CUDA_ERROR_INVALID_VALUE
    assert status(driver.cuDeviceGet(1000)) == error.CUDA_ERROR_INVALID_DEVICE
    assert status(driver.cuMemAlloc(0)) == error.CUDA_ERROR_INVALID_VALUE
    _, text = driver.cuGetErrorName(error.CUDA_ERROR_OUT_OF_MEMORY)
    assert text == b"CUDA_ERROR_OUT_OF_MEMORY"


def check_out_of_memory():
    _, total = call(driver.cuMemGetInfo())
    assert status(driver.cuMemAlloc(total + 1)) == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    call(driver.cuMemFree(call(driver.cuMemAlloc(1 << 20))))
