"""What the streams of one process do beside each other; prints JSON. test_engine.py starts it."""

from __future__ import annotations

import json
import time

from card_client import NAP, WORK, Card, check, cu

FLAGS = """
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
"""

NON_BLOCKING = 1


class Streams(Card):
    def __init__(self) -> None:
        super().__init__(FLAGS, NAP, WORK)

    def launch(self, kernel: str, value: int, stream: object, blocks: int = 1) -> None:
        check(self.start(kernel, value, stream, blocks, threads=32))

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
    card = Streams()
    flags = [card.flag_ms(waiter, setter) for waiter, setter in ((0, 0), (-5, 0), (0, -5))]
    high, low, running = card.priorities()
    answer = {"flags_ms": flags, "high_ms": high, "low_ms": low, "low_was_running": running}
    print(json.dumps(answer | {"naps_ms": card.naps_ms()}))


main()
