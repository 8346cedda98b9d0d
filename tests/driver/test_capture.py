"""Stream capture: what becomes a node, how streams join, and what a capture forbids."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2


class Capturing:
    """Captures in a stream, with the modes as numbers."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self.flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
        self.streams: list[Any] = []

    def stream(self, flags: int | None = None) -> Any:
        made = self.api.cuStreamCreate(self.flags if flags is None else flags)
        self.streams.append(made)
        return made

    def begin(self, stream: Any, mode: int = GLOBAL) -> None:
        self.api.cuStreamBeginCapture(stream, self.api.CUstreamCaptureMode(mode))

    def end(self, stream: Any) -> Any:
        return self.api.cuStreamEndCapture(stream)

    def end_code(self, stream: Any) -> str:
        return self.api.code("cuStreamEndCapture", stream)

    def status(self, stream: Any) -> str:
        name = self.api.cuStreamIsCapturing(stream).name
        return name.removeprefix("CU_STREAM_CAPTURE_STATUS_")

    def run(self, graph: Any, times: int = 1) -> None:
        exec_, stream = self.api.cuGraphInstantiate(graph, 0), self.stream()
        for _ in range(times):
            self.api.cuGraphLaunch(exec_, stream)
        self.api.cuStreamSynchronize(stream)

    def types(self, graph: Any) -> list[str]:
        count = self.api.cuGraphGetNodes(graph, 0)[-1]
        nodes, _ = self.api.cuGraphGetNodes(graph, count)
        names = (self.api.cuGraphNodeGetType(node).name for node in nodes)
        return [name.removeprefix("CU_GRAPH_NODE_TYPE_") for name in names]


@pytest.fixture
def capturing(api: Any, context: Any) -> Iterator[Capturing]:
    made = Capturing(api)
    yield made
    for stream in made.streams:  # what a test left capturing would disturb the next
        api.module.cuStreamEndCapture(stream)
        api.module.cuStreamDestroy(stream)


def test_work_is_captured_and_not_run(
    api: Any, capturing: Capturing, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, copy, host = put(np.zeros(4, np.uint32)), put(np.zeros(4, np.uint32)), np.zeros(4, np.uint32)
    stream = capturing.stream()
    assert capturing.status(stream) == "NONE"
    capturing.begin(stream)
    assert capturing.status(stream) == "ACTIVE"
    api.cuMemsetD32Async(out, 7, 4, stream)
    launch(kernels("increment"), 1, 1, out, stream=stream)
    api.cuMemcpyDtoDAsync(copy, out, 16, stream)
    api.cuMemcpyDtoHAsync(host.ctypes.data, copy, 16, stream)
    graph = capturing.end(stream)
    assert capturing.status(stream) == "NONE"
    assert get(out, 4).tolist() == [0] * 4
    assert capturing.types(graph) == ["MEMSET", "KERNEL", "MEMCPY", "MEMCPY"]
    capturing.run(graph, 3)
    assert host.tolist() == [8, 7, 7, 7]


def test_host_functions_and_memory_operations_are_captured(
    api: Any, capturing: Capturing, put: Any, get: Any
) -> None:
    out, called = put(np.zeros(1, np.uint32)), []
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: called.append(data))
    stream = capturing.stream()
    capturing.begin(stream)
    api.cuLaunchHostFunc(stream, ctypes.cast(function, ctypes.c_void_p).value, 5)
    api.cuStreamWriteValue32(stream, out, 9, 0)
    graph = capturing.end(stream)
    assert called == []
    assert capturing.types(graph) == ["HOST", "BATCH_MEM_OP"]
    capturing.run(graph, 2)
    assert called == [5, 5]
    assert get(out, 1)[0] == 9


def test_streams_fork_and_join(
    api: Any, capturing: Capturing, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    a, b = put(np.zeros(1, np.uint32)), put(np.zeros(1, np.uint32))
    one, two = capturing.stream(), capturing.stream()
    fork, join = api.cuEventCreate(0), api.cuEventCreate(0)
    capturing.begin(one)
    api.cuMemsetD32Async(a, 1, 1, one)
    api.cuEventRecord(fork, one)
    api.cuStreamWaitEvent(two, fork, 0)
    assert capturing.status(two) == "ACTIVE"
    api.cuMemcpyDtoDAsync(b, a, 4, two)
    launch(kernels("increment"), 1, 1, b, stream=two)
    api.cuEventRecord(join, two)
    launch(kernels("increment"), 1, 1, a, stream=one)
    api.cuStreamWaitEvent(one, join, 0)
    launch(kernels("increment"), 1, 1, b, stream=one)
    graph = capturing.end(one)
    assert capturing.status(two) == "NONE"
    assert api.cuGraphGetEdges(graph, 0)[-1] == 5
    capturing.run(graph)
    assert (get(a, 1)[0], get(b, 1)[0]) == (2, 3)


def test_a_stream_that_has_not_joined_is_told(
    api: Any, capturing: Capturing, kernels: Any, launch: Any
) -> None:
    one, two, event = capturing.stream(), capturing.stream(), api.cuEventCreate(0)
    capturing.begin(one)
    api.cuEventRecord(event, one)
    api.cuStreamWaitEvent(two, event, 0)
    launch(kernels("empty"), 1, 1, stream=two)
    assert capturing.end_code(one) == "STREAM_CAPTURE_UNJOINED"
    assert capturing.status(two) == "NONE"


def test_only_the_origin_ends_a_capture(api: Any, capturing: Capturing) -> None:
    one, two, event = capturing.stream(), capturing.stream(), api.cuEventCreate(0)
    capturing.begin(one)
    api.cuEventRecord(event, one)
    api.cuStreamWaitEvent(two, event, 0)
    assert capturing.end_code(two) == "STREAM_CAPTURE_UNMATCHED"
    assert capturing.end_code(one) == "STREAM_CAPTURE_INVALIDATED"
    assert capturing.end_code(one) == "ILLEGAL_STATE"


def test_two_captures_cannot_merge(api: Any, capturing: Capturing) -> None:
    one, two, event = capturing.stream(), capturing.stream(), api.cuEventCreate(0)
    capturing.begin(one, RELAXED)
    capturing.begin(two, RELAXED)
    api.cuEventRecord(event, one)
    assert api.code("cuStreamWaitEvent", two, event, 0) == "STREAM_CAPTURE_MERGE"
    assert capturing.end_code(one) == capturing.end_code(two) == "STREAM_CAPTURE_INVALIDATED"


def test_work_outside_is_no_dependency(api: Any, capturing: Capturing) -> None:
    outside, inside, event = capturing.stream(), capturing.stream(), api.cuEventCreate(0)
    api.cuEventRecord(event, outside)
    capturing.begin(inside)
    assert api.code("cuStreamWaitEvent", inside, event, 0) == "STREAM_CAPTURE_ISOLATION"
    assert capturing.end_code(inside) == "STREAM_CAPTURE_INVALIDATED"


def test_a_captured_event_cannot_be_asked(api: Any, capturing: Capturing) -> None:
    stream, event = capturing.stream(), api.cuEventCreate(0)
    capturing.begin(stream, RELAXED)
    api.cuEventRecord(event, stream)
    assert api.code("cuEventQuery", event) == "CAPTURED_EVENT"
    assert api.code("cuEventSynchronize", event) == "CAPTURED_EVENT"
    assert capturing.end_code(stream) == "STREAM_CAPTURE_INVALIDATED"
    api.cuEventRecord(event, stream)  # recorded anew, it is an event as before
    api.cuEventSynchronize(event)


@pytest.mark.parametrize("call", ["cuStreamSynchronize", "cuStreamQuery"])
def test_a_capturing_stream_cannot_be_waited_for(api: Any, capturing: Capturing, call: str) -> None:
    stream = capturing.stream()
    capturing.begin(stream, RELAXED)
    assert api.code(call, stream) == "STREAM_CAPTURE_UNSUPPORTED"
    assert capturing.status(stream) == "INVALIDATED"
    assert api.code("cuMemsetD8Async", 0, 0, 1, stream) == "STREAM_CAPTURE_INVALIDATED"
    assert capturing.end_code(stream) == "STREAM_CAPTURE_INVALIDATED"


def test_a_context_that_captures_cannot_be_waited_for(api: Any, capturing: Capturing) -> None:
    stream = capturing.stream()
    capturing.begin(stream, RELAXED)
    assert api.code("cuCtxSynchronize") == "STREAM_CAPTURE_UNSUPPORTED"
    assert capturing.end_code(stream) == "STREAM_CAPTURE_INVALIDATED"


def test_the_legacy_stream_would_wait_for_a_blocking_one(api: Any, capturing: Capturing, put: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    assert api.code("cuStreamBeginCapture", 0, api.CUstreamCaptureMode(0)) == "STREAM_CAPTURE_UNSUPPORTED"
    blocking = capturing.stream(0)
    capturing.begin(blocking, RELAXED)
    assert api.code("cuStreamIsCapturing", 0) == "STREAM_CAPTURE_IMPLICIT"
    assert capturing.status(blocking) == "ACTIVE"
    assert api.code("cuMemsetD32Async", out, 0, 1, 0) == "STREAM_CAPTURE_IMPLICIT"
    assert capturing.end_code(blocking) == "STREAM_CAPTURE_INVALIDATED"
    api.cuMemsetD32Async(out, 0, 1, 0)
    other = capturing.stream()
    capturing.begin(other, RELAXED)
    api.cuMemsetD32Async(out, 0, 1, 0)  # a stream that does not block disturbs nobody
    capturing.end(other)


@pytest.mark.parametrize(
    ("capture", "thread", "allowed"),
    [
        (GLOBAL, GLOBAL, False),
        (GLOBAL, THREAD_LOCAL, False),
        (GLOBAL, RELAXED, True),
        (THREAD_LOCAL, GLOBAL, False),
        (RELAXED, GLOBAL, True),
        (RELAXED, THREAD_LOCAL, True),
    ],
)
def test_unsafe_calls_of_the_capturing_thread(
    api: Any, capturing: Capturing, capture: int, thread: int, allowed: bool
) -> None:
    stream = capturing.stream()
    before = api.cuThreadExchangeStreamCaptureMode(api.CUstreamCaptureMode(thread))
    try:
        capturing.begin(stream, capture)
        code = api.code("cuMemAlloc", 1024)
    finally:
        api.cuThreadExchangeStreamCaptureMode(before)
    assert code == ("SUCCESS" if allowed else "STREAM_CAPTURE_UNSUPPORTED")
    assert capturing.end_code(stream) == ("SUCCESS" if allowed else "STREAM_CAPTURE_INVALIDATED")


@pytest.mark.parametrize(("mode", "allowed"), [(GLOBAL, False), (THREAD_LOCAL, True), (RELAXED, True)])
def test_unsafe_calls_of_other_threads(
    api: Any, context: Any, capturing: Capturing, mode: int, allowed: bool
) -> None:
    stream, codes = capturing.stream(), []

    def other() -> None:
        api.cuCtxSetCurrent(context)
        codes.append(api.code("cuMemAlloc", 1024))
        codes.append(api.code("cuStreamEndCapture", stream))

    capturing.begin(stream, mode)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join(30)
    assert codes[0] == ("SUCCESS" if allowed else "STREAM_CAPTURE_UNSUPPORTED")
    assert codes[1] == ("SUCCESS" if mode == RELAXED else "STREAM_CAPTURE_WRONG_THREAD")


def test_a_wrong_call_ends_the_capture_and_not_the_context(
    api: Any, capturing: Capturing, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, stream = put(np.zeros(1, np.uint32)), capturing.stream()
    capturing.begin(stream)
    assert api.code("cuMemcpyDtoDAsync", out, 0x10, 4, stream) == "INVALID_VALUE"
    assert capturing.end_code(stream) == "STREAM_CAPTURE_INVALIDATED"
    launch(kernels("increment"), 1, 1, out, stream=stream)
    api.cuStreamSynchronize(stream)
    assert get(out, 1)[0] == 1


def test_what_is_captured_is_told(api: Any, capturing: Capturing, kernels: Any, launch: Any) -> None:
    stream = capturing.stream()
    capturing.begin(stream)
    launch(kernels("empty"), 1, 1, stream=stream)
    status, first_id, graph, nodes, _, count = api.cuStreamGetCaptureInfo(stream)
    assert status.name.endswith("ACTIVE")
    assert count == 1
    empty = api.cuGraphAddEmptyNode(graph, [nodes[0]], 1)
    set_them = api.CUstreamUpdateCaptureDependencies_flags.CU_STREAM_SET_CAPTURE_DEPENDENCIES.value
    api.cuStreamUpdateCaptureDependencies(stream, [empty], [api.CUgraphEdgeData()], 1, set_them)
    launch(kernels("empty"), 1, 1, stream=stream)
    assert api.code("cuGraphDestroy", graph) == "INVALID_VALUE"
    assert int(capturing.end(stream)) == int(graph)
    assert capturing.types(graph) == ["KERNEL", "EMPTY", "KERNEL"]
    assert api.cuGraphGetEdges(graph, 0)[-1] == 2
    capturing.begin(stream)
    assert int(api.cuStreamGetCaptureInfo(stream)[1]) != int(first_id)
    capturing.end(stream)
    code = api.code("cuStreamUpdateCaptureDependencies", stream, [], [], 0, 0)
    assert code == "ILLEGAL_STATE"


def test_capture_into_a_graph_that_is_there(
    api: Any, capturing: Capturing, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, graph, stream = put(np.zeros(1, np.uint32)), api.cuGraphCreate(0), capturing.stream()
    root = api.cuGraphAddEmptyNode(graph, [], 0)
    mode = api.CUstreamCaptureMode(GLOBAL)
    api.cuStreamBeginCaptureToGraph(stream, graph, [root], [api.CUgraphEdgeData()], 1, mode)
    launch(kernels("increment"), 1, 1, out, stream=stream)
    assert api.code("cuGraphInstantiate", graph, 0) == "INVALID_VALUE"
    assert int(capturing.end(stream)) == int(graph)
    assert capturing.types(graph) == ["EMPTY", "KERNEL"]
    assert api.cuGraphGetEdges(graph, 0)[-1] == 1
    capturing.run(graph)
    assert get(out, 1)[0] == 1


def test_a_launched_graph_becomes_a_child(
    api: Any, capturing: Capturing, kernels: Any, launch: Any, put: Any, get: Any
) -> None:
    out, stream = put(np.zeros(1, np.uint32)), capturing.stream()
    capturing.begin(stream)
    launch(kernels("increment"), 1, 1, out, stream=stream)
    inner = api.cuGraphInstantiate(capturing.end(stream), 0)
    capturing.begin(stream)
    api.cuGraphLaunch(inner, stream)
    api.cuGraphLaunch(inner, stream)
    outer = capturing.end(stream)
    assert capturing.types(outer) == ["GRAPH", "GRAPH"]
    capturing.run(outer, 2)
    assert get(out, 1)[0] == 4


def test_external_events_are_nodes(
    api: Any, capturing: Capturing, kernels: Any, launch: Any, put: Any
) -> None:
    stream, event = capturing.stream(), api.cuEventCreate(0)
    external = api.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL.value
    assert api.code("cuEventRecordWithFlags", event, stream, external) == "INVALID_VALUE"
    assert api.code("cuStreamWaitEvent", stream, event, external) == "INVALID_VALUE"
    capturing.begin(stream)
    api.cuStreamWaitEvent(stream, event, external)
    launch(kernels("empty"), 1, 1, stream=stream)
    api.cuEventRecordWithFlags(event, stream, external)
    graph = capturing.end(stream)
    assert capturing.types(graph) == ["WAIT_EVENT", "KERNEL", "EVENT_RECORD"]
    capturing.run(graph, 3)
    api.cuEventSynchronize(event)


def test_a_stream_that_captures_can_be_destroyed(api: Any, capturing: Capturing) -> None:
    stream = api.cuStreamCreate(0)
    capturing.begin(stream)
    api.cuStreamDestroy(stream)
    api.cuCtxSynchronize()
    assert api.code("cuMemAlloc", 1024) == "SUCCESS"  # nothing captures any more


def test_a_capture_cannot_begin_twice(api: Any, capturing: Capturing) -> None:
    stream = capturing.stream()
    capturing.begin(stream)
    code = api.code("cuStreamBeginCapture", stream, api.CUstreamCaptureMode(GLOBAL))
    assert code == "ILLEGAL_STATE"
    assert capturing.end_code(stream) == "SUCCESS"


def test_attributes_are_captured(api: Any, capturing: Capturing, kernels: Any, context: Any) -> None:
    priority = api.cuStreamCreateWithPriority(capturing.flags, -2)
    capturing.streams.append(priority)
    config, attribute = api.CUlaunchConfig(), api.CUlaunchAttribute()
    attribute.id = api.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
    attribute.value.cooperative = 1
    config.gridDimX = config.gridDimY = config.gridDimZ = 1
    config.blockDimX = config.blockDimY = config.blockDimZ = 1
    config.hStream, config.attrs, config.numAttrs = priority, [attribute], 1
    capturing.begin(priority)
    api.cuLaunchKernelEx(config, kernels("empty"), 0, 0)
    graph = capturing.end(priority)
    nodes, _ = api.cuGraphGetNodes(graph, 1)
    ids = api.CUlaunchAttributeID
    assert api.cuGraphKernelNodeGetAttribute(nodes[0], ids.CU_LAUNCH_ATTRIBUTE_COOPERATIVE).cooperative == 1
    assert api.cuGraphKernelNodeGetAttribute(nodes[0], ids.CU_LAUNCH_ATTRIBUTE_PRIORITY).priority == -2
    capturing.run(graph)
