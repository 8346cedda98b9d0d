"""numba-cuda's kernels, captured in the mode that forbids most, while another thread works; prints `done`."""

from __future__ import annotations

import sys
import threading
from typing import Any, cast

import numpy as np
from cuda.bindings import driver  # pyright: ignore[reportAttributeAccessIssue]
from numba import cuda as numba_cuda

cu: Any = driver
cuda = cast("Any", numba_cuda)
ROUNDS = int(sys.argv[1])
GLOBAL = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL


@cuda.jit("void(int64[:])")
def add(x: Any) -> None:
    cuda.atomic.add(x, cuda.threadIdx.x, 1)


def check(answer: tuple[Any, ...]) -> Any:
    assert answer[0] == cu.CUresult.CUDA_SUCCESS, answer
    return answer[1] if len(answer) == 2 else None


captured, beside = (cuda.to_device(np.zeros(64, np.int64)) for _ in range(2))
stream = check(cu.cuStreamCreate(1))
mine = cuda.external_stream(int(stream))
add[1, 64, mine](captured)  # its code is loaded before the capture
mine.synchronize()
over = threading.Event()
launched = 0


def work() -> None:
    global launched
    theirs = cuda.external_stream(int(check(cu.cuStreamCreate(1))))
    while not over.is_set():
        add[1, 64, theirs](beside)
        launched += 1
    theirs.synchronize()


context = check(cu.cuCtxGetCurrent())
other = threading.Thread(target=lambda: (check(cu.cuCtxSetCurrent(context)), work()))
other.start()
for _ in range(ROUNDS):
    check(cu.cuStreamBeginCapture(stream, GLOBAL))
    for _ in range(5):
        add[1, 64, mine](captured)
    graph = check(cu.cuGraphInstantiate(check(cu.cuStreamEndCapture(stream)), 0))
    for _ in range(2):
        check(cu.cuGraphLaunch(graph, stream))
    add[1, 64, mine](captured)
mine.synchronize()
over.set()
other.join()
assert captured.copy_to_host().tolist() == [1 + ROUNDS * 11] * 64
assert beside.copy_to_host().tolist() == [launched] * 64
print("done", flush=True)
