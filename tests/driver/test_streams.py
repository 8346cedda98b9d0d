"""Streams and events: order, overlap, waits, host functions, timing."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

import numpy as np
import pytest

LONG = 3_000_000  # steps of the kernel `spin`: tens of milliseconds on any host


def test_commands_of_a_stream_are_in_order(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    x, out = put(np.ones(256, np.float32)), put(np.zeros(256, np.float32))
    stream, saxpy = api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value), kernels("saxpy")
    for _ in range(100):
        launch(saxpy, 2, 128, np.float32(1), x, out, np.uint32(256), stream=stream)
    api.cuStreamSynchronize(stream)
    assert (get(out, 256, np.float32) == 100).all()


def test_a_launch_returns_before_it_is_done(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out = put(np.zeros(1, np.uint32))
    launch(kernels("spin"), 1, 1, LONG, out)
    assert api.code("cuStreamQuery", 0) == "NOT_READY"
    deadline = time.monotonic() + 60
    while api.code("cuStreamQuery", 0) == "NOT_READY":  # nobody synchronises: the work goes on by itself
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert get(out, 1)[0] == LONG


def test_streams_overlap(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    """One kernel waits for what is written behind another stream's kernel: in turn they would never end."""
    flag = api.cuMemHostAlloc(4096, 0)
    out = int(flag) + 64
    ctypes.c_uint32.from_address(int(flag)).value = 0
    flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    waiting, writing = api.cuStreamCreate(flags), api.cuStreamCreate(flags)
    launch(kernels("wait_for"), 1, 1, flag, out, stream=waiting)
    time.sleep(0.01)
    launch(kernels("store"), 1, 1, flag, stream=writing)
    api.cuStreamSynchronize(waiting)
    assert ctypes.c_uint32.from_address(out).value == 1


def test_legacy_stream_waits_for_blocking_ones(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, stream = put(np.zeros(1, np.uint32)), api.cuStreamCreate(0)
    launch(kernels("spin"), 1, 1, LONG, out, stream=stream)
    assert get(out, 1)[0] == LONG  # a blocking copy on the legacy stream


def test_blocking_streams_wait_for_the_legacy_one(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, stream = put(np.zeros(1, np.uint32)), api.cuStreamCreate(0)
    launch(kernels("spin"), 1, 1, LONG, out)
    api.cuMemsetD32Async(out, 5, 1, stream)
    api.cuStreamSynchronize(stream)
    assert get(out, 1)[0] == 5


def test_non_blocking_streams_do_not(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    flag = api.cuMemHostAlloc(4096, 0)
    word = ctypes.c_uint32.from_address(int(flag))
    word.value = 0
    stream = api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
    launch(kernels("wait_for"), 1, 1, flag, int(flag) + 64)
    launch(kernels("empty"), 1, 1, stream=stream)
    api.cuStreamSynchronize(stream)
    assert api.code("cuStreamQuery", 0) == "NOT_READY"
    word.value = 1
    api.cuCtxSynchronize()


def test_per_thread_default_streams(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    flag = api.cuMemHostAlloc(4096, 0)
    word = ctypes.c_uint32.from_address(int(flag))
    word.value = 0
    mine = api.CUstream(api.CU_STREAM_PER_THREAD)
    wait_for, empty, answers = kernels("wait_for"), kernels("empty"), []
    launch(wait_for, 1, 1, flag, int(flag) + 64, stream=mine)

    def other() -> None:
        api.cuCtxSetCurrent(context)
        launch(empty, 1, 1, stream=mine)
        answers.append(api.code("cuStreamSynchronize", mine))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(60)
    assert answers == ["SUCCESS"]
    assert api.code("cuStreamQuery", mine) == "NOT_READY"
    word.value = 1
    api.cuStreamSynchronize(mine)


def test_wait_event(api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any) -> None:
    flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    first, second, event = api.cuStreamCreate(flags), api.cuStreamCreate(flags), api.cuEventCreate(0)
    out = put(np.zeros(1, np.uint32))
    launch(kernels("spin"), 1, 1, LONG, out, stream=first)
    api.cuEventRecord(event, first)
    api.cuStreamWaitEvent(second, event, 0)
    api.cuMemsetD32Async(out, 9, 1, second)
    api.cuStreamSynchronize(second)
    assert get(out, 1)[0] == 9


def test_host_functions(api: Any, context: Any, kernels: Any, launch: Any, put: Any) -> None:
    seen: list[Any] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def tell(data: int) -> None:
        seen.append((data, api.code("cuMemAlloc", 16), api.code("cuStreamQuery", stream)))

    stream = api.cuStreamCreate(0)
    launch(kernels("spin"), 1, 1, LONG, put(np.zeros(1, np.uint32)), stream=stream)
    api.cuLaunchHostFunc(stream, ctypes.cast(tell, ctypes.c_void_p).value, 77)
    api.cuStreamSynchronize(stream)
    assert seen == [(77, "NOT_PERMITTED", "NOT_PERMITTED")]


def test_callbacks_are_told_the_status(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    seen: list[int] = []
    done = threading.Event()

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def tell(_stream: int, status: int, _data: int) -> None:
        seen.append(status)
        done.set()

    launch(kernels("empty"), 1, 1)
    api.cuStreamAddCallback(0, ctypes.cast(tell, ctypes.c_void_p).value, 0, 0)
    assert done.wait(60)
    api.cuCtxSynchronize()
    assert seen == [0]


def test_facts_of_a_stream(api: Any, context: Any) -> None:
    least, greatest = api.cuCtxGetStreamPriorityRange()
    flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING
    stream = api.cuStreamCreateWithPriority(flags.value, greatest - 100)
    assert api.cuStreamGetPriority(stream) == greatest
    assert api.cuStreamGetFlags(stream) == flags.value
    assert int(api.cuStreamGetCtx(stream)) == int(context)
    assert api.cuStreamGetId(stream) != api.cuStreamGetId(0)
    assert api.cuStreamIsCapturing(stream) == api.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE
    api.cuStreamDestroy(stream)
    assert least == 0


@pytest.mark.parametrize(
    "call", ["cuStreamSynchronize", "cuStreamQuery", "cuStreamDestroy", "cuStreamGetFlags"]
)
def test_a_destroyed_stream(api: Any, context: Any, call: str) -> None:
    stream = api.cuStreamCreate(0)
    api.cuStreamDestroy(stream)
    assert api.code(call, stream) in ("INVALID_HANDLE", "CONTEXT_IS_DESTROYED", "INVALID_CONTEXT")


def test_a_destroyed_stream_still_does_its_work(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, stream = put(np.zeros(1, np.uint32)), api.cuStreamCreate(0)
    launch(kernels("spin"), 1, 1, LONG, out, stream=stream)
    api.cuStreamDestroy(stream)
    api.cuCtxSynchronize()
    assert get(out, 1)[0] == LONG


def test_bad_flags(api: Any, context: Any) -> None:
    assert api.code("cuStreamCreate", 2) == "INVALID_VALUE"
    assert api.code("cuEventCreate", 0x80) == "INVALID_VALUE"
    assert api.code("cuStreamWaitEvent", 0, api.cuEventCreate(0), 99) == "INVALID_VALUE"


def test_events_measure_time(api: Any, context: Any, kernels: Any, launch: Any, put: Any) -> None:
    start, end, out = api.cuEventCreate(0), api.cuEventCreate(0), put(np.zeros(1, np.uint32))
    api.cuEventRecord(start, 0)
    launch(kernels("spin"), 1, 1, LONG, out)
    began = time.monotonic()
    api.cuEventRecord(end, 0)
    assert api.code("cuEventElapsedTime", start, end) == "NOT_READY"
    assert api.code("cuEventQuery", end) == "NOT_READY"
    api.cuEventSynchronize(end)
    waited_ms = (time.monotonic() - began) * 1e3
    assert api.code("cuEventQuery", end) == "SUCCESS"
    assert api.cuEventElapsedTime(start, end) == pytest.approx(waited_ms, rel=0.5, abs=20)


def test_event_errors(api: Any, context: Any) -> None:
    timed, silent = api.cuEventCreate(0), api.cuEventCreate(api.CUevent_flags.CU_EVENT_DISABLE_TIMING.value)
    assert api.code("cuEventElapsedTime", timed, timed) == "INVALID_HANDLE"  # never recorded
    assert api.code("cuEventQuery", timed) == "SUCCESS"
    api.cuEventRecord(timed, 0)
    api.cuEventRecord(silent, 0)
    api.cuCtxSynchronize()
    assert api.code("cuEventElapsedTime", timed, silent) == "INVALID_HANDLE"
    api.cuEventDestroy(timed)
    assert api.code("cuEventDestroy", timed) == "INVALID_HANDLE"
    assert api.code("cuEventRecord", timed, 0) == "INVALID_HANDLE"


def test_many_threads_on_one_context(
    api: Any, context: Any, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, increment, failures = put(np.zeros(1, np.uint32)), kernels("increment"), []

    def work() -> None:
        try:
            api.cuCtxSetCurrent(context)
            stream = api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
            for _ in range(50):
                launch(increment, 2, 32, out, stream=stream)
                api.cuMemFree(api.cuMemAlloc(1000))
            api.cuStreamSynchronize(stream)
        except Exception as error:  # noqa: BLE001  told below, in the thread that can fail the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not failures
    assert get(out, 1)[0] == 8 * 50 * 64
