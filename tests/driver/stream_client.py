"""What the streams of one process do beside each other; prints JSON. test_engine.py starts it."""

from __future__ import annotations

import ctypes
import json
import time
from typing import Any

import numpy as np

ctypes.CDLL("libcuda.so.1", ctypes.RTLD_GLOBAL)
from cuda.bindings import driver as cu  # pyright: ignore[reportAttributeAccessIssue]  # noqa: E402 - the simulated library has to be loaded first

PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry await_flag(.param .u64 flag) {
  .reg .u64 %rd<3>; .reg .u32 %r<3>; .reg .pred %p;
  ld.param.u64 %rd1, [flag];
again:
  ld.volatile.global.u32 %r1, [%rd1];
  setp.eq.u32 %p, %r1, 0;
  @%p bra again;
  ret;
}
.visible .entry set_flag(.param .u64 flag) {
  .reg .u64 %rd<3>; .reg .u32 %r<3>;
  ld.param.u64 %rd1, [flag];
  mov.u32 %r1, 1;
  st.volatile.global.u32 [%rd1], %r1;
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
\0"""

NON_BLOCKING = 1


def check(answer: tuple) -> Any:
    assert answer[0] == cu.CUresult.CUDA_SUCCESS, answer[0]
    return answer[1] if len(answer) == 2 else answer[1:]


class Card:
    def __init__(self) -> None:
        check(cu.cuInit(0))
        self.context = check(cu.cuDevicePrimaryCtxRetain(0))
        check(cu.cuCtxSetCurrent(self.context))
        self.module = check(cu.cuModuleLoadData(PTX))

    def launch(self, kernel: str, value: int, stream: object, blocks: int = 1) -> None:
        function = check(cu.cuModuleGetFunction(self.module, kernel.encode()))
        argument = np.array([value], dtype=np.uint64)
        pointers = np.array([argument.ctypes.data], dtype=np.uint64)
        check(cu.cuLaunchKernel(function, blocks, 1, 1, 32, 1, 1, 0, stream, pointers.ctypes.data, 0))

    @staticmethod
    def stream(priority: int = 0) -> object:
        return check(cu.cuStreamCreateWithPriority(NON_BLOCKING, priority))

    def flag_ms(self, waiter_priority: int, setter_priority: int) -> float:
        """Until a kernel that spins on a flag is done, which one in another stream sets after it."""
        flag = int(check(cu.cuMemAlloc(4)))
        check(cu.cuMemsetD32(flag, 0, 1))
        check(cu.cuCtxSynchronize())
        waiter, setter = self.stream(waiter_priority), self.stream(setter_priority)
        begin = time.monotonic()
        self.launch("await_flag", flag, waiter, blocks=4)
        self.launch("set_flag", flag, setter)
        check(cu.cuStreamSynchronize(waiter))
        return (time.monotonic() - begin) * 1e3

    def priorities(self) -> tuple[float, float, bool]:
        """How long a kernel takes that comes with a high priority beside a large grid, and that grid."""
        low, high = self.stream(0), self.stream(-5)
        begin = time.monotonic()
        self.launch("work", 100000, low, blocks=300)
        time.sleep(0.02)
        came = time.monotonic()
        self.launch("work", 1000, high)
        check(cu.cuStreamSynchronize(high))
        high_ms = (time.monotonic() - came) * 1e3
        running = cu.cuStreamQuery(low)[0] == cu.CUresult.CUDA_ERROR_NOT_READY
        check(cu.cuStreamSynchronize(low))
        return high_ms, (time.monotonic() - begin) * 1e3, running

    def naps_ms(self) -> float:
        """Four kernels that wait 50 ms each, in four streams."""
        streams = [self.stream() for _ in range(4)]
        begin = time.monotonic()
        for stream in streams:
            self.launch("nap", 50_000_000, stream)
        check(cu.cuCtxSynchronize())
        return (time.monotonic() - begin) * 1e3


def main() -> None:
    card = Card()
    flags = [card.flag_ms(waiter, setter) for waiter, setter in ((0, 0), (-5, 0), (0, -5))]
    high, low, running = card.priorities()
    answer = {"flags_ms": flags, "high_ms": high, "low_ms": low, "low_was_running": running}
    print(json.dumps(answer | {"naps_ms": card.naps_ms()}))


main()
