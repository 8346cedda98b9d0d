"""Slices on a driver that returns at once, and programs that run on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter

PROGRAMS = Path(__file__).with_name("programs")
MIB = 2**20
LIMIT = 64 * MIB
CompileC = Callable[..., Path]


@dataclass(frozen=True)
class Limited:
    """A slice, and the environment of programs on it."""

    slice: Slice
    env: Mapping[str, str]

    def start(self, program: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
        """Starts a Python program given as text; `from driver_calls import *` is done for it."""
        text = "from driver_calls import *\n" + textwrap.dedent(program)
        settings: dict[str, object] = {
            "env": self.env,
            "text": True,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "stdin": subprocess.PIPE,
            **options,
        }
        return subprocess.Popen([sys.executable, "-c", text, *arguments], **settings)  # type: ignore[call-overload]

    def run(self, program: str, *arguments: str, status: int = 0, **options: object) -> tuple[str, str]:
        """What the program wrote to stdout and stderr. Fails unless it ends with `status` within a minute."""
        process = self.start(program, *arguments, **options)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, f"status {process.returncode}\n{out}\n{err}"
        return out, err


@pytest.fixture
def slice_home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aliquot-test-slices-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def null_driver(native_build: Path) -> Path:
    driver = native_build / "native/limiter/null_driver/libcuda.so.1"
    assert driver.is_file(), f"{driver} is not built"
    return driver


@pytest.fixture(scope="session")
def compile_c(native_build: Path, tmp_path_factory: pytest.TempPathFactory) -> CompileC:
    """Compiles C given as text, to a file of that name in a folder of its own, with the build's compiler."""
    zig = native_build / "zig/cc"

    def compile_text(text: str, name: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp("compiled")
        source, target = folder / f"{name}.c", folder / name
        source.write_text(text)
        command = [str(zig) if zig.is_file() else "gcc", "-o", str(target), str(source), *options]
        subprocess.run(command, check=True, timeout=100)
        return target

    return compile_text


def plain_environment() -> dict[str, str]:
    """The tests' own environment without anything of a slice or a simulated machine in it."""
    ours = ("ALIQUOT_SLICE", "ALIQUOT_SIMGPU", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env["PYTHONPATH"] = str(PROGRAMS)
    if preload := os.environ.get("ALIQUOT_TEST_PRELOAD"):
        env["LD_PRELOAD"] = preload
    return env


@pytest.fixture
def limited(native_dir: Path, null_driver: Path, slice_home: Path) -> Limited:
    """A slice of 64 MiB of the first of the null driver's two devices."""
    made = Slice.create(vram_bytes=LIMIT, driver=null_driver, home=slice_home)
    return Limited(made, limiter.environment(made, plain_environment()))


@pytest.fixture
def machine(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    """A simulated machine of two cards, seen from outside any slice."""
    settings = {"ALIQUOT_SIMGPU": "h100,t4", "ALIQUOT_SIMGPU_HOST_BYTES": "64GiB"}  # little of it is touched
    return {**simgpu_env, **settings, "PYTHONPATH": str(PROGRAMS)}


@pytest.fixture
def on_card(machine: Mapping[str, str], native_dir: Path, slice_home: Path) -> Limited:
    """A slice of the first card, with room for one context and 64 MiB."""
    from . import simulated  # it needs what is above

    return simulated.make_slice(machine, native_dir, slice_home)


@pytest.fixture
def small_contexts(simgpu_env: Mapping[str, str], native_dir: Path) -> dict[str, str]:
    """A machine whose contexts are small, so that several processes fit into a small slice."""
    machine = {**simgpu_env, "ALIQUOT_SIMGPU": "t4", "ALIQUOT_SIMGPU_HOST_BYTES": "64GiB"}
    command = [str(native_dir / "bin" / "aliquot-simgpu"), "context-memory", "0"]
    subprocess.run(command, env=machine, check=True, capture_output=True, timeout=20)
    return machine
