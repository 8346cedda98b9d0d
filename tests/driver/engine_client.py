"""A program that the tests of the engine start: one process on the simulated card, told what to do by lines.

Prints `ready` once its context stands, then one line for each line that it reads:
  sleep MS COUNT      COUNT kernels that wait so long each, one after another; answers the seconds they took
  spin MS             kernels that work for so long altogether
  elapsed MS          what two events say about a kernel that waits so long
  launch KERNEL N | sync | alloc BYTES | name | total | count | sm
Answers are values, or the name of a CUresult.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

import numpy as np

ctypes.CDLL("libcuda.so.1", ctypes.RTLD_GLOBAL)
from cuda.bindings import driver as cu  # pyright: ignore[reportAttributeAccessIssue]  # noqa: E402 - the simulated library has to be loaded first

PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry nap(.param .u64 ns) {
  .reg .u64 %rd<5>; .reg .pred %p;
  ld.param.u64 %rd1, [ns];
  mov.u64 %rd2, %globaltimer;
  add.u64 %rd1, %rd1, %rd2;
again:
  nanosleep.u32 20000;
  mov.u64 %rd3, %globaltimer;
  setp.lt.u64 %p, %rd3, %rd1;
  @%p bra again;
  ret;
}
.visible .entry work(.param .u64 rounds) {
  .reg .u64 %rd<5>; .reg .pred %p;
  ld.param.u64 %rd1, [rounds];
  mov.u64 %rd2, 0;
again:
  add.u64 %rd2, %rd2, 1;
  setp.lt.u64 %p, %rd2, %rd1;
  @%p bra again;
  ret;
}
.visible .entry wild(.param .u64 unused) {
  .reg .u64 %rd<3>;
  mov.u64 %rd1, 64;
  st.global.u64 [%rd1], %rd1;
  ret;
}
\0"""


def name(code: cu.CUresult) -> str:
    return code.name.removeprefix("CUDA_ERROR_").removeprefix("CUDA_")


def check(answer: tuple) -> Any:
    if answer[0] != cu.CUresult.CUDA_SUCCESS:
        raise RuntimeError(name(answer[0]))
    return answer[1] if len(answer) == 2 else answer[1:]


class Client:
    def __init__(self) -> None:
        check(cu.cuInit(0))
        self.device = check(cu.cuDeviceGet(0))
        self.context = check(cu.cuDevicePrimaryCtxRetain(self.device))
        check(cu.cuCtxSetCurrent(self.context))
        module = check(cu.cuModuleLoadData(PTX))
        self.kernels = {
            kernel: check(cu.cuModuleGetFunction(module, kernel.encode()))
            for kernel in ("nap", "work", "wild")
        }

    def launch(self, kernel: str, value: int | str) -> str:
        argument = np.array([int(value)], dtype=np.uint64)
        pointers = np.array([argument.ctypes.data], dtype=np.uint64)
        code = cu.cuLaunchKernel(self.kernels[kernel], 1, 1, 1, 1, 1, 1, 0, 0, pointers.ctypes.data, 0)[0]
        return name(code)

    def sync(self) -> str:
        return name(cu.cuCtxSynchronize()[0])

    def sleep(self, ms: str, count: str) -> float:
        begin = time.monotonic()
        for _ in range(int(count)):
            self.launch("nap", int(float(ms) * 1e6))
            self.sync()
        return time.monotonic() - begin

    def spin(self, ms: str) -> str:
        end = time.monotonic() + int(ms) / 1000
        while time.monotonic() < end:
            if self.launch("work", 20000) != "SUCCESS" or self.sync() != "SUCCESS":
                break
        return self.sync()

    def elapsed(self, ms: str) -> object:
        events = [check(cu.cuEventCreate(0)) for _ in range(2)]
        cu.cuEventRecord(events[0], 0)
        self.launch("nap", int(float(ms) * 1e6))
        cu.cuEventRecord(events[1], 0)
        self.sync()
        return check(cu.cuEventElapsedTime(*events))

    def alloc(self, size: str) -> str:
        return name(cu.cuMemAlloc(int(size))[0])

    def name(self) -> str:
        return check(cu.cuDeviceGetName(128, self.device)).split(b"\0")[0].decode()

    def total(self) -> object:
        return check(cu.cuDeviceTotalMem(self.device))

    def count(self) -> object:
        return check(cu.cuDeviceGetCount())

    def sm(self) -> object:
        attribute = cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
        return check(cu.cuDeviceGetAttribute(attribute, self.device))


def main() -> None:
    try:
        client = Client()
    except RuntimeError as refused:
        print(refused, flush=True)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            command, *arguments = line.split()
            print(getattr(client, command)(*arguments), flush=True)
        except RuntimeError as failed:
            print(failed, flush=True)


main()
