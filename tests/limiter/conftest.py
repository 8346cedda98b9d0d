"""Slices on a driver that returns at once, and programs that run on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter

PROGRAMS = Path(__file__).with_name("programs")
MIB = 2**20
LIMIT = 64 * MIB


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


def plain_environment() -> dict[str, str]:
    """The tests' own environment without anything of a slice or a simulated machine in it."""
    ours = ("ALIQUOT_SLICE", "ALIQUOT_SIMGPU", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env["PYTHONPATH"] = str(PROGRAMS)
    if preload := os.environ.get("ALIQUOT_TEST_PRELOAD"):
        env["LD_PRELOAD"] = preload
        # The limiter puts itself before all else that is preloaded, the sanitizer's runtime included.
        env["ASAN_OPTIONS"] = "verify_asan_link_order=0:" + env.get("ASAN_OPTIONS", "")
    return env


@pytest.fixture
def limited(native_dir: Path, null_driver: Path, slice_home: Path) -> Limited:
    """A slice of 64 MiB of the first of the null driver's two devices."""
    made = Slice.create(vram_bytes=LIMIT, driver=null_driver, home=slice_home)
    return Limited(made, limiter.environment(made, plain_environment()))
