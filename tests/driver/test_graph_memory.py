"""Memory that belongs to graphs, and the client's objects that live as long as they do."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

MIB = 1 << 20


@pytest.fixture(autouse=True)
def trimmed(api: Any, context: Any) -> Iterator[None]:
    """What earlier graphs left is no part of a test."""
    api.cuDeviceGraphMemTrim(0)
    yield
    api.module.cuDeviceGraphMemTrim(0)


def allocation(api: Any, size: int) -> Any:
    params = api.CUDA_MEM_ALLOC_NODE_PARAMS()
    params.poolProps.allocType = api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    params.poolProps.location.type = api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    params.poolProps.location.id = 0
    params.bytesize = size
    return params


def held(api: Any, which: str) -> int:
    attribute = getattr(api.CUgraphMem_attribute, f"CU_GRAPH_MEM_ATTR_{which}_CURRENT")
    return int(api.cuDeviceGetGraphMemAttribute(0, attribute))


def test_memory_lives_within_a_launch(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out = put(np.zeros(4, np.uint32))
    params = allocation(api, 3 * MIB)
    alloc = api.cuGraphAddMemAllocNode(builder.graph, [], 0, params)
    assert int(params.dptr) != 0
    assert api.code("cuMemcpyDtoD", out, params.dptr, 4) == "INVALID_VALUE"  # an address, and nothing there
    fill = builder.set(params.dptr, 6, 4, after=[alloc])
    step = builder.kernel(kernels("increment"), 1, 1, params.dptr, after=[fill])
    copy = builder.copy(out, params.dptr, 16, after=[step])
    api.cuGraphAddMemFreeNode(builder.graph, [copy], 1, params.dptr)
    exec_ = builder.instantiate()
    free_before = api.cuMemGetInfo()[0]
    for _ in range(5):
        api.cuGraphLaunch(exec_, 0)
    api.cuCtxSynchronize()
    assert get(out, 4).tolist() == [7, 6, 6, 6]
    assert held(api, "USED_MEM") == 0
    assert held(api, "RESERVED_MEM") == 4 * MIB == free_before - api.cuMemGetInfo()[0]
    api.cuDeviceGraphMemTrim(0)
    assert held(api, "RESERVED_MEM") == 0
    assert api.cuMemGetInfo()[0] == free_before


def test_memory_that_a_graph_leaves_is_freed_outside(api: Any, builder: Any, put: Any, get: Any) -> None:
    params = allocation(api, 1024)
    alloc = api.cuGraphAddMemAllocNode(builder.graph, [], 0, params)
    builder.set(params.dptr, 3, 256, after=[alloc])
    exec_ = builder.instantiate()
    api.cuGraphLaunch(exec_, 0)
    assert get(params.dptr, 256).tolist() == [3] * 256
    assert api.code("cuGraphLaunch", exec_, 0) == "INVALID_VALUE"  # it is still there
    api.cuMemFreeAsync(params.dptr, 0)
    api.cuGraphLaunch(exec_, 0)
    assert get(params.dptr, 1)[0] == 3
    api.cuMemFree(params.dptr)
    assert held(api, "USED_MEM") == 0
    assert api.code("cuMemFree", params.dptr) == "INVALID_VALUE"


def test_auto_free(api: Any, builder: Any, put: Any, get: Any) -> None:
    params = allocation(api, 1024)
    alloc = api.cuGraphAddMemAllocNode(builder.graph, [], 0, params)
    builder.set(params.dptr, 3, 256, after=[alloc])
    flags = api.CUgraphInstantiate_flags.CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH.value
    exec_ = builder.instantiate(flags)
    for _ in range(3):
        api.cuGraphLaunch(exec_, 0)
    assert get(params.dptr, 1)[0] == 3
    assert held(api, "USED_MEM") == 2 * MIB
    api.cuMemFree(params.dptr)


def test_another_graph_may_free(new_builder: Any, api: Any, context: Any, builder: Any) -> None:
    params = allocation(api, 1024)
    api.cuGraphAddMemAllocNode(builder.graph, [], 0, params)
    freeing = new_builder()
    api.cuGraphAddMemFreeNode(freeing.graph, [], 0, params.dptr)
    allocating, free = builder.instantiate(), freeing.instantiate()
    assert api.code("cuGraphLaunch", free, 0) == "INVALID_VALUE"  # nothing to free yet
    for _ in range(3):
        api.cuGraphLaunch(allocating, 0)
        api.cuGraphLaunch(free, 0)
    api.cuCtxSynchronize()
    assert held(api, "USED_MEM") == 0
    code = api.code("cuGraphAddMemFreeNode", builder.graph, [], 0, params.dptr)
    assert code == "INVALID_VALUE"  # freed by another graph already


def test_what_memory_nodes_forbid(new_builder: Any, api: Any, context: Any, builder: Any, put: Any) -> None:
    params = allocation(api, 1024)
    alloc = api.cuGraphAddMemAllocNode(builder.graph, [], 0, params)
    free = api.cuGraphAddMemFreeNode(builder.graph, [alloc], 1, params.dptr)
    assert api.code("cuGraphAddMemFreeNode", builder.graph, [alloc], 1, params.dptr) == "INVALID_VALUE"
    plain = put(np.zeros(1, np.uint32))
    assert api.code("cuGraphAddMemFreeNode", builder.graph, [], 0, plain) == "INVALID_VALUE"
    assert api.code("cuGraphDestroyNode", free) == "INVALID_VALUE"
    assert api.code("cuGraphClone", builder.graph) == "INVALID_VALUE"
    other = new_builder()
    assert api.code("cuGraphAddChildGraphNode", other.graph, [], 0, builder.graph) == "INVALID_VALUE"
    exec_ = builder.instantiate()
    assert api.code("cuGraphInstantiate", builder.graph, 0) == "INVALID_VALUE"
    api.cuGraphExecDestroy(exec_)
    builder.instantiate()
    assert api.code("cuGraphAddMemAllocNode", builder.graph, [], 0, allocation(api, 0)) == "INVALID_VALUE"


def test_more_than_the_card_has(api: Any, builder: Any) -> None:
    total = api.cuMemGetInfo()[1]
    assert api.code("cuGraphAddMemAllocNode", builder.graph, [], 0, allocation(api, 2 * total)) == (
        "OUT_OF_MEMORY"
    )
    api.cuGraphAddMemAllocNode(builder.graph, [], 0, allocation(api, total * 3 // 4))
    api.cuGraphAddMemAllocNode(builder.graph, [], 0, allocation(api, total // 2))
    exec_ = builder.instantiate()
    assert api.code("cuGraphLaunch", exec_, 0) == "OUT_OF_MEMORY"
    assert held(api, "USED_MEM") == 0  # what the launch had taken is back


def test_stream_ordered_allocations_are_captured(api: Any, context: Any, put: Any, get: Any) -> None:
    out = put(np.zeros(4, np.uint32))
    stream = api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
    api.cuStreamBeginCapture(stream, api.CUstreamCaptureMode(0))
    address = api.cuMemAllocAsync(4096, stream)
    api.cuMemsetD32Async(address, 4, 4, stream)
    api.cuMemcpyDtoDAsync(out, address, 16, stream)
    api.cuMemFreeAsync(address, stream)
    graph = api.cuStreamEndCapture(stream)
    api.cuGraphLaunch(api.cuGraphInstantiate(graph, 0), stream)
    api.cuStreamSynchronize(stream)
    assert get(out, 4).tolist() == [4] * 4
    api.cuStreamBeginCapture(stream, api.CUstreamCaptureMode(0))
    assert api.code("cuMemFreeAsync", out, stream) == "INVALID_VALUE"
    assert api.code("cuStreamEndCapture", stream) == "STREAM_CAPTURE_INVALIDATED"


# ---- user objects ----


class Destroyed:
    """A destructor that counts."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.event = threading.Event()
        self.function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._call)

    def _call(self, data: int) -> None:
        self.calls.append(data)
        self.event.set()

    @property
    def address(self) -> int:
        return ctypes.cast(self.function, ctypes.c_void_p).value or 0


def make_object(api: Any, destroyed: Destroyed, count: int = 1) -> Any:
    flag = api.CUuserObject_flags.CU_USER_OBJECT_NO_DESTRUCTOR_SYNC.value
    return api.cuUserObjectCreate(3, destroyed.address, count, flag)


def test_an_object_goes_with_its_last_reference(api: Any, context: Any) -> None:
    destroyed = Destroyed()
    made = make_object(api, destroyed)
    api.cuUserObjectRetain(made, 2)
    api.cuUserObjectRelease(made, 2)
    assert not destroyed.event.wait(0.05)
    api.cuUserObjectRelease(made, 1)
    assert destroyed.event.wait(10)
    assert destroyed.calls == [3]
    assert api.code("cuUserObjectRelease", made, 1) == "INVALID_VALUE"


def test_an_object_outlives_what_uses_it(api: Any, builder: Any, kernels: Any, put: Any) -> None:
    destroyed, out = Destroyed(), put(np.zeros(1, np.uint32))
    builder.kernel(kernels("spin"), 1, 1, 3_000_000, out)
    made = make_object(api, destroyed)
    move = api.CUuserObjectRetain_flags.CU_GRAPH_USER_OBJECT_MOVE.value
    api.cuGraphRetainUserObject(builder.graph, made, 1, move)
    clone = api.cuGraphClone(builder.graph)
    exec_ = api.cuGraphInstantiate(clone, 0)
    api.cuGraphDestroy(builder.graph)
    api.cuGraphDestroy(clone)
    api.cuGraphLaunch(exec_, 0)
    api.cuGraphExecDestroy(exec_)
    running = api.code("cuStreamQuery", 0) == "NOT_READY"
    assert not (running and destroyed.calls and api.code("cuStreamQuery", 0) == "NOT_READY")
    api.cuCtxSynchronize()
    assert destroyed.event.wait(10)
    assert destroyed.calls == [3]


def test_a_graph_gives_back_what_it_holds(api: Any, builder: Any) -> None:
    destroyed = Destroyed()
    made = make_object(api, destroyed)
    api.cuGraphRetainUserObject(builder.graph, made, 2, 0)
    api.cuUserObjectRelease(made, 1)
    assert api.code("cuUserObjectRelease", made, 1) == "INVALID_VALUE"  # the rest are the graph's
    api.cuGraphReleaseUserObject(builder.graph, made, 1)
    assert api.code("cuGraphReleaseUserObject", builder.graph, made, 2) == "INVALID_VALUE"
    assert not destroyed.event.wait(0.05)
    api.cuGraphReleaseUserObject(builder.graph, made, 1)
    assert destroyed.event.wait(10)


def test_impossible_objects_are_refused(api: Any, builder: Any) -> None:
    destroyed = Destroyed()
    assert api.code("cuUserObjectCreate", 0, destroyed.address, 0, 1) == "INVALID_VALUE"
    assert api.code("cuUserObjectCreate", 0, destroyed.address, 1, 0) == "INVALID_VALUE"
    assert api.code("cuUserObjectRetain", api.CUuserObject(16), 1) == "INVALID_VALUE"
    made = make_object(api, destroyed)
    assert api.code("cuUserObjectRetain", made, 0) == "INVALID_VALUE"
    assert api.code("cuGraphRetainUserObject", builder.graph, made, 2, 1) == "INVALID_VALUE"
    api.cuUserObjectRelease(made, 1)
    assert destroyed.event.wait(10)
