"""A program that the tests of the engine start: one process on the simulated card, told what to do by lines.

Prints `ready` once its context stands, then one line for each line that it reads:
  sleep MS COUNT      COUNT kernels that wait so long each, one after another; answers the seconds they took
  spin MS             kernels that work for so long altogether
  elapsed MS          what two events say about a kernel that waits so long
  elapsed_work N      the same of a kernel that computes for so many rounds
  launch KERNEL N | sync | alloc BYTES | name | total | count | sm
Answers are values, or the name of a CUresult.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from card_client import NAP, WORK, Card, check, cu, name

WILD = """
.visible .entry wild(.param .u64 unused) {
  .reg .u64 %rd<3>;
  mov.u64 %rd1, 64;
  st.global.u64 [%rd1], %rd1;
  ret;
}
"""


class Client(Card):
    def __init__(self) -> None:
        super().__init__(NAP, WORK, WILD)

    def launch(self, kernel: str, value: int | str) -> str:
        return name(self.start(kernel, int(value))[0])

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

    def elapsed(self, ms: str) -> Any:
        return self._elapsed("nap", int(float(ms) * 1e6))

    def elapsed_work(self, rounds: str) -> Any:
        return self._elapsed("work", int(rounds))

    def _elapsed(self, kernel: str, value: int) -> Any:
        events = [check(cu.cuEventCreate(0)) for _ in range(2)]
        cu.cuEventRecord(events[0], 0)
        self.launch(kernel, value)
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
