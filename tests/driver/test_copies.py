"""Copies and sets: one to three dimensions, blocking and asynchronous, and their refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize("size", [1, 63, 4096, 65536, 65537, 3 << 20])
def test_there_and_back(api: Any, context: Any, size: int) -> None:
    sent = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    first, second, received = api.cuMemAlloc(size), api.cuMemAlloc(size), np.zeros_like(sent)
    api.cuMemcpyHtoD(first, sent.ctypes.data, size)
    api.cuMemcpyDtoD(second, first, size)
    api.cuMemcpyDtoH(received.ctypes.data, second, size)
    assert (received == sent).all()


def test_pageable_source_may_change_at_once(api: Any, context: Any) -> None:
    for size in (1000, 1 << 20):
        stream, address, values = api.cuStreamCreate(0), api.cuMemAlloc(size), np.full(size, 1, np.uint8)
        api.cuMemcpyHtoDAsync(address, values.ctypes.data, size, stream)
        values[:] = 2
        received = np.zeros(size, np.uint8)
        api.cuMemcpyDtoHAsync(received.ctypes.data, address, size, stream)
        api.cuStreamSynchronize(stream)
        assert (received == 1).all()


def test_unified_copy_finds_its_direction(api: Any, context: Any) -> None:
    values, received, address = np.arange(100, dtype=np.uint32), np.zeros(100, np.uint32), api.cuMemAlloc(400)
    api.cuMemcpy(address, values.ctypes.data, 400)
    api.cuMemcpy(received.ctypes.data, address, 400)
    assert (received == values).all()


def test_peer_copy(api: Any, context: Any) -> None:
    if api.cuDeviceGetCount() < 2:
        pytest.skip("one card")
    values, received = np.arange(64, dtype=np.uint32), np.zeros(64, np.uint32)
    here = api.cuMemAlloc(256)
    api.cuMemcpyHtoD(here, values.ctypes.data, 256)
    other = api.cuCtxCreate(None, 0, 1)
    there = api.cuMemAlloc(256)
    api.cuMemcpyPeer(there, other, here, context, 256)
    api.cuMemcpyDtoH(received.ctypes.data, there, 256)
    assert (received == values).all()
    assert api.code("cuMemcpyPeer", there, 12345, here, context, 256) == "INVALID_CONTEXT"
    api.cuCtxDestroy(other)


def refused(api: Any) -> list[tuple[str, tuple[Any, ...]]]:
    address = int(api.cuMemAlloc(1000))
    host = np.zeros(4096, np.uint8)
    refused.keep = host  # type: ignore[attr-defined]
    at = host.ctypes.data
    return [
        ("cuMemcpyHtoD", (address, at, 1001)),
        ("cuMemcpyHtoD", (address + 999, at, 2)),
        ("cuMemcpyHtoD", (0, at, 16)),
        ("cuMemcpyHtoD", (address, 0, 16)),
        ("cuMemcpyHtoD", (address, 16, 16)),
        ("cuMemcpyHtoD", (at, at, 16)),
        ("cuMemcpyDtoH", (0, address, 16)),
        ("cuMemcpyDtoH", (at, 0xDEADBEEF, 16)),
        ("cuMemcpyDtoD", (address, address, 1 << 60)),
        ("cuMemsetD8", (address, 0, 1001)),
        ("cuMemsetD32", (address + 2, 0, 4)),
        ("cuMemsetD32", (address, 0, 1 << 62)),
        ("cuMemsetD2D8", (address, 10, 0, 20, 2)),
    ]


@pytest.mark.parametrize("number", range(13))
def test_refused(api: Any, context: Any, number: int) -> None:
    call, arguments = refused(api)[number]
    assert api.code(call, *arguments) == "INVALID_VALUE"


def test_freed_memory_is_refused(api: Any, context: Any) -> None:
    address, host = api.cuMemAlloc(1000), np.zeros(10, np.uint8)
    api.cuMemFree(address)
    assert api.code("cuMemcpyDtoH", host.ctypes.data, address, 10) == "INVALID_VALUE"
    assert api.code("cuMemsetD8", address, 0, 10) == "INVALID_VALUE"


def test_nothing_to_copy(api: Any, context: Any) -> None:
    assert api.code("cuMemcpyHtoD", api.cuMemAlloc(16), 0, 0) == "SUCCESS"


@pytest.mark.parametrize(
    ("call", "dtype", "value"),
    [
        ("cuMemsetD8", np.uint8, 0xAB),
        ("cuMemsetD16", np.uint16, 0xABCD),
        ("cuMemsetD32", np.uint32, 0xABCDEF01),
    ],
)
def test_sets(api: Any, context: Any, get: Any, call: str, dtype: Any, value: int) -> None:
    address = api.cuMemAlloc(4096)
    api.cuMemsetD8(address, 0, 4096)
    getattr(api, call)(address, value, 100)
    values = get(address, 200, dtype)
    assert (values[:100] == value).all()
    assert (values[100:] == 0).all()


def test_pitched_set(api: Any, context: Any, get: Any) -> None:
    address, pitch = api.cuMemAllocPitch(40, 3, 4)
    api.cuMemsetD8(address, 0, pitch * 3)
    api.cuMemsetD2D32(address, pitch, 9, 10, 3)
    rows = get(address, pitch * 3 // 4).reshape(3, -1)
    assert (rows[:, :10] == 9).all()
    assert (rows[:, 10:] == 0).all()


def box(api: Any, target: np.ndarray, address: Any, pitch: int) -> Any:
    what = api.CUDA_MEMCPY2D()
    what.srcMemoryType, what.srcDevice, what.srcPitch = api.CUmemorytype.CU_MEMORYTYPE_DEVICE, address, pitch
    what.dstMemoryType, what.dstHost = api.CUmemorytype.CU_MEMORYTYPE_HOST, target.ctypes.data
    what.dstPitch = target.strides[0]
    what.srcXInBytes, what.srcY, what.WidthInBytes, what.Height = 8, 1, 16, 2
    return what


def test_two_dimensions(api: Any, context: Any, put: Any) -> None:
    source, target = np.arange(64, dtype=np.uint32).reshape(4, 16), np.zeros((2, 6), np.uint32)
    what = box(api, target, put(source), 64)
    api.cuMemcpy2D(what)
    assert (target[:, :4] == source[1:3, 2:6]).all()
    assert (target[:, 4:] == 0).all()
    what.Height = 4
    assert api.code("cuMemcpy2D", what) == "INVALID_VALUE"
    what.Height, what.srcPitch = 2, 8
    assert api.code("cuMemcpy2D", what) == "INVALID_VALUE"


def test_an_offset_does_not_make_an_address(api: Any, context: Any, put: Any) -> None:
    """Without a start there is nothing to copy, wherever the offset may lead."""
    source, target = np.arange(16, dtype=np.uint8), put(np.zeros(16, np.uint8))
    what = api.CUDA_MEMCPY2D()
    what.srcMemoryType, what.srcXInBytes = api.CUmemorytype.CU_MEMORYTYPE_HOST, source.ctypes.data
    what.dstMemoryType, what.dstDevice = api.CUmemorytype.CU_MEMORYTYPE_DEVICE, target
    what.WidthInBytes, what.Height = 16, 1
    assert api.code("cuMemcpy2D", what) == "INVALID_VALUE"


def test_three_dimensions(api: Any, context: Any, put: Any) -> None:
    source, target = np.arange(120, dtype=np.uint8).reshape(4, 5, 6), np.zeros((2, 2, 3), np.uint8)
    what = api.CUDA_MEMCPY3D()
    what.srcMemoryType, what.srcDevice = api.CUmemorytype.CU_MEMORYTYPE_DEVICE, put(source)
    what.srcPitch, what.srcHeight = 6, 5
    what.dstMemoryType, what.dstHost = api.CUmemorytype.CU_MEMORYTYPE_HOST, target.ctypes.data
    what.dstPitch, what.dstHeight = 3, 2
    what.srcXInBytes, what.srcY, what.srcZ = 1, 2, 1
    what.WidthInBytes, what.Height, what.Depth = 3, 2, 2
    api.cuMemcpy3D(what)
    assert (target == source[1:3, 2:4, 1:4]).all()
