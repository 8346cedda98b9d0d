"""Peers, and small families: what a context waits for, notifications, global variables of libraries."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def cards(api: Any, context: Any) -> Any:
    """Contexts on two cards that reach one another, and on one that does not; the first is current."""
    if api.cuDeviceGetCount() < 3:
        pytest.skip("needs two cards of a kind, and another")
    made = [api.cuCtxCreate(None, 0, device) for device in range(3)]
    api.cuCtxSetCurrent(made[0])
    yield made
    for each in made:
        api.module.cuCtxDestroy(each)


def test_who_reaches_whom(api: Any, cards: Any) -> None:
    reach = [[api.cuDeviceCanAccessPeer(a, b) for b in range(3)] for a in range(3)]
    assert reach == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    names = api.CUdevice_P2PAttribute
    ask = api.cuDeviceGetP2PAttribute
    assert ask(names.CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 1) == 1
    assert ask(names.CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 2) == 0
    assert ask(names.CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, 1, 0) == 1  # NVLink
    assert ask(names.CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED, 1, 2) == 0
    rank = names.CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK
    assert ask(rank, 0, 1) < ask(rank, 0, 2)
    assert api.code("cuDeviceGetP2PAttribute", rank, 0, 0) == "INVALID_DEVICE"
    assert api.code("cuDeviceGetP2PAttribute", rank, 0, 9) == "INVALID_DEVICE"
    assert api.code("cuDeviceCanAccessPeer", 0, 9) == "INVALID_DEVICE"


def test_atomics_between_cards(api: Any, cards: Any) -> None:
    library = ctypes.CDLL("libcuda.so.1")
    operations, capabilities = (ctypes.c_int * 3)(0, 9, 10), (ctypes.c_uint * 3)(7, 7, 7)
    signed, unsigned, reduction, bits = 1, 2, 4, 8 | 16
    assert library.cuDeviceGetP2PAtomicCapabilities(capabilities, operations, 3, 0, 1) == 0
    assert list(capabilities) == [
        signed | unsigned | reduction | bits,
        unsigned | bits,
        signed | reduction | bits,
    ]
    assert library.cuDeviceGetP2PAtomicCapabilities(capabilities, operations, 3, 0, 2) == 0
    assert list(capabilities) == [0, 0, 0]
    assert library.cuDeviceGetHostAtomicCapabilities(capabilities, operations, 3, 0) == 0
    assert library.cuDeviceGetP2PAtomicCapabilities(capabilities, operations, 0, 0, 1) == 1
    assert library.cuDeviceGetP2PAtomicCapabilities(None, operations, 3, 0, 1) == 1
    assert library.cuDeviceGetP2PAtomicCapabilities(capabilities, None, 3, 0, 1) == 1
    assert library.cuDeviceGetP2PAtomicCapabilities(capabilities, operations, 3, 0, 0) == 101
    operations[1] = 13
    assert library.cuDeviceGetP2PAtomicCapabilities(capabilities, operations, 3, 0, 1) == 1


def test_enabling_and_disabling(api: Any, cards: Any) -> None:
    here, there, stranger = cards
    assert api.code("cuCtxDisablePeerAccess", there) == "PEER_ACCESS_NOT_ENABLED"
    assert api.code("cuCtxEnablePeerAccess", there, 1) == "INVALID_VALUE"
    assert api.code("cuCtxEnablePeerAccess", here, 0) == "INVALID_CONTEXT"
    assert api.code("cuCtxEnablePeerAccess", 12345, 0) == "INVALID_CONTEXT"
    assert api.code("cuCtxEnablePeerAccess", stranger, 0) == "PEER_ACCESS_UNSUPPORTED"
    assert api.code("cuCtxEnablePeerAccess", there, 0) == "SUCCESS"
    assert api.code("cuCtxEnablePeerAccess", there, 0) == "PEER_ACCESS_ALREADY_ENABLED"
    api.cuCtxSetCurrent(there)
    assert api.code("cuCtxDisablePeerAccess", here) == "PEER_ACCESS_NOT_ENABLED"  # one way only
    api.cuCtxSetCurrent(here)
    assert api.code("cuCtxDisablePeerAccess", there) == "SUCCESS"
    assert api.code("cuCtxDisablePeerAccess", there) == "PEER_ACCESS_NOT_ENABLED"
    assert api.code("cuCtxDisablePeerAccess", 12345) == "INVALID_CONTEXT"


def test_a_context_waits_for_an_event(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    """Also on streams that are made later."""
    flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    out, gate, event = put(np.zeros(1, np.uint32)), put(np.zeros(1, np.uint32)), api.cuEventCreate(0)
    holding, early = api.cuStreamCreate(flags), api.cuStreamCreate(flags)
    other = api.cuCtxGetCurrent()
    api.cuStreamWaitValue32(holding, gate, 1, 1)
    api.cuEventRecord(event, holding)
    api.cuCtxWaitEvent(other, event)
    late = api.cuStreamCreate(flags)
    for stream in (early, late):
        launch(kernels("empty"), 1, 1, stream=stream)
    time.sleep(0.05)
    assert [api.code("cuStreamQuery", each) for each in (early, late)] == ["NOT_READY"] * 2
    # The host's hand, as every copy of this context would wait, too.
    writer = api.cuCtxCreate(None, 0, 0)
    api.cuMemsetD32(gate, 1, 1)
    api.cuCtxSynchronize()
    api.cuCtxDestroy(writer)
    api.cuCtxSetCurrent(context)
    for stream in (early, late):
        api.cuStreamSynchronize(stream)
    launch(kernels("store"), 1, 1, out, stream=late)
    api.cuStreamSynchronize(late)
    assert get(out, 1)[0] == 1
    assert api.code("cuCtxWaitEvent", 12345, event) == "INVALID_CONTEXT"
    assert api.code("cuCtxWaitEvent", other, 12345) == "INVALID_HANDLE"


def test_small_families(api: Any, context: Any, tmp_path: Any) -> None:
    library = ctypes.CDLL("libcuda.so.1")
    callback, handle = ctypes.CFUNCTYPE(None)(lambda: None), ctypes.c_void_p()
    assert library.cuDeviceRegisterAsyncNotification(0, callback, None, ctypes.byref(handle)) == 0
    assert library.cuDeviceUnregisterAsyncNotification(1, handle) == 1
    assert library.cuDeviceUnregisterAsyncNotification(0, handle) == 0
    assert library.cuDeviceUnregisterAsyncNotification(0, handle) == 1
    assert library.cuDeviceRegisterAsyncNotification(0, None, None, ctypes.byref(handle)) == 1
    assert library.cuFlushGPUDirectRDMAWrites(0, 100) == library.cuFlushGPUDirectRDMAWrites(0, 200) == 0
    assert library.cuFlushGPUDirectRDMAWrites(1, 100) == library.cuFlushGPUDirectRDMAWrites(0, 5) == 1
    path = tmp_path / "log"
    assert library.cuLogsDumpToFile(None, str(path).encode(), 0) == 0
    assert path.read_bytes() == b""
    assert library.cuLogsDumpToFile(None, str(tmp_path / "no" / "log").encode(), 0) == 1


def test_pools_of_places(api: Any, context: Any) -> None:
    library = ctypes.CDLL("libcuda.so.1")
    device, host = (ctypes.c_int * 2)(1, 0), (ctypes.c_int * 2)(2, 0)
    pinned, managed, pool = 1, 2, ctypes.c_void_p()
    assert library.cuMemGetDefaultMemPool(ctypes.byref(pool), device, pinned) == 0
    assert pool.value == int(api.cuDeviceGetDefaultMemPool(0))
    assert library.cuMemGetMemPool(ctypes.byref(pool), device, pinned) == 0
    assert library.cuMemSetMemPool(device, pinned, pool) == 0
    assert library.cuMemGetMemPool(ctypes.byref(pool), host, pinned) == 801
    assert library.cuMemGetMemPool(ctypes.byref(pool), device, managed) == 801
    assert library.cuMemGetMemPool(ctypes.byref(pool), device, 9) == 1
    assert library.cuMemGetMemPool(ctypes.byref(pool), None, pinned) == 1


def test_copies_between_cards_in_the_default_stream_are_in_order_with_both(api: Any, cards: Any) -> None:
    """After what either was given, before what follows (programming guide, "Peer-to-Peer Memory Copy")."""
    here, there, _ = cards
    api.cuCtxSetCurrent(there)
    source, later = api.cuMemAlloc(4), api.cuMemAlloc(4)
    other = api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING)
    slow = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: time.sleep(0.1))
    api.cuLaunchHostFunc(other, ctypes.cast(slow, ctypes.c_void_p).value, 0)
    api.cuMemsetD32Async(source, 42, 1, other)
    api.cuCtxSetCurrent(here)
    target, seen = api.cuMemAlloc(4), np.zeros(2, np.uint32)
    api.cuMemcpyDtoDAsync(target, source, 4, 0)
    api.cuCtxSetCurrent(there)
    api.cuMemcpyDtoDAsync(later, target, 4, other)
    api.cuMemcpyDtoH(seen[1:].ctypes.data, target, 4)
    api.cuStreamSynchronize(other)
    api.cuMemcpyDtoH(seen[:1].ctypes.data, later, 4)
    assert seen.tolist() == [42, 42]
