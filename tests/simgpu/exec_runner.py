"""Runs kernels on the interpreter alone, through the development tool exec-run."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pytest

ISAS = ("avx512", "avx2", "baseline")
HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"


class Target(TypedDict):
    """The card and the PTX version that a kernel of run_lanes is written for."""

    target: str
    version: str


@dataclass(frozen=True)
class Outcome:
    """What became of a run: exec-run's report, the arrays after it, and what the kernel printed."""

    report: dict[str, Any]
    arrays: list[np.ndarray]
    printed: str

    @property
    def fault(self) -> int:
        return int(self.report["fault"])


# exec::FaultKind
NO_FAULT, ILLEGAL_ADDRESS, MISALIGNED, _SPACE, TRAP, ASSERT = range(6)
ILLEGAL_INSTRUCTION, INVALID_PC, STACK_OVERFLOW = 6, 7, 8


class Runner:
    """Runs PTX kernels. Arrays are buffers that come back changed; Python numbers are 32-bit values."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def refuse(self, ptx: str) -> dict[str, Any]:
        """The report of a module that must not compile."""
        done = self._start(ptx, "none", [])
        assert done.returncode == 3, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(
        self,
        ptx: str,
        kernel: str,
        *arguments: np.ndarray | int | np.generic,
        grid: tuple[int, ...] = (1,),
        block: tuple[int, ...] = (32,),
        options: tuple[str, ...] = (),
        isa: str | None = None,
        fault: int = NO_FAULT,
    ) -> Outcome:
        """Runs a kernel and checks how it ended."""
        words = ["--grid", ",".join(map(str, grid)), "--block", ",".join(map(str, block)), *options]
        files: list[tuple[Path, np.ndarray]] = []
        for number, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray):
                file = self._folder / f"{number}.bin"
                file.write_bytes(argument.tobytes())
                files.append((file, argument))
                words.append(f"inout:{file}")
            else:
                words.append(
                    "hex:" + (np.int32(argument) if isinstance(argument, int) else argument).tobytes().hex()
                )
        done = self._start(ptx, kernel, words, isa)
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["fault"] == fault, report["message"]
        arrays = [np.frombuffer(f.read_bytes(), dtype=a.dtype).reshape(a.shape) for f, a in files]
        return Outcome(report, arrays, done.stderr)

    def _start(
        self, ptx: str, kernel: str, words: list[str], isa: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        if "ALIQUOT_PTX_RECORD" in os.environ:  # see test_ptx_coverage.py
            with Path(os.environ["ALIQUOT_PTX_RECORD"]).open("a") as record:
                record.write(ptx + "\n")
            pytest.skip("only recorded")
        file = self._folder / "kernel.ptx"
        file.write_text(ptx if ".version" in ptx else HEADER + ptx)
        env = {**os.environ, **({"ALIQUOT_SIMGPU_ISA": isa} if isa else {})}
        return subprocess.run(
            [str(self._program), str(file), kernel, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=env,
        )


def find_program(build: Path) -> Path:
    found = sorted(p for p in build.rglob("exec-run") if p.is_file())
    if not found:
        pytest.fail(f"no exec-run in {build}: run `make native`, or set ALIQUOT_BUILD_DIR", pytrace=False)
    return found[0]


def run_lanes(
    runner: Runner,
    code: str,
    words: np.ndarray,
    outputs: int,
    *,
    declarations: str = "",
    target: str = "sm_80",
    version: str = "8.6",
    isa: str | None = None,
    fault: int = NO_FAULT,
) -> np.ndarray:
    """Runs `code` once a thread, one block: row t of `words` is what thread t finds in %i0, %i1, ... and the
    result's row t what it left in %o0, %o1, ... (32 bits each).

    %b, %h and %x registers of 32, 16 and 64 bits, %f floats and %p predicates are there to be used."""
    threads, inputs = words.shape
    loads = [f"ld.global.b32 %i{i}, [%from+{4 * i}];" for i in range(inputs)]
    stores = [f"st.global.b32 [%to+{4 * i}], %o{i};" for i in range(outputs)]
    ptx = "\n".join(
        [
            f".version {version}\n.target {target}\n.address_size 64",
            ".visible .entry k(.param .u64 words, .param .u64 results) {",
            f".reg .b32 %i<{inputs + 1}>; .reg .b32 %o<{outputs + 1}>; .reg .b32 %me; .reg .b64 %from, %to;",
            ".reg .b32 %b<20>; .reg .b16 %h<20>; .reg .b64 %x<20>; .reg .f32 %f<20>; .reg .f64 %g<20>;",
            ".reg .pred %p<9>;",
            declarations,
            "ld.param.u64 %from, [words]; ld.param.u64 %to, [results]; mov.u32 %me, %tid.x;",
            f"mad.wide.u32 %from, %me, {4 * inputs}, %from; mad.wide.u32 %to, %me, {4 * outputs}, %to;",
            *loads,
            code,
            *stores,
            "ret; }",
        ]
    )
    out = np.zeros((threads, outputs), np.uint32)
    given = np.ascontiguousarray(words, np.uint32)
    return runner.run(ptx, "k", given, out, block=(threads,), isa=isa, fault=fault).arrays[1]
