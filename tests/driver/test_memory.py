"""Device, host and managed memory, pools, and what the driver says of an address."""

from __future__ import annotations

import ctypes
import itertools
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

MIB = 1 << 20


def used(api: Any) -> int:
    free, total = api.cuMemGetInfo()
    return total - free


def test_allocation_is_charged_and_comes_back(api: Any, context: Any) -> None:
    before = used(api)
    address = api.cuMemAlloc(100 * MIB)
    assert used(api) == before + 100 * MIB
    api.cuMemFree(address)
    assert used(api) == before


def test_small_allocations_share_a_block(api: Any, context: Any) -> None:
    before = used(api)
    addresses = [int(api.cuMemAlloc(100)) for _ in range(1000)]
    assert len(set(addresses)) == 1000
    assert all(address % 256 == 0 for address in addresses)
    assert used(api) - before <= 2 * MIB
    for address in addresses:
        api.cuMemFree(address)
    assert used(api) == before


def test_random_allocations_never_overlap(api: Any, context: Any) -> None:
    chance = random.Random(7)
    before = used(api)
    live: dict[int, int] = {}
    for _ in range(2000):
        if live and chance.random() < 0.45:
            address = chance.choice(list(live))
            del live[address]
            api.cuMemFree(address)
        else:
            size = chance.choice([1, 511, 512, 513, 4096, 70000, MIB, MIB + 1, 5 * MIB])
            live[int(api.cuMemAlloc(size))] = size
    spans = sorted(live.items())
    assert all(begin + size <= following for (begin, size), (following, _) in itertools.pairwise(spans))
    for address in live:
        api.cuMemFree(address)
    assert used(api) == before


def test_wrong_frees(api: Any, context: Any) -> None:
    address = api.cuMemAlloc(MIB)
    assert api.code("cuMemFree", int(address) + 256) == "INVALID_VALUE"
    api.cuMemFree(address)
    assert api.code("cuMemFree", address) == "INVALID_VALUE"
    assert api.code("cuMemFree", 0xDEAD0000) == "INVALID_VALUE"
    assert api.code("cuMemFree", 0) == "SUCCESS"


@pytest.mark.parametrize(
    ("size", "code"), [(0, "INVALID_VALUE"), (1 << 62, "OUT_OF_MEMORY"), (2**64 - 1, "OUT_OF_MEMORY")]
)
def test_absurd_sizes(api: Any, context: Any, size: int, code: str) -> None:
    assert api.code("cuMemAlloc", size) == code


def test_pitched(api: Any, context: Any) -> None:
    address, pitch = api.cuMemAllocPitch(1000, 10, 4)
    assert pitch >= 1000
    assert pitch % 512 == 0
    assert api.cuMemGetAddressRange(address)[1] >= pitch * 10
    assert api.code("cuMemAllocPitch", 1000, 10, 3) == "INVALID_VALUE"
    assert api.code("cuMemAllocPitch", 0, 10, 4) == "INVALID_VALUE"
    assert api.code("cuMemAllocPitch", 1 << 30, 1 << 40, 4) == "OUT_OF_MEMORY"


def test_address_range(api: Any, context: Any) -> None:
    address = api.cuMemAlloc(5000)
    base, size = api.cuMemGetAddressRange(int(address) + 4999)
    assert int(base) == int(address)
    assert size >= 5000
    api.cuMemFree(address)
    assert api.code("cuMemGetAddressRange", address) in ("NOT_FOUND", "INVALID_VALUE")


def test_the_host_cannot_dereference_device_memory(simgpu_env: dict[str, str]) -> None:
    script = """
import ctypes, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it is meant to crash: no core file for that
cuda = ctypes.CDLL("libcuda.so.1")
context, address = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0 and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(64)) == 0
ctypes.c_int.from_address(address.value).value
"""
    left_alone = {"ASAN_OPTIONS": simgpu_env["ASAN_OPTIONS"] + ":handle_segv=0"}  # where it is preloaded
    done = subprocess.run(
        [sys.executable, "-c", script], env=simgpu_env | left_alone, capture_output=True, check=False
    )
    assert done.returncode == -11


def test_host_memory_is_the_same_on_both_sides(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    pointer = api.cuMemHostAlloc(4096, api.CU_MEMHOSTALLOC_DEVICEMAP)
    assert int(api.cuMemHostGetDevicePointer(pointer, 0)) == int(pointer)
    assert api.cuMemHostGetFlags(pointer) & api.CU_MEMHOSTALLOC_DEVICEMAP
    word = ctypes.c_uint32.from_address(int(pointer))
    word.value = 5
    launch(kernels("increment"), 1, 32, pointer)
    api.cuCtxSynchronize()
    assert word.value == 37
    api.cuMemFreeHost(pointer)
    assert api.code("cuMemFreeHost", pointer) == "INVALID_VALUE"


def test_registered_memory(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    values = np.zeros(1024, np.uint32)
    api.cuMemHostRegister(values.ctypes.data, values.nbytes, 0)
    assert api.code("cuMemHostRegister", values.ctypes.data, 64, 0) == "HOST_MEMORY_ALREADY_REGISTERED"
    address = api.cuMemHostGetDevicePointer(values.ctypes.data, 0)
    launch(kernels("increment"), 2, 32, address)
    api.cuCtxSynchronize()
    assert values[0] == 64
    api.cuMemHostUnregister(values.ctypes.data)
    assert api.code("cuMemHostUnregister", values.ctypes.data) == "HOST_MEMORY_NOT_REGISTERED"


def test_memory_that_the_card_may_not_touch(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    values = np.zeros(16, np.uint32)
    launch(kernels("increment"), 1, 1, values.ctypes.data)
    assert api.code("cuCtxSynchronize") == "ILLEGAL_ADDRESS"
    assert values[0] == 0


def test_managed_memory(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    attach = api.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value
    address = api.cuMemAllocManaged(4096, attach)
    ctypes.c_uint32.from_address(int(address)).value = 1
    launch(kernels("increment"), 1, 4, address)
    api.cuCtxSynchronize()
    assert ctypes.c_uint32.from_address(int(address)).value == 5
    assert api.cuPointerGetAttribute(api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_IS_MANAGED, address)
    api.cuMemFree(address)
    assert api.code("cuMemAllocManaged", 16, 7) == "INVALID_VALUE"


def test_pointer_attributes(api: Any, context: Any) -> None:
    kinds = api.CUpointer_attribute
    device = api.cuMemAlloc(1000)
    inside = int(device) + 10
    ask = api.cuPointerGetAttribute
    assert int(ask(kinds.CU_POINTER_ATTRIBUTE_CONTEXT, inside)) == int(context)
    assert ask(kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside) == api.CUmemorytype.CU_MEMORYTYPE_DEVICE
    assert int(ask(kinds.CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, inside)) == int(device)
    assert ask(kinds.CU_POINTER_ATTRIBUTE_RANGE_SIZE, inside) >= 1000
    assert ask(kinds.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, inside) == 0
    other = api.cuMemAlloc(1000)
    buffer_id = kinds.CU_POINTER_ATTRIBUTE_BUFFER_ID
    assert ask(buffer_id, device) == ask(buffer_id, inside) != ask(buffer_id, other)
    host = api.cuMemHostAlloc(4096, 0)
    assert ask(kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, host) == api.CUmemorytype.CU_MEMORYTYPE_HOST
    api.cuMemFree(device)
    assert api.code("cuPointerGetAttribute", kinds.CU_POINTER_ATTRIBUTE_CONTEXT, device) == "INVALID_VALUE"


def test_pointer_attributes_of_an_unknown_address(api: Any, context: Any) -> None:
    kinds = api.CUpointer_attribute
    asked = [kinds.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, kinds.CU_POINTER_ATTRIBUTE_DEVICE_POINTER]
    values = api.cuPointerGetAttributes(len(asked), asked, np.zeros(4).ctypes.data)
    assert [int(value) for value in values] == [0, 0]


def test_stream_ordered_allocation(api: Any, context: Any) -> None:
    stream, before = api.cuStreamCreate(0), used(api)
    address = api.cuMemAllocAsync(10 * MIB, stream)
    api.cuMemsetD8Async(address, 3, 10 * MIB, stream)
    back = np.zeros(16, np.uint8)
    api.cuMemcpyDtoHAsync(back.ctypes.data, address, 16, stream)
    api.cuStreamSynchronize(stream)
    assert (back == 3).all()
    assert used(api) > before
    api.cuMemFreeAsync(address, stream)
    assert api.code("cuMemFreeAsync", address, stream) == "INVALID_VALUE"
    api.cuStreamSynchronize(stream)
    assert used(api) == before  # a release threshold of 0: a synchronisation gives it back


def test_a_pool_keeps_up_to_its_threshold(api: Any, context: Any) -> None:
    kinds = api.CUmemPool_attribute
    pool = api.cuDeviceGetDefaultMemPool(0)
    api.cuMemPoolSetAttribute(pool, kinds.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, api.cuuint64_t(64 * MIB))
    address = api.cuMemAllocAsync(8 * MIB, 0)
    assert int(api.cuMemPoolGetAttribute(pool, kinds.CU_MEMPOOL_ATTR_USED_MEM_CURRENT)) == 8 * MIB
    api.cuMemFreeAsync(address, 0)
    api.cuCtxSynchronize()
    assert int(api.cuMemPoolGetAttribute(pool, kinds.CU_MEMPOOL_ATTR_USED_MEM_CURRENT)) == 0
    assert int(api.cuMemPoolGetAttribute(pool, kinds.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)) >= 8 * MIB
    assert int(api.cuMemPoolGetAttribute(pool, kinds.CU_MEMPOOL_ATTR_USED_MEM_HIGH)) >= 8 * MIB
    api.cuMemPoolSetAttribute(pool, kinds.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, api.cuuint64_t(0))
    api.cuMemPoolTrimTo(pool, 0)
    assert int(api.cuMemPoolGetAttribute(pool, kinds.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)) == 0


def test_created_pool(api: Any, context: Any) -> None:
    properties = api.CUmemPoolProps()
    properties.allocType = api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = 0
    before = used(api)
    pool = api.cuMemPoolCreate(properties)
    address = api.cuMemAllocFromPoolAsync(4 * MIB, pool, 0)
    api.cuMemPoolDestroy(pool)
    assert api.code("cuMemPoolTrimTo", pool, 0) == "INVALID_VALUE"
    api.cuMemFreeAsync(address, 0)
    api.cuCtxSynchronize()
    assert used(api) == before


def test_default_pool_cannot_be_destroyed(api: Any, context: Any) -> None:
    assert api.code("cuMemPoolDestroy", api.cuDeviceGetDefaultMemPool(0)) == "INVALID_VALUE"
