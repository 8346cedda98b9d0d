"""A slice that keeps the card of a suite busy, so that the suite's own work is done in turns.

Run as a program it is that neighbour: kernels of a millisecond, always some of them queued. They wait on the
card instead of computing, which leaves the machine's cores to the suite.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from conformance.suite import SuiteError

VRAM: Final = "1Gi"
"""Enough for a context of any card."""
_KERNEL_NS: Final = 1_000_000
_QUEUED: Final = 32
_START_S: Final = 120
_END_S: Final = 10
_READY: Final = b"working\n"
_COMMAND: Final = (sys.executable, "-m", "aliquot", "run", "--simulate", "--quiet", "--vram", VRAM, "--")
_PTX: Final = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry occupy(.param .u64 nanoseconds) {
  .reg .u64 %now, %end;
  .reg .pred %early;
  ld.param.u64 %end, [nanoseconds];
  mov.u64 %now, %globaltimer;
  add.u64 %end, %end, %now;
wait:
  nanosleep.u32 200000;
  mov.u64 %now, %globaltimer;
  setp.lt.u64 %early, %now, %end;
  @%early bra wait;
  ret;
}
\0"""


@contextmanager
def busy_neighbour(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Keeps the emptiest card of a simulated machine busy. Raises `SuiteError` if it does not to the end."""
    log = folder / "neighbour.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*_COMMAND, sys.executable, str(Path(__file__).resolve())],
            env={**environment, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout
        if process.stdout.readline() != _READY:
            raise SuiteError(f"the busy neighbour did not start: {log.read_text(errors='replace').strip()}")
        yield
        if process.poll() is not None:
            raise SuiteError(f"the busy neighbour ended: {log.read_text(errors='replace').strip()}")
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """`aliquot run` passes the signal on, and removes the slice."""
    process.terminate()
    assert process.stdout
    process.stdout.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _work() -> None:
    import numpy as np
    from cuda.bindings import driver  # pyright: ignore[reportAttributeAccessIssue]

    def call(name: str, *arguments: Any) -> Any:
        code, *values = getattr(driver, name)(*arguments)
        if int(code):
            raise RuntimeError(f"{name}: {code}")
        return values[0] if values else None

    call("cuInit", 0)
    call("cuCtxSetCurrent", call("cuDevicePrimaryCtxRetain", call("cuDeviceGet", 0)))
    kernel = call("cuModuleGetFunction", call("cuModuleLoadData", _PTX), b"occupy")
    duration = np.array([_KERNEL_NS], dtype=np.uint64)
    arguments = np.array([duration.ctypes.data], dtype=np.uint64)
    ends = [call("cuEventCreate", driver.CUevent_flags.CU_EVENT_DISABLE_TIMING) for _ in range(2)]
    number = 0
    while True:
        for _ in range(_QUEUED // 2):
            call("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, 0, arguments.ctypes.data, 0)
        call("cuEventRecord", ends[number % 2], 0)
        number += 1
        call("cuEventSynchronize", ends[number % 2])
        if number == 2:
            sys.stdout.buffer.write(_READY)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    _work()
