"""Work for the simulated card, as tests of the limiter's compute side give it: naps, graphs, captures."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "driver"))
from card_client import NAP, Card, check, cu, np  # pyright: ignore[reportMissingImports]

# Waits until another kernel has stored a number there.
WAIT = """
.visible .entry wait(.param .u64 place) {
  .reg .u64 %rd<3>; .reg .u32 %r<3>; .reg .pred %p;
  ld.param.u64 %rd1, [place];
again:
  nanosleep.u32 20000;
  ld.volatile.global.u32 %r1, [%rd1];
  setp.eq.u32 %p, %r1, 0;
  @%p bra again;
  ret;
}
.visible .entry signal(.param .u64 place) {
  .reg .u64 %rd<3>; .reg .u32 %r<3>;
  ld.param.u64 %rd1, [place];
  mov.u32 %r1, 1;
  st.volatile.global.u32 [%rd1], %r1;
  ret;
}
"""


def say(*words: object) -> None:
    """A line for the test, at once."""
    print(*words, flush=True)


class Worker:
    """A card with kernels that nap, wait and signal; launches are as cheap as Python makes them."""

    def __init__(self, card: int = 0) -> None:
        self.card = Card(NAP, WAIT, number=card)
        self.stream = check(cu.cuStreamCreate(1))
        self._functions: dict[str, Any] = {}
        self._arguments: dict[int, Any] = {}

    def function(self, kernel: str) -> Any:
        if kernel not in self._functions:
            self._functions[kernel] = check(cu.cuModuleGetFunction(self.card.module, kernel.encode()))
        return self._functions[kernel]

    def arguments(self, value: int) -> int:
        if value not in self._arguments:
            number = np.array([value], dtype=np.uint64)
            self._arguments[value] = (number, np.array([number.ctypes.data], dtype=np.uint64))
        return self._arguments[value][1].ctypes.data

    def launch(self, kernel: str, value: int, stream: Any = None) -> None:
        where = self.stream if stream is None else stream
        check(cu.cuLaunchKernel(self.function(kernel), 1, 1, 1, 1, 1, 1, 0, where, self.arguments(value), 0))

    def nap(self, ns: int, stream: Any = None) -> None:
        self.launch("nap", ns, stream)

    def finish(self) -> None:
        check(cu.cuStreamSynchronize(self.stream))

    def capture(self, naps: int, ns: int) -> Any:
        """A graph of naps, captured in the mode that forbids most."""
        check(cu.cuStreamBeginCapture(self.stream, cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
        for _ in range(naps):
            self.nap(ns)
        graph = check(cu.cuStreamEndCapture(self.stream))
        return check(cu.cuGraphInstantiate(graph, 0))

    def nap_for(self, seconds: float, ns: int, depth: int = 64) -> int:
        """Keeps `depth` naps queued; how many there were."""
        events: list[Any] = []
        launched = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.nap(ns)
            launched += 1
            if launched % (depth // 2) == 0:
                event = check(cu.cuEventCreate(2))
                check(cu.cuEventRecord(event, self.stream))
                events.append(event)
                if len(events) > 2:
                    check(cu.cuEventSynchronize(events.pop(0)))
        self.finish()
        return launched
