"""Checks the limiter on a real card: no network, nothing but what is installed on the machine.

It builds with the system's compiler, CMake and Ninja, runs programs of several clients inside slices and
outside, and compares. It changes no setting of the card. Results go to out/gpu-check.json in the benchmarks'
form, with a list of checks beside it. Status 0: all held; 1: one did not; 3: there is no card that works; 4:
the native part cannot be built.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "gpu"
INSTALL = ROOT / "build" / "gpu-installed"
PROGRAMS = ROOT / "scripts" / "gpu_programs"
RESULT = ROOT / "out" / "gpu-check.json"
LIMITER_RESULT = ROOT / "out" / "gpu-limiter.json"
NVML_CALLS = ROOT / "tests" / "nvml" / "call_table.py"
NVML_ANSWERS = ROOT / "out" / "nvml-calls.json"
NVML_DIFFERENCES = ROOT / "out" / "nvml-differences.md"
GIB = 1 << 30
NO_CARD, NOT_BUILT = 3, 4
PROGRAM_LIMIT_S = 90

sys.path.insert(0, str(ROOT / "src"))
os.environ["ALIQUOT_NATIVE_DIR"] = str(INSTALL)
from aliquot.bench.report import Report  # noqa: E402
from aliquot.catalog import UnknownModelError, by_product_name  # noqa: E402
from aliquot.errors import AliquotError  # noqa: E402
from aliquot.model import Bytes, Device, Share  # noqa: E402
from aliquot.node import tenancy  # noqa: E402
from aliquot.vendors import nvidia  # noqa: E402


@dataclass
class Outcome:
    """What one check found."""

    name: str
    passed: bool
    detail: str


@dataclass
class Checks:
    """All that was found so far."""

    device: Device
    report: Report
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    def note(self, name: str, passed: bool, detail: str) -> None:
        """Keeps and prints one outcome."""
        self.outcomes.append(Outcome(name, passed, detail))
        print(f"{'ok  ' if passed else 'BAD '} {name}: {detail}", flush=True)

    def run(self, command: Sequence[str], vram: int | None) -> subprocess.CompletedProcess[str]:
        """Runs a program, in a slice of `vram` bytes or with the whole card."""
        share = None if vram is None else Share(vram=Bytes(vram))
        with tenancy.prepare(self.device, share) if share else nullcontext() as stay:
            environment = stay.environment(os.environ) if stay else dict(os.environ)
            try:
                return subprocess.run(
                    list(command),
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=PROGRAM_LIMIT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return subprocess.CompletedProcess(command, 124, "", f"not done after {PROGRAM_LIMIT_S} s")


def has(module: str) -> bool:
    """Whether this Python has a package."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def build() -> bool:
    """Builds and installs the native part with the system's tools."""
    cmake = shutil.which("cmake")
    if cmake is None or shutil.which("c++") is None:
        print("aliquot: building needs CMake and a C++ compiler on this machine", file=sys.stderr)
        return False
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    settings = ["-DALIQUOT_INSTALL_DIR=.", "-Wno-dev"]
    steps = [
        [
            cmake,
            "-S",
            str(ROOT),
            "-B",
            str(BUILD),
            *generator,
            *settings,
            f"-DPython3_EXECUTABLE={sys.executable}",
        ],
        [cmake, "--build", str(BUILD), "--parallel"],
        [cmake, "--install", str(BUILD), "--prefix", str(INSTALL)],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            print(
                f"aliquot: {' '.join(step)} failed:\n{(done.stdout + done.stderr)[-4000:]}", file=sys.stderr
            )
            return False
    return True


def check_program(checks: Checks, name: str, module: str, vram: int = 2 * GIB) -> None:
    """Runs a program of gpu_programs/ in a slice; it judges itself and prints why."""
    if not has(module):
        checks.report.skip(f"gpu_check.{name}", f"{module} is not installed")
        print(f"     {name}: {module} is not installed here")
        return
    done = checks.run([sys.executable, str(PROGRAMS / f"{name}.py"), str(vram)], vram)
    said = (done.stdout + done.stderr).strip().splitlines()
    checks.note(name, done.returncode == 0, said[-1] if said else f"ended with {done.returncode}")


def check_example(checks: Checks, name: str, module: str) -> None:
    """Runs an example with the whole card and in a slice: right both times, and how much slower."""
    if not has(module):
        print(f"     {name}: {module} is not installed here")
        return
    command = [
        sys.executable,
        str(ROOT / "examples" / f"{name}.py"),
        "--out",
        str(ROOT / "out" / f"gpu-{name}.png"),
    ]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for limited in (False, True) * checks.report.samples(3):
        begin = time.monotonic()
        done = checks.run(command, 2 * GIB if limited else None)
        seconds[limited].append(time.monotonic() - begin)
        if done.returncode:
            where = "in a slice" if limited else "with the whole card"
            checks.note(f"example.{name}", False, f"{where}: {(done.stdout + done.stderr)[-500:]}")
            return
    slower = [100 * (b / a - 1) for a, b in zip(seconds[False], seconds[True], strict=True)]
    checks.report.add(f"gpu_check.{name}_slowdown_percent", slower, unit="%", better="lower")
    checks.note(
        f"example.{name}", True, f"right in a slice and outside; {statistics.median(slower):+.1f}% time"
    )


def measure_calls(checks: Checks) -> None:
    """What the limiter adds to each call of the driver, on this card."""
    if not has("cuda.bindings"):
        print("     calls: cuda-bindings is not installed here")
        return
    command = [sys.executable, str(PROGRAMS / "calls.py")]
    bare, limited = ([checks.run(command, vram) for _ in range(3)] for vram in (None, 4 * GIB))
    if any(done.returncode for done in (*bare, *limited)):
        failed = next(done for done in (*bare, *limited) if done.returncode)
        checks.note("calls", False, (failed.stdout + failed.stderr)[-500:])
        return
    figures = [json.loads(done.stdout) for done in bare], [json.loads(done.stdout) for done in limited]
    for call in figures[0][0]:
        added = [b[call] - a[call] for a, b in zip(*figures, strict=True)]
        checks.report.add(f"gpu_check.{call}_added_ns", added, unit="ns", better="lower")
        print(f"     {call}: {statistics.median(added):+.0f} ns a call")


def compare_nvml(checks: Checks) -> None:
    """Keeps what this card answers to every question of NVML, and where the simulated one differs."""
    if not has("pynvml"):
        print("     nvml_calls: pynvml is not installed here")
        return
    NVML_ANSWERS.parent.mkdir(exist_ok=True)
    done = checks.run([sys.executable, str(NVML_CALLS), "--json", str(NVML_ANSWERS)], None)
    if done.returncode:
        checks.note("nvml_calls", False, (done.stdout + done.stderr)[-500:])
        return
    name = checks.device.name
    try:
        model = by_product_name(name).key
    except UnknownModelError:
        print(f"     nvml_calls: {NVML_ANSWERS.relative_to(ROOT)}; the catalogue has no {name} to simulate")
        return
    with tempfile.TemporaryDirectory() as home:
        simulated = {
            **os.environ,
            "LD_LIBRARY_PATH": str(INSTALL / "simgpu"),
            "ALIQUOT_SIMGPU": model,
            "ALIQUOT_SIMGPU_HOME": home,
        }
        command = [sys.executable, str(NVML_CALLS), "--compare", str(NVML_ANSWERS)]
        done = subprocess.run(command, env=simulated, capture_output=True, text=True, check=False)
    NVML_DIFFERENCES.write_text(done.stdout, encoding="utf-8")
    rows = max(0, len(done.stdout.splitlines()) - 2)
    said = f"{rows} calls differ from the simulated {model}: {NVML_DIFFERENCES.relative_to(ROOT)}"
    checks.note("nvml_calls", done.returncode == 0, said if done.returncode == 0 else done.stderr[-500:])


def measure_limiter(checks: Checks) -> None:
    """The benchmark of the limiter with this card: shares by what the tenants launched, latency, programs."""
    os.environ["ALIQUOT_BUILD_DIR"] = str(BUILD)
    sys.path.insert(0, str(ROOT))
    from benchmarks import limiter

    parts = ["calls", "shares", "latency", *(["programs"] if has("cupy") else [])]
    if has("typer") and has("rich"):  # the guard is run as a person runs it
        parts.append("bypass")
    report = Report(
        benchmark="limiter", scratch=BUILD, arguments=["--real", "--seconds", "5", "--only", ",".join(parts)]
    )
    try:
        limiter.measure(report)
    except (AliquotError, RuntimeError, OSError) as error:
        checks.note("limiter", False, str(error))
    for result in report.results:
        print(f"     {result.name}: {result.value:.4g} {result.unit}")
    content = report.as_dict(machine=checks.device.name, date=datetime.now(UTC))
    LIMITER_RESULT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    missing = ", ".join(f"{name} ({why})" for name, why in report.skipped.items())
    checks.note("limiter", not missing, missing or f"wrote {LIMITER_RESULT.relative_to(ROOT)}")


def run_pytest(checks: Checks) -> None:
    """The tests marked `gpu`, where there is a pytest to run them."""
    if not all(map(has, ("pytest", "pytest_timeout", "hypothesis"))):
        print("     pytest with its plugins is not installed here; the programs above are the check")
        return
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "ALIQUOT_BUILD_DIR": str(BUILD)}
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    checks.note("pytest -m gpu", done.returncode in (0, 5), lines[-1] if lines else done.stderr[-500:])


def write(checks: Checks, driver: str) -> None:
    """The result file."""
    machine = f"{checks.device.name}, driver {driver}, {platform.machine()}"
    content = checks.report.as_dict(machine=machine, date=datetime.now(UTC))
    content["checks"] = [asdict(outcome) for outcome in checks.outcomes]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {RESULT.relative_to(ROOT)}")


def main() -> int:
    """Looks, builds, checks, writes."""
    found = nvidia.find_real_cards()
    if not found.devices:
        reason = found.fault or "no NVIDIA card is on this machine's bus"
        print(f"aliquot: nothing was checked: {reason}", file=sys.stderr)
        return NO_CARD
    if not build():
        return NOT_BUILT
    checks = Checks(found.devices[0], Report(benchmark="gpu_check", scratch=BUILD))
    print(f"{checks.device.name}, driver {found.driver}")
    check_program(checks, "driver_totals", "cuda.bindings")
    check_program(checks, "torch_share", "torch")
    check_program(checks, "nvml_totals", "pynvml")
    check_example(checks, "nbody", "numba_cuda")
    check_example(checks, "fluid", "cuda.core")
    check_example(checks, "reaction_diffusion", "cupy")
    measure_calls(checks)
    compare_nvml(checks)
    measure_limiter(checks)
    run_pytest(checks)
    write(checks, found.driver)
    failed = [outcome.name for outcome in checks.outcomes if not outcome.passed]
    print(f"{len(checks.outcomes) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not checks.outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
