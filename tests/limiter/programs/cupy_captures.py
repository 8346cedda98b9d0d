"""CuPy captures graphs in the mode that forbids most, while another thread of its works; prints `done`."""

from __future__ import annotations

import sys
import threading

import cupy
import numpy as np

ROUNDS = int(sys.argv[1])
GLOBAL = cupy.cuda.runtime.streamCaptureModeGlobal
code = 'extern "C" __global__ void add(float* x, float y) { atomicAdd(x + threadIdx.x, y); }'
add = cupy.RawKernel(code, "add")
captured, beside = cupy.zeros(64, cupy.float32), cupy.zeros(64, cupy.float32)
add((1,), (64,), (captured, np.float32(0)))
cupy.cuda.Device().synchronize()
over = threading.Event()
launched = 0


def work() -> None:
    global launched
    with cupy.cuda.Stream(non_blocking=True) as stream:
        while not over.is_set():
            add((1,), (64,), (beside, np.float32(1)))
            launched += 1
        stream.synchronize()


other = threading.Thread(target=work)
other.start()
with cupy.cuda.Stream(non_blocking=True) as stream:
    for _ in range(ROUNDS):
        stream.begin_capture(GLOBAL)
        for _ in range(5):
            add((1,), (64,), (captured, np.float32(1)))
        graph = stream.end_capture()
        graph.launch(stream)
        add((1,), (64,), (captured, np.float32(1)))
        graph.launch(stream)
    stream.synchronize()
over.set()
other.join()
assert captured.get().tolist() == [ROUNDS * 11] * 64
assert beside.get().tolist() == [launched] * 64
print("done", flush=True)
