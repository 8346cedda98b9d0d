"""Every way to take device memory of the simulated card, one line from stdin for each step.

Each path of `PATHS` has `take`, which answers a code and what it took (a few MiB, or far more than the slice
has), and `give`. After each step the program prints the path, the step, the code and what the slice holds.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cuda.bindings import driver  # pyright: ignore[reportAttributeAccessIssue]

cu: Any = driver
MIB = 2**20
SOME, MUCH = 10 * MIB, 40 * 2**30
DEVICE = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
HOST = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST
PINNED = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
BETWEEN_REFUSALS = 0.4  # s; of more than three lines in a second some are left out

Answer = tuple[int, Any]


def ok(answer: tuple[Any, ...]) -> Any:
    assert int(answer[0]) == 0, answer
    return answer[1] if len(answer) == 2 else answer[1:]


def plain(answer: tuple[Any, ...]) -> Answer:
    """The code, and the first thing that came with it."""
    return int(answer[0]), answer[1] if len(answer) > 1 else None


ok((*cu.cuInit(0), None))
first = ok(cu.cuDevicePrimaryCtxRetain(0))
ok((*cu.cuCtxSetCurrent(first), None))
stream = ok(cu.cuStreamCreate(1))


class Path(NamedTuple):
    take: Callable[[int], Answer]
    give: Callable[[Any], object]


def texels(size: int, depth: int = 0, levels: int = 0) -> Answer:
    shape = cu.CUDA_ARRAY3D_DESCRIPTOR()
    few = size == SOME
    shape.NumChannels, shape.Format = 2, cu.CUarray_format.CU_AD_FORMAT_FLOAT
    shape.Width, shape.Height, shape.Depth = 1024 if few or depth else 32768, 1024, depth
    if not few:
        shape.Height, shape.Depth = (1024, 4096) if depth else (32768, 0)
    made = cu.cuMipmappedArrayCreate(shape, levels) if levels else cu.cuArray3DCreate(shape)
    return plain(made)


def from_own_pool(size: int) -> Answer:
    properties = cu.CUmemPoolProps()
    properties.allocType, properties.location.type = PINNED, DEVICE
    pool = ok(cu.cuMemPoolCreate(properties))
    code, address = plain(cu.cuMemAllocFromPoolAsync(size, pool, stream))
    if code:
        ok((*cu.cuMemPoolDestroy(pool), None))
    return code, (pool, address)


def give_to_own_pool(taken: tuple[Any, Any]) -> None:
    ok((*cu.cuMemFreeAsync(taken[1], stream), None))
    ok((*cu.cuStreamSynchronize(stream), None))
    ok((*cu.cuMemPoolDestroy(taken[0]), None))


def virtual(size: int, location: Any = DEVICE) -> Answer:
    """Mapped, and its handle given back twice: once as made, once as asked for by the address."""
    properties = cu.CUmemAllocationProp()
    properties.type, properties.location.type = PINNED, location
    code, handle = plain(cu.cuMemCreate(size, properties, 0))
    if code:
        return code, None
    address = ok(cu.cuMemAddressReserve(size, 0, 0, 0))
    ok((*cu.cuMemMap(address, size, 0, handle, 0), None))
    again = ok(cu.cuMemRetainAllocationHandle(int(address)))
    ok((*cu.cuMemRelease(handle), None))
    ok((*cu.cuMemRelease(again), None))
    return 0, (address, size)


def unmap(taken: tuple[Any, int]) -> None:
    ok((*cu.cuMemUnmap(*taken), None))
    ok((*cu.cuMemAddressFree(*taken), None))


def code_of(variable_bytes: int) -> bytes:
    size = min(variable_bytes, 4000 * MIB)
    head = f".version 7.0\n.target sm_70\n.address_size 64\n.visible .global .align 4 .b8 variable[{size}];\n"
    return (head + ".visible .entry kernel() { ret; }\n\0").encode()


def library(size: int) -> Answer:
    code, loaded = plain(cu.cuLibraryLoadData(code_of(size), [], [], 0, [], [], 0))
    if code:
        return code, None
    code, _ = plain(cu.cuLibraryGetGlobal(loaded, b"variable"))  # may be loaded only now
    if code:
        ok((*cu.cuLibraryUnload(loaded), None))
    return code, loaded


def captured(size: int) -> Answer:
    mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    ok((*cu.cuStreamBeginCapture(stream, mode), None))
    address = ok(cu.cuMemAllocAsync(size, stream))
    ok((*cu.cuMemFreeAsync(address, stream), None))
    graph = ok(cu.cuGraphInstantiate(ok(cu.cuStreamEndCapture(stream)), 0))
    code, _ = plain(cu.cuGraphLaunch(graph, stream))
    ok((*cu.cuStreamSynchronize(stream), None))
    return code, graph


def give_graph(graph: Any) -> None:
    ok((*cu.cuGraphExecDestroy(graph), None))
    ok((*cu.cuDeviceGraphMemTrim(0), None))


def asynchronous(size: int) -> Answer:
    return plain(cu.cuMemAllocAsync(size, stream))


def give_asynchronous(address: Any) -> None:
    ok((*cu.cuMemFreeAsync(address, stream), None))
    ok((*cu.cuStreamSynchronize(stream), None))


def free_at_once(address: Any) -> None:
    ok((*cu.cuMemFree(address), None))
    ok((*cu.cuStreamSynchronize(stream), None))  # the pool keeps it until then


def contexts(size: int) -> Answer:
    """One, or as many as it gets."""
    made: list[Any] = []
    while True:
        code, context = plain(cu.cuCtxCreate(None, 0, 0))
        made += [] if code else [context]
        if code or size == SOME:
            break
    if code:
        give_contexts(made)
    return code, made


def give_contexts(made: list[Any]) -> None:
    for context in made:
        ok((*cu.cuCtxDestroy(context), None))
    ok((*cu.cuCtxSetCurrent(first), None))


def limits(size: int) -> Answer:
    stack = cu.CUlimit.CU_LIMIT_STACK_SIZE
    before = ok(cu.cuCtxGetLimit(stack))
    more = before + 256 if size == SOME else 128 * 1024
    return int(cu.cuCtxSetLimit(stack, more)[0]), before


def give_limit(before: int) -> None:
    ok((*cu.cuCtxSetLimit(cu.CUlimit.CU_LIMIT_STACK_SIZE, before), None))


def registered(size: int) -> Answer:
    memory = ctypes.create_string_buffer(size + 4096)
    address = ctypes.addressof(memory) // 4096 * 4096 + 4096
    return int(cu.cuMemHostRegister(address, size, 0)[0]), (memory, address)


ATTACHED = cu.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value
PATHS = {
    "memory": Path(lambda size: plain(cu.cuMemAlloc(size)), cu.cuMemFree),
    "pitched": Path(lambda size: plain(cu.cuMemAllocPitch(5000, size // 5000, 4)), cu.cuMemFree),
    "managed": Path(lambda size: plain(cu.cuMemAllocManaged(size, ATTACHED)), cu.cuMemFree),
    "asynchronous": Path(asynchronous, give_asynchronous),
    "asynchronous, freed at once": Path(asynchronous, free_at_once),
    "own pool": Path(from_own_pool, give_to_own_pool),
    "virtual": Path(virtual, unmap),
    "array": Path(texels, cu.cuArrayDestroy),
    "array of three dimensions": Path(lambda size: texels(size, depth=2), cu.cuArrayDestroy),
    "mipmap": Path(lambda size: texels(size, levels=5), cu.cuMipmappedArrayDestroy),
    "module": Path(lambda size: plain(cu.cuModuleLoadData(code_of(size))), cu.cuModuleUnload),
    "library": Path(library, cu.cuLibraryUnload),
    "graph": Path(captured, give_graph),
    "limit": Path(limits, give_limit),
    "context": Path(contexts, give_contexts),
}
OF_THE_HOST = {
    "host": Path(lambda size: plain(cu.cuMemHostAlloc(size, 0)), cu.cuMemFreeHost),
    "host, old": Path(lambda size: plain(cu.cuMemAllocHost(size)), cu.cuMemFreeHost),
    "registered": Path(registered, lambda taken: cu.cuMemHostUnregister(taken[1])),
    "virtual of the host": Path(lambda size: virtual(size, HOST), unmap),
}


def step(*words: object) -> None:
    """What was done, for the test to compare with the card."""
    free, total = ok(cu.cuMemGetInfo())
    print(*words, total - free, sep="|", flush=True)
    sys.stdin.readline()


def try_path(name: str, path: Path, refuses: bool) -> None:
    code, taken = path.take(SOME)
    step(name, "taken", code)
    if code == 0:
        path.give(taken)
    step(name, "given back", 0)
    if refuses:
        time.sleep(BETWEEN_REFUSALS)
        print(f"refusing {name}", file=sys.stderr, flush=True)
        code, _ = path.take(MUCH)
        step(name, "refused", code)


def main() -> None:
    step("nothing", "given back", 0)
    for name, path in PATHS.items():
        try_path(name, path, refuses=True)
    for name, path in OF_THE_HOST.items():
        try_path(name, path, refuses=False)
    print("end", flush=True)
