"""In a slice: the driver reports the slice's memory, gives that and no more, and goes on working."""

# The names of cuda.bindings are made at run time.
# pyright: reportAttributeAccessIssue=false

import sys

from cuda.bindings import driver as cuda

PIECE = 64 << 20


def call(answer):
    """The value of a driver call that must succeed."""
    status, *values = answer
    if status != cuda.CUresult.CUDA_SUCCESS:
        sys.exit(f"a call failed with {status.name}")
    return values[0] if len(values) == 1 else values


def main() -> None:
    """Judges; ends with a reason where something is wrong."""
    limit = int(sys.argv[1])
    call(cuda.cuInit(0))
    call(cuda.cuCtxSetCurrent(call(cuda.cuDevicePrimaryCtxRetain(call(cuda.cuDeviceGet(0))))))
    free, total = call(cuda.cuMemGetInfo())
    if total != limit or free > total:
        sys.exit(f"the driver reports {free} of {total} bytes, and the limit is {limit}")
    pieces = []
    while True:
        status, memory = cuda.cuMemAlloc(PIECE)
        if status != cuda.CUresult.CUDA_SUCCESS:
            break
        pieces.append(memory)
        if len(pieces) * PIECE > limit:
            sys.exit(f"{len(pieces) * PIECE} bytes were given, and the limit is {limit}")
    if status != cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        sys.exit(f"over the limit the driver said {status.name}")
    call(cuda.cuMemFree(pieces.pop()))
    call(cuda.cuMemFree(call(cuda.cuMemAlloc(PIECE))))
    print(
        f"{total >> 20} MiB reported, {len(pieces) * PIECE >> 20} MiB given, then a clean out-of-memory error"
    )


main()
