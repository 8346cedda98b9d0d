"""What no program should do with graphs: an error each time, and never a crash or a hang."""

from __future__ import annotations

import ctypes
import random
import threading
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LIST = Path(__file__).parents[2] / "native" / "api" / "cuda" / "graph.toml"
# Zero is a device, so these have nothing to refuse.
HARMLESS = {"cuDeviceGraphMemTrim"}
ENTRY_POINTS = [
    abi["symbol"]
    for function in tomllib.loads(LIST.read_text())["function"]
    for abi in function["abi"]
    if abi["symbol"] not in HARMLESS
]

INVALID_VALUE, SUCCESS = 1, 0


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_nothing_but_zeros(api: Any, context: Any, name: str) -> None:
    function = getattr(ctypes.CDLL("libcuda.so.1"), name)
    code = function(*[ctypes.c_void_p(0)] * 8)
    assert code not in (SUCCESS, 999), code


@pytest.mark.parametrize("name", [each for each in ENTRY_POINTS if each.startswith("cuGraphAdd")])
def test_a_wild_number_of_dependencies(api: Any, builder: Any, name: str) -> None:
    out, nodes = ctypes.c_void_p(), (ctypes.c_void_p * 1)(int(builder.empty()))
    count = ctypes.c_size_t((1 << 64) - 1)
    function = getattr(ctypes.CDLL("libcuda.so.1"), name)
    graph, params = ctypes.c_void_p(int(builder.graph)), ctypes.create_string_buffer(512)
    if name in ("cuGraphAddNode_v2", "cuGraphAddNode_v3"):
        arguments = [nodes, None, count, params]
    elif "Dependencies" in name:
        edges = [None] if name.endswith("_v2") else []
        code = function(graph, nodes, nodes, *edges, count)
        assert code == INVALID_VALUE
        return
    else:
        arguments = [nodes, count, params, ctypes.c_void_p(int(builder.context))]
    assert function(ctypes.byref(out), graph, *arguments) != SUCCESS
    assert api.cuGraphGetNodes(builder.graph, 0)[-1] == 1


def test_a_context_goes_while_it_captures(api: Any, context: Any) -> None:
    other = api.cuCtxCreate(None, 0, api.cuDeviceGet(0))
    stream = api.cuStreamCreate(0)
    api.cuStreamBeginCapture(stream, api.CUstreamCaptureMode(0))
    api.cuCtxDestroy(other)
    api.cuCtxSetCurrent(context)
    assert api.code("cuMemAlloc", 64) == "SUCCESS"
    assert api.code("cuStreamEndCapture", stream) in ("INVALID_HANDLE", "INVALID_VALUE")


def test_a_graph_outlives_its_context(api: Any, context: Any, builder: Any, kernels: Any, put: Any) -> None:
    builder.kernel(kernels("increment"), 1, 1, put(np.zeros(1, np.uint32)))
    exec_ = builder.instantiate()
    api.cuDevicePrimaryCtxReset(api.cuDeviceGet(0))
    assert api.code("cuGraphLaunch", exec_, 0) != "SUCCESS"
    api.cuGraphExecDestroy(exec_)
    api.cuGraphDestroy(builder.graph)


def test_a_fault_in_a_graph_is_the_context_s(api: Any, builder: Any, kernels: Any, put: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    trap = builder.kernel(kernels("trap_now"), 1, 1)
    builder.kernel(kernels("increment"), 1, 1, out, after=[trap])
    exec_ = builder.instantiate()
    api.cuGraphLaunch(exec_, 0)
    assert api.code("cuCtxSynchronize") == "LAUNCH_FAILED"
    assert api.code("cuGraphLaunch", exec_, 0) == "LAUNCH_FAILED"


class Vandal:
    """Builds, captures, launches and destroys at random, on handles that other threads use as well."""

    def __init__(self, api: Any, context: Any, graphs: list[Any], nodes: list[int], kernel: Any) -> None:
        self.call, self.context = api.module, context
        self.graphs, self.nodes, self.kernel = graphs, nodes, ctypes.c_void_p(int(kernel))
        self.relaxed = api.CUstreamCaptureMode(2)
        self.flags = api.CUstream_flags.CU_STREAM_NON_BLOCKING.value
        self.errors: list[Any] = []

    def work(self, seed: int) -> None:
        choice = random.Random(seed)
        self.call.cuCtxSetCurrent(self.context)
        _, self.stream = self.call.cuStreamCreate(self.flags)
        actions = [self.add, self.add, self.remove, self.launch, self.capture, self.clone]
        for _ in range(150):
            choice.choice(actions)(choice, choice.choice(self.graphs))
        self.call.cuStreamSynchronize(self.stream)

    def known(self, choice: random.Random) -> list[Any]:
        return [self.call.CUgraphNode(choice.choice(self.nodes))] if self.nodes else []

    def add(self, choice: random.Random, graph: Any) -> None:
        known = self.known(choice)
        code, node = self.call.cuGraphAddEmptyNode(graph, known, len(known))
        if int(code) == SUCCESS:
            self.nodes.append(int(node))

    def remove(self, choice: random.Random, _: Any) -> None:
        for node in self.known(choice):
            self.call.cuGraphDestroyNode(node)

    def launch(self, _: random.Random, graph: Any) -> None:
        code, exec_ = self.call.cuGraphInstantiate(graph, 0)
        if int(code) == SUCCESS:
            self.call.cuGraphLaunch(exec_, self.stream)
            self.call.cuGraphExecDestroy(exec_)

    def capture(self, _choice: random.Random, _graph: Any) -> None:
        self.call.cuStreamBeginCapture(self.stream, self.relaxed)
        stream = ctypes.c_void_p(int(self.stream))
        ctypes.CDLL("libcuda.so.1").cuLaunchKernel(self.kernel, 1, 1, 1, 1, 1, 1, 0, stream, None, None)
        code, captured = self.call.cuStreamEndCapture(self.stream)
        if int(code) == SUCCESS:
            self.call.cuGraphDestroy(captured)
        else:
            self.errors.append(code)

    def clone(self, _: random.Random, graph: Any) -> None:
        code, copy = self.call.cuGraphClone(graph)
        if int(code) == SUCCESS:
            self.call.cuGraphDestroy(copy)


def test_many_threads_share_their_handles(api: Any, context: Any, kernels: Any) -> None:
    """Whatever is refused, nothing breaks, and a capture of one's own is never another's business."""
    graphs, nodes = [api.cuGraphCreate(0) for _ in range(4)], []
    vandals = [Vandal(api, context, graphs, nodes, kernels("empty")) for _ in range(4)]
    threads = [threading.Thread(target=each.work, args=(seed,)) for seed, each in enumerate(vandals)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not any(each.is_alive() for each in threads)
    assert [each.errors for each in vandals] == [[]] * 4
