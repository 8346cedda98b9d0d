"""Prints the mean time of some calls of the driver, in nanoseconds, as JSON."""

# The names of cuda.bindings are made at run time.
# pyright: reportAttributeAccessIssue=false

import json
import time

from cuda.bindings import driver as cuda

REPEAT = 20_000
WARM_UP = 1_000


def mean_ns(action) -> float:
    """The mean over many repetitions, after some that do not count."""
    for _ in range(WARM_UP):
        action()
    begin = time.perf_counter_ns()
    for _ in range(REPEAT):
        action()
    return (time.perf_counter_ns() - begin) / REPEAT


cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
held = cuda.cuMemAlloc(1 << 20)[1]
print(
    json.dumps(
        {
            "mem_info": mean_ns(cuda.cuMemGetInfo),
            "alloc_free": mean_ns(lambda: cuda.cuMemFree(cuda.cuMemAlloc(1 << 20)[1])),
            "set": mean_ns(lambda: cuda.cuMemsetD8Async(held, 0, 16, 0)),
        }
    )
)
