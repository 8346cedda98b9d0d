"""Graphs built node by node: topology, instantiation, launch, update."""

from __future__ import annotations

import ctypes
import random
import threading
from typing import Any

import numpy as np
import pytest


def test_a_chain_runs_in_order(builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out, copy = put(np.zeros(64, np.uint32)), put(np.zeros(64, np.uint32))
    one = builder.set(out, 5, 64)
    two = builder.kernel(kernels("increment"), 1, 1, out, after=[one])
    builder.copy(copy, out, 256, after=[two])
    builder.run()
    assert get(copy, 64).tolist() == [6] + [5] * 63


def test_a_relaunch_waits_for_the_launch_before(
    api: Any, builder: Any, kernels: Any, put: Any, get: Any
) -> None:
    out = put(np.zeros(1, np.uint32))
    builder.kernel(kernels("increment"), 1, 1, out)
    exec_ = builder.instantiate()
    flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    streams = [api.cuStreamCreate(flags) for _ in range(4)]
    for turn in range(200):
        api.cuGraphLaunch(exec_, streams[turn % 4])
    for stream in streams:
        api.cuStreamSynchronize(stream)
    assert get(out, 1)[0] == 200


def test_branches_overlap(api: Any, builder: Any, kernels: Any) -> None:
    """One branch waits for what the other writes: in turn they would never end."""
    memory = int(api.cuMemHostAlloc(4096, 0))
    flag, out = ctypes.c_uint32.from_address(memory), ctypes.c_uint32.from_address(memory + 64)
    flag.value = out.value = 0
    root = builder.empty()
    builder.kernel(kernels("wait_for"), 1, 1, memory, memory + 64, after=[root])
    builder.kernel(kernels("store"), 1, 1, memory, after=[root])
    builder.run()
    assert out.value == 1


@pytest.mark.parametrize("seed", range(12))
def test_any_graph_equals_its_serial_run(
    api: Any, builder: Any, kernels: Any, put: Any, get: Any, seed: int
) -> None:
    """Nodes that write different cells and read those of their dependencies."""
    choice = random.Random(seed)
    count = choice.randrange(2, 60)
    cells = put(np.zeros((count + 1) * 4, np.float32))  # 16 bytes a cell, so that saxpy's are aligned
    expected = np.zeros(count)
    expected_start = np.arange(count) + 1.0
    start = np.zeros((count + 1) * 4, np.float32)
    start[: count * 4 : 4] = expected_start
    api.cuMemcpyHtoD(cells, start.ctypes.data, start.nbytes)
    expected = expected_start.copy()
    nodes: list[Any] = []
    saxpy = kernels("saxpy")
    for cell in range(count):
        reads = sorted(choice.sample(range(cell), min(cell, choice.randrange(0, 4))))
        last: Any = None
        for source in reads:  # cell += 0.5 * source, one kernel each, in a chain
            after = [nodes[source]] + ([last] if last else [])
            last = builder.kernel(
                saxpy,
                1,
                1,
                np.float32(0.5),
                int(cells) + 16 * source,
                int(cells) + 16 * cell,
                np.uint32(1),
                after=after,
            )
            expected[cell] += 0.5 * expected[source]
        nodes.append(last or builder.empty())
    exec_ = builder.instantiate()
    stream = api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
    for _ in range(3):
        api.cuMemcpyHtoD(cells, start.ctypes.data, start.nbytes)
        api.cuGraphLaunch(exec_, stream)
        api.cuStreamSynchronize(stream)
        np.testing.assert_allclose(get(cells, count * 4, np.float32)[::4], expected, rtol=1e-5)


def test_topology_is_told(api: Any, builder: Any) -> None:
    a = builder.empty()
    b, c = builder.empty(after=[a]), builder.empty(after=[a])
    d = builder.empty(after=[b, c])
    nodes, count = api.cuGraphGetNodes(builder.graph, 8)
    assert count == 4
    assert [int(each) for each in nodes[:4]] == [int(each) for each in (a, b, c, d)]
    roots, count = api.cuGraphGetRootNodes(builder.graph, 1)
    assert count == 1
    assert int(roots[0]) == int(a)
    assert api.cuGraphGetEdges(builder.graph, 0)[-1] == 4
    assert api.cuGraphNodeGetDependencies(d, 0)[-1] == 2
    assert api.cuGraphNodeGetDependentNodes(a, 0)[-1] == 2
    api.cuGraphDestroyNode(b)
    assert api.cuGraphGetNodes(builder.graph, 0)[-1] == 3
    assert api.cuGraphNodeGetDependencies(d, 0)[-1] == 1
    assert api.code("cuGraphNodeGetType", b) == "INVALID_VALUE"


def test_a_cycle_is_found_when_it_is_instantiated(api: Any, builder: Any) -> None:
    a = builder.empty()
    b = builder.empty(after=[a])
    api.cuGraphAddDependencies(builder.graph, [b], [a], [api.CUgraphEdgeData()], 1)
    assert api.code("cuGraphInstantiate", builder.graph, 0) == "INVALID_VALUE"
    params = api.CUDA_GRAPH_INSTANTIATE_PARAMS()
    assert api.code("cuGraphInstantiateWithParams", builder.graph, params) == "INVALID_VALUE"
    wanted = api.CUgraphInstantiateResult.CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE
    assert params.result_out == wanted
    assert int(params.hErrNode_out) in (int(a), int(b))
    api.cuGraphRemoveDependencies(builder.graph, [b], [a], [api.CUgraphEdgeData()], 1)
    builder.run()


def test_an_edge_is_there_once(api: Any, builder: Any) -> None:
    a = builder.empty()
    b = builder.empty(after=[a])
    edge = [api.CUgraphEdgeData()]
    assert api.code("cuGraphAddDependencies", builder.graph, [a], [b], edge, 1) == "INVALID_VALUE"
    assert api.code("cuGraphAddDependencies", builder.graph, [a], [a], edge, 1) == "INVALID_VALUE"
    assert api.code("cuGraphRemoveDependencies", builder.graph, [b], [a], edge, 1) == "INVALID_VALUE"


def test_parameters_come_back(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    x, out = put(np.full(4, 2, np.float32)), put(np.zeros(4, np.float32))
    node = builder.kernel(kernels("saxpy"), 1, 4, np.float32(3), x, out, np.uint32(4))
    params = api.cuGraphKernelNodeGetParams(node)
    assert (params.gridDimX, params.blockDimX) == (1, 4)
    values = ctypes.cast(int(params.kernelParams), ctypes.POINTER(ctypes.c_void_p))
    assert ctypes.cast(values[0], ctypes.POINTER(ctypes.c_float))[0] == 3.0
    api.cuGraphKernelNodeSetParams(node, params)  # what was given back can be put in again
    builder.run()
    assert get(out, 4, np.float32).tolist() == [6.0] * 4


def test_a_clone_is_its_own(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    node = builder.kernel(kernels("increment"), 1, 1, out)
    clone = api.cuGraphClone(builder.graph)
    twin = api.cuGraphNodeFindInClone(node, clone)
    assert int(twin) != int(node)
    api.cuGraphDestroyNode(node)
    assert api.code("cuGraphNodeFindInClone", node, clone) == "INVALID_VALUE"
    api.cuGraphLaunch(api.cuGraphInstantiate(clone, 0), 0)
    assert get(out, 1)[0] == 1


def test_child_graphs_take_their_place(
    new_builder: Any, api: Any, context: Any, kernels: Any, put: Any, get: Any
) -> None:
    out, copy = put(np.zeros(1, np.uint32)), put(np.zeros(1, np.uint32))
    inner = new_builder()
    first = inner.kernel(kernels("increment"), 1, 1, out)
    inner.kernel(kernels("increment"), 1, 1, out, after=[first])
    outer = new_builder()
    begin = outer.set(out, 10, 1)
    child = api.cuGraphAddChildGraphNode(outer.graph, [begin], 1, inner.graph)
    outer.copy(copy, out, 4, after=[child])
    api.cuGraphDestroy(inner.graph)  # the node has its own copy
    outer.run()
    assert get(copy, 1)[0] == 12
    embedded = api.cuGraphChildGraphNodeGetGraph(child)
    assert api.cuGraphGetNodes(embedded, 0)[-1] == 2
    assert api.code("cuGraphDestroy", embedded) == "INVALID_VALUE"


def test_host_nodes_run_between(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out, seen = put(np.zeros(1, np.uint32)), []
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: seen.append(data))
    params = api.CUDA_HOST_NODE_PARAMS()
    params.fn, params.userData = ctypes.cast(function, ctypes.c_void_p).value, 7
    before = builder.kernel(kernels("increment"), 1, 1, out)
    host = api.cuGraphAddHostNode(builder.graph, [before], 1, params)
    builder.kernel(kernels("increment"), 1, 1, out, after=[host])
    exec_ = builder.instantiate()
    for _ in range(5):
        api.cuGraphLaunch(exec_, 0)
    api.cuCtxSynchronize()
    assert seen == [7] * 5
    assert get(out, 1)[0] == 10


def test_event_nodes_order_with_streams(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out, event = put(np.zeros(1, np.uint32)), api.cuEventCreate(0)
    node = builder.kernel(kernels("spin"), 1, 1, 1_000_000, out)
    record = api.cuGraphAddEventRecordNode(builder.graph, [node], 1, event)
    assert int(api.cuGraphEventRecordNodeGetEvent(record)) == int(event)
    exec_ = builder.instantiate()
    flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    one, two = api.cuStreamCreate(flags), api.cuStreamCreate(flags)
    api.cuGraphLaunch(exec_, one)
    api.cuStreamWaitEvent(two, event, 0)
    host = np.zeros(1, np.uint32)
    api.cuMemcpyDtoHAsync(host.ctypes.data, out, 4, two)
    api.cuStreamSynchronize(two)
    assert host[0] == 1_000_000


# ---- executable graphs ----


def test_a_destroyed_graph_goes_on_running(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    builder.kernel(kernels("spin"), 1, 1, 2_000_000, out)
    exec_ = builder.instantiate()
    api.cuGraphLaunch(exec_, 0)
    api.cuGraphExecDestroy(exec_)
    api.cuGraphDestroy(builder.graph)
    assert get(out, 1)[0] == 2_000_000
    assert api.code("cuGraphLaunch", exec_, 0) == "INVALID_VALUE"


def test_new_parameters_count_from_the_next_launch(
    api: Any, builder: Any, kernels: Any, put: Any, get: Any
) -> None:
    a, b = put(np.zeros(1, np.uint32)), put(np.zeros(1, np.uint32))
    node = builder.kernel(kernels("increment"), 1, 1, a)
    exec_ = builder.instantiate()
    api.cuGraphLaunch(exec_, 0)
    api.cuGraphExecKernelNodeSetParams(exec_, node, builder.params(kernels("increment"), 1, 1, b))
    api.cuGraphLaunch(exec_, 0)
    assert (get(a, 1)[0], get(b, 1)[0]) == (1, 1)
    api.cuGraphLaunch(builder.instantiate(), 0)  # the node itself has not changed
    assert (get(a, 1)[0], get(b, 1)[0]) == (2, 1)


def test_a_disabled_node_does_nothing(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    first = builder.kernel(kernels("increment"), 1, 1, out)
    builder.kernel(kernels("increment"), 1, 1, out, after=[first])
    empty = builder.empty()
    exec_ = builder.instantiate()
    api.cuGraphNodeSetEnabled(exec_, first, 0)
    assert api.cuGraphNodeGetEnabled(exec_, first) == 0
    assert api.code("cuGraphNodeSetEnabled", exec_, empty, 0) == "INVALID_VALUE"
    api.cuGraphLaunch(exec_, 0)
    assert get(out, 1)[0] == 1
    api.cuGraphNodeSetEnabled(exec_, first, 1)
    api.cuGraphLaunch(exec_, 0)
    assert get(out, 1)[0] == 3


def test_an_update_takes_a_graph_of_the_same_shape(
    new_builder: Any, api: Any, context: Any, kernels: Any, put: Any, get: Any
) -> None:
    a, b = put(np.zeros(1, np.uint32)), put(np.zeros(1, np.uint32))

    def build(address: Any, value: int) -> Any:
        made = new_builder()
        first = made.set(address, value, 1)
        made.kernel(kernels("increment"), 1, 1, address, after=[first])
        return made

    exec_ = build(a, 3).instantiate()
    info = api.cuGraphExecUpdate(exec_, build(b, 8).graph)
    assert info.result == api.CUgraphExecUpdateResult.CU_GRAPH_EXEC_UPDATE_SUCCESS
    api.cuGraphLaunch(exec_, 0)
    assert (get(a, 1)[0], get(b, 1)[0]) == (0, 9)


def test_an_update_says_what_does_not_fit(
    new_builder: Any, api: Any, context: Any, kernels: Any, put: Any, get: Any
) -> None:
    out = put(np.zeros(16, np.uint32))
    base = new_builder()
    first = base.set(out, 1, 1)
    base.kernel(kernels("increment"), 1, 1, out, after=[first])
    exec_ = base.instantiate()
    results = api.CUgraphExecUpdateResult

    def refusal(graph: Any) -> tuple[Any, int]:
        # cuda-bindings hands out nothing where a call fails.
        class Info(ctypes.Structure):
            _fields_ = [("result", ctypes.c_int), ("node", ctypes.c_void_p), ("from_node", ctypes.c_void_p)]

        info = Info()
        update = ctypes.CDLL("libcuda.so.1").cuGraphExecUpdate_v2
        handles = ctypes.c_void_p(int(exec_)), ctypes.c_void_p(int(graph))
        failure = api.CUresult.CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE
        assert update(*handles, ctypes.byref(info)) == int(failure)
        return results(info.result), info.node or 0

    longer = new_builder()
    longer.kernel(kernels("increment"), 1, 1, out, after=[longer.empty(after=[longer.set(out, 1, 1)])])
    assert refusal(longer.graph) == (results.CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, 0)

    loose = new_builder()
    loose.set(out, 1, 1)
    loose.kernel(kernels("increment"), 1, 1, out)
    assert refusal(loose.graph)[0] == results.CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED

    other = new_builder()
    copy = other.copy(out, int(out) + 32, 4)
    other.kernel(kernels("increment"), 1, 1, out, after=[copy])
    assert refusal(other.graph) == (results.CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, int(copy))

    plane = new_builder()
    params = plane.set_params(out, 1, 1)
    params.height, params.pitch = 2, 16
    wide = api.cuGraphAddMemsetNode(plane.graph, [], 0, params, context)
    plane.kernel(kernels("increment"), 1, 1, out, after=[wide])
    assert refusal(plane.graph) == (results.CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED, int(wide))

    api.cuGraphLaunch(exec_, 0)  # a refused update changes nothing
    assert get(out, 1)[0] == 2


def test_launches_from_many_threads(api: Any, builder: Any, kernels: Any, put: Any, get: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    root = builder.empty()
    side = builder.empty(after=[root])
    builder.kernel(kernels("increment"), 1, 1, out, after=[root, side])
    exec_ = builder.instantiate()

    def work() -> None:
        api.cuCtxSetCurrent(builder.context)
        stream = api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
        for _ in range(50):
            api.cuGraphLaunch(exec_, stream)
        api.cuStreamSynchronize(stream)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    api.cuCtxSynchronize()
    assert get(out, 1)[0] == 200


def test_flags(api: Any, builder: Any) -> None:
    flags = api.CUgraphInstantiate_flags
    builder.empty()
    priority = flags.CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY.value
    auto_free = flags.CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH.value
    exec_ = builder.instantiate(priority | auto_free)
    assert int(api.cuGraphExecGetFlags(exec_)) == priority | auto_free
    device = flags.CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH.value
    assert api.code("cuGraphInstantiate", builder.graph, device) == "NOT_SUPPORTED"
    assert api.code("cuGraphInstantiate", builder.graph, 1 << 20) == "INVALID_VALUE"


def test_a_dot_file_names_the_nodes(api: Any, builder: Any, kernels: Any, put: Any, tmp_path: Any) -> None:
    node = builder.set(put(np.zeros(1, np.uint32)), 1, 1)
    builder.kernel(kernels("empty"), 1, 1, after=[node])
    path = tmp_path / "graph.dot"
    api.cuGraphDebugDotPrint(builder.graph, str(path).encode(), 0)
    text = path.read_text()
    assert text.startswith("digraph")
    assert all(word in text for word in ("empty", "MEMSET", "->"))
    assert api.code("cuGraphDebugDotPrint", builder.graph, b"/nowhere/graph.dot", 0) == "OPERATING_SYSTEM"


# ---- hostile ----


def test_forged_handles_are_refused(new_builder: Any, api: Any, builder: Any, kernels: Any) -> None:
    node = builder.empty()
    forged_graph, forged_node = api.CUgraph(0x1234), api.CUgraphNode(int(node) ^ (1 << 28))
    assert api.code("cuGraphAddEmptyNode", forged_graph, [], 0) == "INVALID_VALUE"
    assert api.code("cuGraphAddEmptyNode", builder.graph, [forged_node], 1) == "INVALID_VALUE"
    assert api.code("cuGraphAddEmptyNode", builder.graph, [node, node], 2) == "INVALID_VALUE"
    assert api.code("cuGraphNodeGetType", forged_node) == "INVALID_VALUE"
    assert api.code("cuGraphLaunch", api.CUgraphExec(0), 0) == "INVALID_VALUE"
    assert api.code("cuGraphLaunch", api.CUgraphExec(int(node)), 0) == "INVALID_VALUE"
    assert api.code("cuGraphInstantiate", api.CUgraph(int(node)), 0) == "INVALID_VALUE"
    other = new_builder()
    assert api.code("cuGraphAddEmptyNode", other.graph, [node], 1) == "INVALID_VALUE"
    api.cuGraphDestroy(builder.graph)
    assert api.code("cuGraphDestroy", builder.graph) == "INVALID_VALUE"
    assert api.code("cuGraphNodeGetType", node) == "INVALID_VALUE"


def test_impossible_nodes_are_refused(api: Any, builder: Any, kernels: Any, put: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    wrong = builder.params(kernels("increment"), 0, 1, out)
    assert api.code("cuGraphAddKernelNode", builder.graph, [], 0, wrong) == "INVALID_VALUE"
    big = builder.set_params(out, 1, 1 << 40)
    assert api.code("cuGraphAddMemsetNode", builder.graph, [], 0, big, builder.context) == "INVALID_VALUE"
    far = builder.copy_params(out, 0xDEAD0000, 4)
    assert api.code("cuGraphAddMemcpyNode", builder.graph, [], 0, far, builder.context) == "INVALID_VALUE"
    assert api.code("cuGraphAddEventRecordNode", builder.graph, [], 0, api.CUevent(8)) == "INVALID_VALUE"
    assert api.cuGraphGetNodes(builder.graph, 0)[-1] == 0


def test_unimplemented_kinds_say_so(api: Any, builder: Any) -> None:
    params = api.CUgraphNodeParams()
    params.type = api.CUgraphNodeType.CU_GRAPH_NODE_TYPE_CONDITIONAL
    assert api.code("cuGraphAddNode", builder.graph, [], [], 0, params) == "NOT_SUPPORTED"
    created = api.code("cuGraphConditionalHandleCreate", builder.graph, builder.context, 0, 0)
    assert created == "NOT_SUPPORTED"
