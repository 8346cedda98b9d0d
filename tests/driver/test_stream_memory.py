"""Stream memory operations: streams that write words and wait for words."""

from __future__ import annotations

import ctypes
import mmap
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

GEQ, EQ, AND, NOR, FLUSH = 0, 1, 2, 3, 1 << 30


@pytest.fixture
def word(api: Any, context: Any) -> Any:
    """Pinned host memory as 64-bit words, all zero."""
    pointer = int(api.cuMemHostAlloc(4096, 0))
    words = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_uint64)), (512,))
    words[:] = 0
    yield words
    api.module.cuMemFreeHost(pointer)


def address_of(words: np.ndarray, index: int = 0) -> int:
    return words.ctypes.data + 8 * index


def stream_of(api: Any) -> Any:
    return api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)


def wait(api: Any, bits: int) -> Any:
    return getattr(api, f"cuStreamWaitValue{bits}")


def write(api: Any, bits: int) -> Any:
    return getattr(api, f"cuStreamWriteValue{bits}")


@pytest.mark.parametrize("bits", [32, 64])
def test_writes_are_in_stream_order(api: Any, context: Any, kernels: Any, launch: Any, bits: int) -> None:
    address, stream = api.cuMemAlloc(16), stream_of(api)
    api.cuMemsetD8(address, 0, 16)
    launch(kernels("spin"), 1, 1, 300_000, int(address) + 8, stream=stream)
    write(api, bits)(stream, address, (1 << bits) - 2, 0)
    assert api.code("cuStreamQuery", stream) == "NOT_READY"
    api.cuStreamSynchronize(stream)
    out = np.zeros(4, np.uint32)
    api.cuMemcpyDtoH(out.ctypes.data, address, 16)
    assert out[0] == 0xFFFFFFFE
    assert out[1] == (0xFFFFFFFF if bits == 64 else 0)
    assert out[2] == 300_000


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(
    ("flags", "value", "never", "met"),
    [
        (GEQ, 5, [0, 4, -1, -100], 5),
        (GEQ, 5, [4], 6),
        (GEQ, -3, [-4], 2),  # cyclic: 2 comes after -3
        (EQ, 5, [4, 6, -5], 5),
        (AND, 6, [0, 1, 8], 4),
        (NOR, -8, [7, 15, -1], 3),  # satisfied by a zero among the bits that `value` has not
        (GEQ | FLUSH, 1, [0], 1),
    ],
)
def test_conditions(
    api: Any, word: np.ndarray, bits: int, flags: int, value: int, never: list[int], met: int
) -> None:
    mask = (1 << bits) - 1
    stream = stream_of(api)
    word[0] = never[0] & mask
    wait(api, bits)(stream, address_of(word), value & mask, flags)
    for each in never:
        word[0] = each & mask
        time.sleep(0.003)
        assert api.code("cuStreamQuery", stream) == "NOT_READY", each
    word[0] = met & mask
    api.cuStreamSynchronize(stream)


def test_a_stream_that_waits_blocks_no_other(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any, word: np.ndarray
) -> None:
    """More waiting streams than there are threads, and kernels run all the same."""
    waiting = [stream_of(api) for _ in range(40)]
    for number, stream in enumerate(waiting):
        api.cuStreamWaitValue32(stream, address_of(word, number), 1, EQ)
    out, running = put(np.zeros(1, np.uint32)), stream_of(api)
    launch(kernels("spin"), 1, 1, 1000, out, stream=running)
    api.cuStreamSynchronize(running)
    assert all(api.code("cuStreamQuery", each) == "NOT_READY" for each in waiting)
    word[: len(waiting)] = 1
    for stream in waiting:
        api.cuStreamSynchronize(stream)


def test_waiting_costs_no_core(api: Any, context: Any, word: np.ndarray) -> None:
    stream = stream_of(api)
    api.cuStreamWaitValue32(stream, address_of(word), 1, EQ)
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.1
    word[0] = 1
    api.cuStreamSynchronize(stream)


def test_a_stream_writes_what_another_waits_for(api: Any, context: Any, put: Any, get: Any) -> None:
    """Ping-pong over device memory, a thousand times; a poll a time would take a second."""
    address = put(np.zeros(4, np.uint32))
    ping, pong = stream_of(api), stream_of(api)
    began = time.monotonic()
    for number in range(1, 1001):
        api.cuStreamWriteValue32(ping, address, number, 0)
        api.cuStreamWaitValue32(pong, address, number, GEQ)
        api.cuStreamWriteValue32(pong, int(address) + 4, number, 0)
        api.cuStreamWaitValue32(ping, int(address) + 4, number, GEQ)
    api.cuStreamSynchronize(ping)
    api.cuStreamSynchronize(pong)
    assert get(address, 2).tolist() == [1000, 1000]
    assert time.monotonic() - began < 20


def test_a_kernel_writes_what_a_stream_waits_for(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    flag, out = put(np.zeros(2, np.uint32)), put(np.zeros(1, np.uint32))
    waiting, writing = stream_of(api), stream_of(api)
    api.cuStreamWaitValue32(waiting, flag, 1, EQ)
    api.cuMemsetD32Async(out, 9, 1, waiting)
    time.sleep(0.02)
    assert api.code("cuStreamQuery", waiting) == "NOT_READY"
    launch(kernels("store"), 1, 1, flag, stream=writing)
    api.cuStreamSynchronize(waiting)
    assert get(out, 1)[0] == 9


def test_another_process_writes_what_a_stream_waits_for(api: Any, context: Any, tmp_path: Any) -> None:
    path = tmp_path / "shared"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as shared:
        pointer = ctypes.addressof(ctypes.c_char.from_buffer(shared))
        api.cuMemHostRegister(pointer, 4096, 0)
        stream = stream_of(api)
        api.cuStreamWaitValue64(stream, pointer + 8, 1 << 40, EQ)
        writer = (
            "import mmap, struct, sys\n"
            "file = open(sys.argv[1], 'r+b')\n"
            "mmap.mmap(file.fileno(), 4096)[8:16] = struct.pack('<Q', 1 << 40)\n"
        )
        subprocess.run([sys.executable, "-c", writer, str(path)], check=True, timeout=60)
        api.cuStreamSynchronize(stream)
        api.cuMemHostUnregister(pointer)


def raw(*each: tuple[str, tuple[Any, ...]]) -> Any:
    """The same as bytes, packed by struct format."""
    text = b"".join(struct.pack(form, *values).ljust(48, b"\0") for form, values in each)
    return ctypes.create_string_buffer(text, len(text))


WAIT32, WRITE32, FLUSH_REMOTE, WAIT64, WRITE64, BARRIER, REDUCTION = 1, 2, 3, 4, 5, 6, 8
ADD, BITWISE_AND, BITWISE_OR = 0, 5, 6
UNSIGNED_32, UNSIGNED_64 = 14, 22


@pytest.fixture
def batch(context: Any) -> Any:
    """batch(stream, *packed operations, version=2): the CUresult of cuStreamBatchMemOp as a number."""
    library = ctypes.CDLL("libcuda.so.1")

    def call(stream: Any, *each: tuple[str, tuple[Any, ...]], flags: int = 0, version: int = 2) -> int:
        function = library.cuStreamBatchMemOp_v2 if version == 2 else library.cuStreamBatchMemOp
        return function(ctypes.c_void_p(int(stream)), len(each), raw(*each), flags)

    return call


def op(operation: int, address: int, value: int, flags: int = 0) -> tuple[str, tuple[Any, ...]]:
    return "<iiQQI", (operation, 0, address, value, flags)


def reduction(kind: int, data: int, address: int, value: int) -> tuple[str, tuple[Any, ...]]:
    return "<iIiiQQ", (REDUCTION, 0, kind, data, address, value)


def test_batches(api: Any, word: np.ndarray, batch: Any) -> None:
    stream, address = stream_of(api), address_of(word)
    assert (
        batch(
            stream,
            op(WRITE32, address, 7),
            op(WAIT32, address + 8, 3, EQ),
            ("<iI", (FLUSH_REMOTE, 0)),
            ("<iI", (BARRIER, 1)),
            op(WRITE64, address + 16, 1 << 50),
            op(WAIT64, address + 16, 1 << 50, EQ),
            op(WRITE32, address + 24, 1),
        )
        == 0
    )
    deadline = time.monotonic() + 20
    while word[0] != 7 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert word[:4].tolist() == [7, 0, 0, 0]
    word[1] = 3
    api.cuStreamSynchronize(stream)
    assert word[:4].tolist() == [7, 3, 1 << 50, 1]


def test_reductions(api: Any, word: np.ndarray, batch: Any) -> None:
    stream, address = stream_of(api), address_of(word)
    word[:4] = [0xFFFFFFFF, (1 << 64) - 1, 0b1100, 0b1100]
    assert (
        batch(
            stream,
            reduction(ADD, UNSIGNED_32, address, 2),
            reduction(ADD, UNSIGNED_64, address + 8, 2),
            reduction(BITWISE_AND, UNSIGNED_64, address + 16, 0b0110),
            reduction(BITWISE_OR, UNSIGNED_64, address + 24, 0b0110),
        )
        == 0
    )
    api.cuStreamSynchronize(stream)
    assert word[:4].tolist() == [1, 1, 0b0100, 0b1110]


def test_refusals(api: Any, context: Any, word: np.ndarray, batch: Any) -> None:
    stream, address = stream_of(api), address_of(word)
    other = api.cuMemAllocManaged(64, api.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value)
    page = ctypes.create_string_buffer(64)
    for bits in (32, 64):
        for at in (0, 8, address + 1, address + bits // 16, int(other), ctypes.addressof(page), 1 << 63):
            assert api.code(f"cuStreamWaitValue{bits}", stream, at, 0, EQ) == "INVALID_VALUE", hex(at)
            assert api.code(f"cuStreamWriteValue{bits}", stream, at, 0, 0) == "INVALID_VALUE", hex(at)
        assert api.code(f"cuStreamWaitValue{bits}", stream, address, 0, 4) == "INVALID_VALUE"
        assert api.code(f"cuStreamWriteValue{bits}", stream, address, 0, 2) == "INVALID_VALUE"
        assert api.code(f"cuStreamWriteValue{bits}", 12345, address, 0, 0) == "INVALID_HANDLE"
    invalid = 1
    assert batch(stream, *[op(WRITE32, address, 0)] * 256) == invalid
    assert batch(stream, op(WRITE32, address, 0), flags=1) == invalid
    assert batch(stream, op(7, address, 0)) == invalid
    assert batch(stream, op(99, address, 0)) == invalid
    assert batch(stream, op(WRITE32, address, 7), op(WRITE32, address + 2, 0)) == invalid
    assert batch(stream, reduction(1, UNSIGNED_32, address, 0)) == invalid
    assert batch(stream, reduction(ADD, 99, address, 0)) == invalid
    assert batch(stream, ("<iI", (BARRIER, 0)), version=1) == invalid
    assert batch(stream, ("<iI", (FLUSH_REMOTE, 1))) == invalid
    api.cuStreamSynchronize(stream)
    assert word[0] == 0  # of a batch that is refused nothing is done


def test_waits_end_with_a_failed_context(
    api: Any, context: Any, kernels: Any, launch: Any, word: np.ndarray
) -> None:
    stream = stream_of(api)
    api.cuStreamWaitValue32(stream, address_of(word), 1, EQ)
    codes: list[str] = []
    thread = threading.Thread(
        target=lambda: (api.cuCtxSetCurrent(context), codes.append(api.code("cuStreamSynchronize", stream)))
    )
    thread.start()
    launch(kernels("trap_now"), 1, 1, stream=stream_of(api))
    thread.join(20)
    assert codes == ["LAUNCH_FAILED"]


def test_attributes(api: Any, context: Any) -> None:
    names = api.CUdevice_attribute
    for name in ("CAN_USE_64_BIT_STREAM_MEM_OPS", "CAN_USE_STREAM_WAIT_VALUE_NOR"):
        assert api.cuDeviceGetAttribute(getattr(names, f"CU_DEVICE_ATTRIBUTE_{name}"), 0) == 1


def test_leaving_with_a_stream_that_waits(run_python: Any) -> None:
    """A program that ends while a stream waits ends."""
    program = (
        "import ctypes\n"
        "cuda = ctypes.CDLL('libcuda.so.1')\n"
        "context, address = ctypes.c_void_p(), ctypes.c_uint64()\n"
        "assert cuda.cuInit(0) == 0\n"
        "assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0\n"
        "assert cuda.cuCtxSetCurrent(context) == 0\n"
        "assert cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(64)) == 0\n"
        "assert cuda.cuStreamWaitValue32_v2(None, address, 1, 1) == 0\n"
    )
    done = run_python("-c", program, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
