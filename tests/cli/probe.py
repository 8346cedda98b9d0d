"""A small CUDA program for the tests of `aliquot run`: the driver through ctypes, one word a deed.

    probe.py info alloc=64 alloc=64 free copy=4 sleep=0.5 status=3

Prints one JSON object a deed. It imports nothing slow, so that a test takes milliseconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from ctypes import byref, c_int, c_size_t, c_uint64, c_void_p

MIB = 1 << 20
cuda = ctypes.CDLL("libcuda.so.1")
held: list[c_uint64] = []


def check(status: int, what: str) -> None:
    if status:
        sys.exit(f"{what} failed with {status}")


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def start() -> None:
    device, context, name = c_int(), c_void_p(), ctypes.create_string_buffer(128)
    check(cuda.cuInit(0), "cuInit")
    check(cuda.cuDeviceGet(byref(device), 0), "cuDeviceGet")
    check(cuda.cuDevicePrimaryCtxRetain(byref(context), device), "cuDevicePrimaryCtxRetain")
    check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")
    check(cuda.cuDeviceGetName(name, 128, device), "cuDeviceGetName")
    say(deed="start", name=name.value.decode(), pid=os.getpid())


def info(_: str) -> None:
    free, total = c_size_t(), c_size_t()
    check(cuda.cuMemGetInfo_v2(byref(free), byref(total)), "cuMemGetInfo")
    say(deed="info", free=free.value, total=total.value)


def alloc(mebibytes: str) -> None:
    memory = c_uint64()
    status = cuda.cuMemAlloc_v2(byref(memory), c_size_t(int(mebibytes) * MIB))
    if not status:
        held.append(memory)
    say(deed="alloc", status=status)


def free(_: str) -> None:
    check(cuda.cuMemFree_v2(held.pop()), "cuMemFree")


def copy(mebibytes: str) -> None:
    size = int(mebibytes) * MIB
    sent, received = os.urandom(size), ctypes.create_string_buffer(size)
    check(cuda.cuMemcpyHtoD_v2(held[-1], sent, c_size_t(size)), "cuMemcpyHtoD")
    check(cuda.cuMemcpyDtoH_v2(received, held[-1], c_size_t(size)), "cuMemcpyDtoH")
    say(deed="copy", same=received.raw == sent)


def nvml(_: str) -> None:
    class Memory(ctypes.Structure):
        _fields_ = (("total", c_uint64), ("free", c_uint64), ("used", c_uint64))

    library = ctypes.CDLL("libnvidia-ml.so.1")
    count, device, memory = c_int(), c_void_p(), Memory()
    check(library.nvmlInit_v2(), "nvmlInit")
    check(library.nvmlDeviceGetCount_v2(byref(count)), "nvmlDeviceGetCount")
    check(library.nvmlDeviceGetHandleByIndex_v2(0, byref(device)), "nvmlDeviceGetHandleByIndex")
    check(library.nvmlDeviceGetMemoryInfo(device, byref(memory)), "nvmlDeviceGetMemoryInfo")
    say(deed="nvml", count=count.value, total=memory.total, used=memory.used)


DEEDS = {
    "info": info,
    "alloc": alloc,
    "free": free,
    "copy": copy,
    "nvml": nvml,
    "sleep": lambda seconds: time.sleep(float(seconds)),
    "kill": lambda number: os.kill(os.getpid(), int(number)),
    "status": lambda status: sys.exit(int(status)),
}

if __name__ == "__main__":
    start()
    for word in sys.argv[1:]:
        deed, _, argument = word.partition("=")
        DEEDS[deed](argument)
