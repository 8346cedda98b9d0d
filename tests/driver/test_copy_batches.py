"""Batches of copies, of prefetches and discards."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
import pytest

STREAM, DURING_CALL, ANY = 1, 2, 3
SUCCESS, INVALID_VALUE, INVALID_HANDLE = 0, 1, 400
NOWHERE = (1 << 64) - 1


@pytest.fixture
def library(context: Any) -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


@pytest.fixture
def stream(api: Any, context: Any) -> Any:
    return api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)


def words(*values: Any) -> Any:
    return (ctypes.c_uint64 * len(values))(*(int(value) for value in values))


def attributes(*orders: int, flags: int = 0) -> Any:
    """CUmemcpyAttributes without hints."""
    text = b"".join(struct.pack("<IiiiiI", order, 0, 0, 0, 0, flags) for order in orders)
    return ctypes.create_string_buffer(text, len(text))


def copy(
    library: Any, stream: Any, to: list[Any], source: list[Any], sizes: list[int], **options: Any
) -> Any:
    """cuMemcpyBatchAsync's code and the index at which it failed."""
    orders = options.get("orders", [STREAM])
    first = options.get("first", [0])
    failed = ctypes.c_size_t(77)
    code = library.cuMemcpyBatchAsync(
        words(*to),
        words(*source),
        words(*sizes),
        ctypes.c_size_t(options.get("count", len(to))),
        attributes(*orders, flags=options.get("flags", 0)),
        words(*first),
        ctypes.c_size_t(len(first)),
        ctypes.byref(failed),
        ctypes.c_void_p(int(stream)),
    )
    return code, failed.value


def test_a_batch_copies_all(api: Any, library: Any, stream: Any, put: Any, get: Any) -> None:
    source = [put(np.full(100, value, np.uint32)) for value in range(8)]
    target = [put(np.zeros(100, np.uint32)) for _ in range(8)]
    assert copy(library, stream, target, source, [400] * 8)[0] == SUCCESS
    api.cuStreamSynchronize(stream)
    assert [get(each, 100)[99] for each in target] == list(range(8))


def test_host_and_device_in_one_batch(api: Any, library: Any, stream: Any, put: Any, get: Any) -> None:
    pageable, back = np.arange(50, dtype=np.uint32), np.zeros(50, np.uint32)
    here, there = put(np.full(50, 9, np.uint32)), put(np.zeros(50, np.uint32))
    to, source = [there, back.ctypes.data], [pageable.ctypes.data, here]
    assert (
        copy(library, stream, to, source, [200, 200], orders=[DURING_CALL, ANY], first=[0, 1])[0] == SUCCESS
    )
    pageable[:] = 0  # read during the call: may be changed at once
    api.cuStreamSynchronize(stream)
    assert (get(there, 50) == np.arange(50)).all()
    assert (back == 9).all()


def test_a_source_is_read_in_stream_order(
    api: Any, library: Any, stream: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, target = put(np.zeros(1, np.uint32)), put(np.zeros(1, np.uint32))
    launch(kernels("spin"), 1, 1, 500_000, out, stream=stream)
    assert copy(library, stream, [target], [out], [4])[0] == SUCCESS
    api.cuStreamSynchronize(stream)
    assert get(target, 1)[0] == 500_000


def test_what_is_refused_is_not_begun(api: Any, library: Any, stream: Any, put: Any, get: Any) -> None:
    source, target = put(np.ones(100, np.uint32)), put(np.zeros(100, np.uint32))
    to, origin, sizes = [target, int(target) + 100], [source, int(source) + 100], [50, 50]
    for changed, where in (
        ({"sizes": [50, 1000]}, 1),
        ({"sizes": [1000, 50]}, 0),
        ({"sizes": [50, 0]}, 1),
        ({"source": [source, 0]}, 1),
        ({"to": [1 << 50, target]}, 0),
        ({"orders": [0]}, 0),
        ({"orders": [STREAM, 9], "first": [0, 1]}, 1),
        ({"flags": 2}, 0),
        ({"first": [1]}, NOWHERE),
        ({"orders": [STREAM, STREAM], "first": [0, 0]}, NOWHERE),
        ({"orders": [STREAM, STREAM], "first": [0, 2]}, NOWHERE),
        ({"orders": [STREAM] * 3, "first": [0, 1, 2]}, NOWHERE),
        ({"count": 0}, NOWHERE),
    ):
        arguments = {"to": to, "source": origin, "sizes": sizes, **changed}
        assert copy(library, stream, **arguments) == (INVALID_VALUE, where), changed
    assert copy(library, 0, to, origin, sizes) == (INVALID_VALUE, NOWHERE)  # the legacy default stream
    assert copy(library, 12345, to, origin, sizes) == (INVALID_HANDLE, NOWHERE)
    api.cuStreamSynchronize(stream)
    assert (get(target, 100) == 0).all()


def test_one_copy_with_attributes(api: Any, library: Any, stream: Any, put: Any, get: Any) -> None:
    source, target = put(np.ones(10, np.uint32)), put(np.zeros(10, np.uint32))
    call = library.cuMemcpyWithAttributesAsync
    arguments = [ctypes.c_uint64(int(target)), ctypes.c_uint64(int(source)), ctypes.c_size_t(40)]
    handle = ctypes.c_void_p(int(stream))
    assert call(*arguments, attributes(ANY, flags=1), handle) == SUCCESS
    assert call(*arguments, None, handle) == INVALID_VALUE
    assert call(*arguments, attributes(0), handle) == INVALID_VALUE
    api.cuStreamSynchronize(stream)
    assert (get(target, 10) == 1).all()


POINTER, ARRAY = 1, 2


def operation(to: tuple[int, int, int], source: tuple[int, int, int], extent: tuple[int, int, int]) -> bytes:
    """CUDA_MEMCPY3D_BATCH_OP between two pointers, each with row length and layer height."""
    sides = [struct.pack("<IiQQQii", POINTER, 0, *side, 0, 0) for side in (source, to)]
    return b"".join(sides) + struct.pack("<QQQII", *extent, STREAM, 0)


def test_boxes(api: Any, library: Any, stream: Any, put: Any, get: Any) -> None:
    cube = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    source, target = int(put(cube)), int(put(np.zeros(24, np.uint8)))
    text = operation((target, 0, 0), (source + 6 + 2, 6, 5), (3, 4, 2))
    call = library.cuMemcpy3DBatchAsync_v2
    handle, none = ctypes.c_void_p(int(stream)), ctypes.c_uint64(0)
    assert call(ctypes.c_size_t(1), ctypes.create_string_buffer(text), none, handle) == SUCCESS
    api.cuStreamSynchronize(stream)
    assert (get(target, 24, np.uint8).reshape(2, 4, 3) == cube[:2, 1:5, 2:5]).all()
    for wrong in (
        operation((target, 2, 0), (source, 6, 5), (3, 4, 2)),  # rows shorter than the copy
        operation((target, 0, 3), (source, 6, 5), (3, 4, 2)),
        operation((target, 0, 0), (source, 6, 5), (3, 4, 0)),
        operation((target, 0, 0), (source, 600, 5), (3, 4, 2)),
        operation((target, 0, 0), (source, 1 << 63, 5), (3, 4, 2)),
        struct.pack("<I", 7) + text[4:],
        struct.pack("<IiQ", ARRAY, 0, 12345) + text[16:],
    ):
        code = call(ctypes.c_size_t(1), ctypes.create_string_buffer(wrong), none, handle)
        assert code == INVALID_VALUE
    assert call(ctypes.c_size_t(0), ctypes.create_string_buffer(text), none, handle) == INVALID_VALUE
    assert call(ctypes.c_size_t(1), None, none, handle) == INVALID_VALUE
    flags = ctypes.c_uint64(1)
    assert call(ctypes.c_size_t(1), ctypes.create_string_buffer(text), flags, handle) == INVALID_VALUE


def test_batches_on_managed_memory(api: Any, library: Any, stream: Any) -> None:
    managed = int(api.cuMemAllocManaged(8192, api.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value))
    device = int(api.cuMemAlloc(8192))
    here = ctypes.create_string_buffer(struct.pack("<iiii", 1, 0, 2, 0), 16)  # device 0, host
    handle, two, none = ctypes.c_void_p(int(stream)), ctypes.c_size_t(2), ctypes.c_uint64(0)

    def prefetch(addresses: list[int], first: list[int], places: Any = here, name: str = "Prefetch") -> int:
        function = getattr(library, f"cuMem{name}BatchAsync")
        each = words(*addresses), words(*[4096] * len(addresses)), ctypes.c_size_t(len(addresses))
        return function(*each, places, words(*first), ctypes.c_size_t(len(first)), none, handle)

    for name in ("Prefetch", "DiscardAndPrefetch"):
        assert prefetch([managed, managed + 4096], [0, 1], name=name) == SUCCESS
        assert prefetch([managed, device], [0], name=name) == INVALID_VALUE
        assert prefetch([managed, managed + 8192], [0], name=name) == INVALID_VALUE
        assert prefetch([managed], [1], name=name) == INVALID_VALUE
        nowhere = ctypes.create_string_buffer(struct.pack("<ii", 1, 99), 8)
        assert prefetch([managed], [0], nowhere, name=name) == INVALID_VALUE
    discard = library.cuMemDiscardBatchAsync
    assert discard(words(managed, managed + 4096), words(4096, 4096), two, none, handle) == SUCCESS
    assert discard(words(managed, device), words(4096, 4096), two, none, handle) == INVALID_VALUE
    assert discard(words(managed, managed), words(4096, 0), two, none, handle) == INVALID_VALUE
    assert discard(words(managed, managed), words(4096, 8), two, ctypes.c_uint64(1), handle) == INVALID_VALUE
