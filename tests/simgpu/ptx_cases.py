"""Conformance cases: a line of PTX, values to feed it, and what must come out by an independent reckoning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from ieee import BF16, F16, F32, F64, Format

# PTX type -> (NumPy type, type of loads, stores and registers).
TYPES = {
    "u8": ("uint8", "u8", "u16"),
    "s8": ("int8", "s8", "s16"),
    **{f"u{w}": (f"uint{w}", f"u{w}", f"u{w}") for w in (16, 32, 64)},
    **{f"s{w}": (f"int{w}", f"s{w}", f"s{w}") for w in (16, 32, 64)},
    **{f"b{w}": (f"uint{w}", f"b{w}", f"b{w}") for w in (16, 32, 64)},
    # Floating-point values travel as patterns, so that NaNs and zeros keep their bits on the way.
    "f16": ("uint16", "b16", "b16"),
    "bf16": ("uint16", "b16", "b16"),
    "f16x2": ("uint32", "b32", "b32"),
    "bf16x2": ("uint32", "b32", "b32"),
    "f32": ("uint32", "b32", "f32"),
    "f64": ("uint64", "b64", "f64"),
}
FORMATS: dict[str, Format] = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}
PACKED: dict[str, Format] = {"f16x2": F16, "bf16x2": BF16}  # two of a format, the lower half first
THREADS = 96  # three warps; counts that are no multiple of 32 leave partial ones


@dataclass
class Case:
    """One kernel. `code` reads %a, %b, %c, writes %d, and may use %t0-%t7 of each size and %p1-%p7."""

    name: str
    code: str
    inputs: Sequence[tuple[str, np.ndarray]]
    output: str
    rule: Callable[..., int]  # of a row of inputs, as Python integers
    declarations: str = ""  # inside the kernel
    preamble: str = ""  # before it: functions and variables of the module
    # Fails with a message where `got` is not good enough; None compares patterns, NaNs being equal.
    check: Callable[[np.ndarray, np.ndarray], str | None] | None = None
    threads: int = THREADS
    target: str = "sm_80"
    version: str = "8.0"

    @property
    def count(self) -> int:
        """Threads, each with a row of inputs."""
        return len(self.inputs[0][1])

    @cached_property
    def expected(self) -> np.ndarray:
        """What the rule makes of the inputs, cut to the output's width."""
        dtype = np.dtype(TYPES[self.output][0])
        width = dtype.itemsize * 8
        rows = zip(*(values.tolist() for _, values in self.inputs), strict=True)
        cut = np.array([int(self.rule(*row)) & ((1 << width) - 1) for row in rows], dtype=np.uint64)
        return cut.astype(f"uint{width}").view(dtype)

    def ptx(self) -> str:
        """The module that runs the case."""
        names = "abc"[: len(self.inputs)]
        parameters = "".join(f".param .u64 {n}, " for n in names)
        registers = [f".reg .{TYPES[t][2]} %{n};" for n, (t, _) in zip(names, self.inputs, strict=True)]
        loads = [_access("ld", t, n) for n, (t, _) in zip(names, self.inputs, strict=True)]
        return "\n".join(
            [
                f".version {self.version}\n.target {self.target}\n.address_size 64",
                self.preamble,
                f".visible .entry k({parameters}.param .u64 d, .param .u32 count) {{",
                ".reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %t<8>; .reg .b64 %q<8>;",
                ".reg .f32 %f<8>; .reg .f64 %g<8>; .reg .b32 %i, %n, %x; .reg .b64 %at, %base;",
                *registers,
                f".reg .{TYPES[self.output][2]} %d;",
                self.declarations,
                "mov.u32 %i, %ctaid.x; mov.u32 %n, %ntid.x; mov.u32 %x, %tid.x;",
                "mad.lo.u32 %i, %i, %n, %x; ld.param.u32 %n, [count];",
                "setp.ge.u32 %p0, %i, %n; @%p0 bra END;",
                *loads,
                self.code,
                _access("st", self.output, "d"),
                "END: ret;\n}",
            ]
        )

    def complaint(self, got: np.ndarray) -> str | None:
        """What is wrong with an answer, or None."""
        if self.check is not None:
            return self.check(got, self.expected)
        if self.output in PACKED:
            halves = _differ(got.view(np.uint16), self.expected.view(np.uint16), PACKED[self.output])
            wrong = halves.reshape(-1, 2).any(axis=1)
        else:
            wrong = _differ(got, self.expected, FORMATS.get(self.output))
        return self._show(got, np.flatnonzero(wrong))

    def _show(self, got: np.ndarray, wrong: np.ndarray) -> str | None:
        if len(wrong) == 0:
            return None
        lines = [f"{len(wrong)} of {self.count} wrong: {self.code}"]
        for i in wrong[:8]:
            fed = ", ".join(
                hex(values[i]) if values.dtype.kind == "u" else str(values[i]) for _, values in self.inputs
            )
            lines.append(f"  [{i}] ({fed}): {_shown(got[i])}, expected {_shown(self.expected[i])}")
        return "\n".join(lines)


def _differ(got: np.ndarray, expected: np.ndarray, fmt: Format | None) -> np.ndarray:
    """Where patterns are not the same; with a format, all NaNs are one."""
    wrong = got != expected
    if fmt is not None:
        limit = got.dtype.type(fmt.sign - 1)
        nan = got.dtype.type(fmt.infinity)
        wrong &= ~(((got & limit) > nan) & ((expected & limit) > nan))
    return wrong


def _shown(value: Any) -> str:
    return hex(int(value)) if value.dtype.kind == "u" else str(value)


def _access(instruction: str, kind: str, name: str) -> str:
    dtype, access, _ = TYPES[kind]
    where = f"ld.param.u64 %base, [{name}]; mad.wide.u32 %at, %i, {np.dtype(dtype).itemsize}, %base;"
    if instruction == "ld":
        return f"{where} ld.global.{access} %{name}, [%at];"
    return f"{where} st.global.{access} [%at], %{name};"


# --- values


def integers(kind: str) -> list[int]:
    """Values at the edges of an integer type."""
    info = np.iinfo(TYPES[kind][0])
    width = info.bits
    edges = {0, 1, 2, 3, 5, 7, 31, 32, 33, 100, info.max, info.max - 1, info.min, info.min + 1}
    edges |= {1 << k for k in (width // 2 - 1, width // 2, width - 2)} | {(1 << (width // 2)) - 1}
    edges |= {0x5555555555555555 & info.max, 0x123456789ABCDEF & info.max}
    edges |= {-value for value in edges}
    return sorted(value for value in edges if info.min <= value <= info.max)


def floats(kind: str) -> list[int]:
    """Patterns at the edges of a floating-point type, NaNs included."""
    fmt = FORMATS[kind]
    one = fmt.bias << fmt.fraction
    unit = 1 << fmt.fraction
    positive = [
        0,
        1,
        2,
        unit - 1,
        unit,
        unit + 1,
        3 * unit,
        one - unit,
        one - 1,
        one,
        one + 1,
        one + unit // 2,
    ]
    positive += [one + unit, one + unit + unit // 2, one + unit + unit // 2 + 1, one + fmt.fraction * unit]
    positive += [one + (fmt.fraction + 1) * unit + 1, fmt.largest - 1, fmt.largest, fmt.infinity, fmt.nan]
    positive += [one + unit // 3, one - unit // 5, fmt.largest // 2 + unit // 7]
    return positive + [bits | fmt.sign for bits in positive]


def spread(kind: str, count: int, seed: int) -> np.ndarray:
    """Random values: of integers all magnitudes, of floats all exponents and many near 1."""
    if kind in PACKED:
        low, high = (spread(kind[:-2], count, seed + k).astype(np.uint32) for k in (0, 50))
        return high << np.uint32(16) | low
    rng = np.random.default_rng(seed)
    dtype = np.dtype(TYPES[kind][0])
    width = dtype.itemsize * 8
    raw = rng.integers(0, 2**64, count, dtype=np.uint64)
    if kind in FORMATS:
        fmt = FORMATS[kind]
        near = rng.integers(-4, 5, count) + fmt.bias
        shaped = (raw & np.uint64(fmt.sign | ((1 << fmt.fraction) - 1))) | (
            near.astype(np.uint64) << np.uint64(fmt.fraction)
        )
        raw = np.where(rng.random(count) < 0.6, shaped, raw)
        return (raw & np.uint64(2**width - 1)).astype(dtype)
    shifted = raw >> rng.integers(0, 64, count).astype(np.uint64)
    return shifted.astype(f"uint{width}").view(dtype)


def edges_of(kind: str) -> list[int]:
    """Values at the edges of a type; of a packed one pairs of them."""
    if kind in PACKED:
        each = floats(kind[:-2])
        return [high << 16 | low for low, high in zip(each, each[7:] + each[:7], strict=True)]
    return floats(kind) if kind in FORMATS else integers(kind)


@cache
def operands(*kinds: str, count: int = 500) -> list[tuple[str, np.ndarray]]:
    """Inputs of these types: edges against edges, then random ones."""
    edges = [edges_of(kind) for kind in kinds]
    if len(kinds) == 3:  # all triples would be too many
        rng = np.random.default_rng(3)
        combined = [tuple(e[rng.integers(len(e))] for e in edges) for _ in range(2 * count)]
    else:
        combined = list(product(*edges))
    result = []
    for place, kind in enumerate(kinds):
        dtype = np.dtype(TYPES[kind][0])
        fixed = np.array([values[place] for values in combined], dtype=object).astype(dtype)
        result.append((kind, np.concatenate([fixed, spread(kind, count, 100 + place)])))
    return result


def case(
    name: str, code: str, kinds: Sequence[str], output: str, rule: Callable[..., int], **options: object
) -> Case:
    """A case over the usual operands of these types."""
    declarations = str(options.get("declarations", ""))
    inputs = operands(*kinds, count=int(str(options.get("count", 500))))
    keep = options.get("only")
    if callable(keep):
        rows = [bool(keep(*row)) for row in zip(*(values.tolist() for _, values in inputs), strict=True)]
        inputs = [(kind, values[np.array(rows)]) for kind, values in inputs]
    made = Case(name, code, inputs, output, rule, declarations)
    made.target = str(options.get("target", made.target))
    return made


# --- running


def instruction_sets() -> list[str]:
    """The instruction sets of this processor for which the interpreter has code."""
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").is_file() else set()
    wide = ["avx512"] if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags else []
    return [*wide, *(["avx2"] if "avx2" in flags else []), "baseline"]


@dataclass
class Answers:
    """What the kernels of a run wrote, and the calls that failed."""

    outputs: dict[str, np.ndarray]
    errors: dict[str, list[object]]
    log: str

    def check(self, case: Case) -> None:
        """Fails where a case did not run or its output is wrong."""
        assert case.name not in self.errors, (self.errors[case.name], _log_of(self.log), case.code)
        assert case.name in self.outputs, self.log[-2000:]
        complaint = case.complaint(self.outputs[case.name])
        assert complaint is None, complaint


def _log_of(log: str) -> str:
    return log[-600:]


def run_cases(cases: Sequence[Case], library: Path, folder: Path, isa: str) -> Answers:
    """Runs the cases on a driver library with a fresh simulated machine, in one process."""
    arrays: dict[str, np.ndarray] = {}
    listed: list[dict[str, object]] = []
    for case in cases:
        keys = [f"{case.name}|{place}" for place in range(len(case.inputs))]
        arrays.update({key: values for key, (_, values) in zip(keys, case.inputs, strict=True)})
        listed.append(
            {
                "name": case.name,
                "ptx": case.ptx(),
                "inputs": keys,
                "output": TYPES[case.output][0],
                "count": case.count,
                "threads": case.threads,
            }
        )
    assert len({entry["name"] for entry in listed}) == len(listed), "two cases of one name"
    np.savez(folder / "inputs.npz", **arrays)  # pyright: ignore[reportArgumentType]
    (folder / "cases.json").write_text(json.dumps(listed))
    env = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("ALIQUOT_SIMGPU", "ALIQUOT_SLICE", "LD_PRELOAD"))
    }
    env |= {
        "ALIQUOT_SIMGPU": "h100",
        "ALIQUOT_SIMGPU_HOME": str(folder / "machine"),
        "ALIQUOT_SIMGPU_ISA": isa,
    }
    env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
    if "ALIQUOT_TEST_PRELOAD" in env:
        env["LD_PRELOAD"] = env["ALIQUOT_TEST_PRELOAD"]
    runner = Path(__file__).parent / "ptx_runner.py"
    done = subprocess.run(
        [sys.executable, runner, library, folder],
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    outputs = dict(np.load(folder / "outputs.npz"))
    return Answers(outputs, json.loads((folder / "errors.json").read_text()), done.stderr)
