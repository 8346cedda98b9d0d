"""A program on the first card that belongs to no slice and does not listen to SIGTERM.

Says when it began to make its context (CLOCK_MONOTONIC, ns), and then stays.
"""

from __future__ import annotations

import ctypes
import signal
import time
from ctypes import byref, c_int, c_size_t, c_uint64, c_void_p

BYTES = 64 << 20


def check(status: int) -> None:
    """Ends the program where a call failed."""
    if status:
        raise SystemExit(f"the driver answered {status}")


def main() -> None:
    """Takes a context and some memory, and waits."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, memory = c_int(), c_void_p(), c_uint64()
    check(cuda.cuInit(0))
    check(cuda.cuDeviceGet(byref(device), 0))
    began = time.monotonic_ns()
    check(cuda.cuDevicePrimaryCtxRetain(byref(context), device))
    check(cuda.cuCtxSetCurrent(context))
    check(cuda.cuMemAlloc_v2(byref(memory), c_size_t(BYTES)))
    print(began, flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main()
