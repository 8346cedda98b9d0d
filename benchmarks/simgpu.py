"""Speed of the simulated GPU's interpreter, and the time of an empty launch.

Lane-instructions a second: PTX instructions times the lanes that were active in them, over the processor
time of one thread; decoding is not counted. Each figure is given for the best vector instruction set of
this processor and, with a suffix, for the lower ones. The kernels are in `kernels/simgpu.cu`. A goal is what
makes the simulated GPU usable for the examples and the tests on two laptop cores.

An empty launch is measured through the driver API, in batches with one synchronisation at their end: what a
program that launches many small kernels pays for each.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parent / "kernels" / "simgpu.ptx"
LAUNCHES = 500  # a batch of empty launches


@dataclass(frozen=True)
class Workload:
    """One kernel, its launch, and its goals in lane-instructions a second by instruction set."""

    name: str
    kernel: str
    launch: tuple[str, ...]
    goals: dict[str, float]


WORKLOADS = (
    Workload(
        "fma",
        "fma_loop",
        ("--grid", "8", "--block", "256", "zero:8192", "s32:20000", "f32:0.5", "f32:1"),
        {"avx512": 5e9, "avx2": 2e9},
    ),
    Workload(
        "nbody",
        "nbody",
        ("--grid", "16", "--block", "256", "zero:65536", "zero:65536", "s32:4096", "f32:0.1"),
        {"avx512": 1e9, "avx2": 1e9},
    ),
    Workload(
        "matmul",
        "matmul",
        ("--grid", "16,16", "--block", "16,16", *["zero:262144"] * 3, "s32:256"),
        {"avx512": 1e9, "avx2": 1e9},
    ),
    Workload(
        "divergent",
        "divergent",
        ("--grid", "64", "--block", "256", "zero:65536", "s32:200"),
        {"avx512": 5e8, "avx2": 5e8},
    ),
)


def _run(program: Path, workload: Workload, isa: str) -> dict[str, Any]:
    done = subprocess.run(
        [str(program), str(KERNELS), workload.kernel, *workload.launch],
        env={**os.environ, "ALIQUOT_SIMGPU_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    if result["fault"]:
        raise RuntimeError(result["message"])
    return result


def _speeds(program: Path, workload: Workload, isa: str, samples: int) -> list[float] | None:
    """Lane-instructions a second, or None where this processor lacks the instruction set."""
    speeds: list[float] = []
    for _ in range(samples):
        result = _run(program, workload, isa)
        if result["isa"] != isa:
            return None
        speeds.append(result["lane_instructions"] / result["cpu_seconds"])
    return speeds


def _empty_launches(library: str, samples: int) -> list[float]:
    """Microseconds of an empty launch, one value a batch. Run in a process of its own."""
    cuda = ctypes.CDLL(library)

    def call(name: str, *arguments: object) -> None:
        if code := getattr(cuda, name)(*arguments):
            raise RuntimeError(f"{name} returned {code}")

    context, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    call("cuCtxSetCurrent", context)
    call("cuModuleLoadData", ctypes.byref(module), KERNELS.read_bytes() + b"\0")
    call("cuModuleGetFunction", ctypes.byref(function), module, b"empty")
    times: list[float] = []
    for _ in range(samples + 1):  # the first batch warms up
        started = time.perf_counter()
        for _ in range(LAUNCHES):
            call("cuLaunchKernel", function, 1, 1, 1, 32, 1, 1, 0, None, None, None)
        call("cuCtxSynchronize")
        times.append((time.perf_counter() - started) / LAUNCHES * 1e6)
    return times[1:]


def _measure_empty_launches(library: Path, home: Path, samples: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, __file__, str(library), str(samples)],
        env={**os.environ, "ALIQUOT_SIMGPU_HOME": str(home), "ALIQUOT_SIMGPU_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    values: list[float] = json.loads(done.stdout)
    return values


def _register() -> None:
    from aliquot import native
    from aliquot.bench import Report, benchmark, native_program

    @benchmark("simgpu", summary="interpreter speed and launch cost of the simulated GPU")
    def measure(report: Report) -> None:
        program = native_program("exec-run")
        best = str(_run(program, WORKLOADS[0], "avx512")["isa"])
        report.note(f"one thread, {best}; lane-instructions a second of processor time")
        for workload in WORKLOADS:
            for isa in ("avx512", "avx2", "baseline"):
                name = f"simgpu.{workload.name}_lane_instr_per_s" + ("" if isa == best else f".{isa}")
                speeds = _speeds(program, workload, isa, report.samples(10))
                if speeds is None:
                    report.skip(name, f"this processor has no {isa}")
                else:
                    report.add(name, speeds, unit="1/s", better="higher", goal=workload.goals.get(isa))
        values = _measure_empty_launches(
            Path(str(native.path("simgpu/libcuda.so.1"))), report.scratch, report.samples(20)
        )
        report.add("simgpu.empty_launch_us", values, unit="us", better="lower", goal=20.0)


if __name__ == "__main__":
    print(json.dumps(_empty_launches(sys.argv[1], int(sys.argv[2]))))
else:
    _register()
