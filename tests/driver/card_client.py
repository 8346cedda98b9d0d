"""What the programs that tests of the engine start have in common: the simulated driver, kernels, launches.

Imported by programs, not by tests: it loads the simulated library before cuda-bindings looks for one.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

ctypes.CDLL("libcuda.so.1", ctypes.RTLD_GLOBAL)
from cuda.bindings import driver  # noqa: E402  # pyright: ignore[reportAttributeAccessIssue]

cu: Any = driver

HEAD = ".version 7.0\n.target sm_70\n.address_size 64\n"

# Waits so many nanoseconds.
NAP = """
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
"""

# Computes for so many rounds.
WORK = """
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
"""


def name(code: Any) -> str:
    """The CUresult without its prefix."""
    return code.name.removeprefix("CUDA_ERROR_").removeprefix("CUDA_")


def check(answer: tuple[Any, ...]) -> Any:
    """The values of a call. Raises RuntimeError with the name of its code where it did not succeed."""
    if answer[0] != cu.CUresult.CUDA_SUCCESS:
        raise RuntimeError(name(answer[0]))
    return answer[1] if len(answer) == 2 else answer[1:]


class Card:
    """The primary context of a card, with a module of kernels that take one number."""

    def __init__(self, *kernels: str, number: int = 0) -> None:
        check(cu.cuInit(0))
        self.device = check(cu.cuDeviceGet(number))
        self.context = check(cu.cuDevicePrimaryCtxRetain(self.device))
        check(cu.cuCtxSetCurrent(self.context))
        self.module = check(cu.cuModuleLoadData((HEAD + "".join(kernels) + "\0").encode()))

    def start(
        self, kernel: str, value: int, stream: object = 0, blocks: int = 1, threads: int = 1
    ) -> tuple[Any, ...]:
        """Launches a kernel; what cuLaunchKernel answers."""
        function = check(cu.cuModuleGetFunction(self.module, kernel.encode()))
        argument = np.array([value], dtype=np.uint64)
        pointers = np.array([argument.ctypes.data], dtype=np.uint64)
        return cu.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, pointers.ctypes.data, 0)
