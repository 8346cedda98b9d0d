"""Fixtures that every test may use. Tests never touch this user's own simulated machine or slices."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from aliquot import native

ROOT = Path(__file__).resolve().parents[1]
_OURS = ("ALIQUOT_SIMGPU", "ALIQUOT_SLICE", "CUDA_VISIBLE_DEVICES", "CUPY_", "NUMBA_")

# Who starts us in the background may have us ignore these; programs that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests on the real card are left out unless `-m` asks for them."""
    if "gpu" in str(config.getoption("markexpr")):
        return
    real = [item for item in items if item.get_closest_marker("gpu")]
    if real:
        config.hook.pytest_deselected(items=real)
        items[:] = [item for item in items if item not in real]


@pytest.fixture(scope="session")
def native_build() -> Path:
    """The CMake build folder: ALIQUOT_BUILD_DIR, or build/native. Fails where nothing was built."""
    folder = Path(os.environ.get("ALIQUOT_BUILD_DIR", ROOT / "build" / "native"))
    if not folder.is_dir():
        pytest.fail(f"{folder} is not there: run `make native`, or set ALIQUOT_BUILD_DIR", pytrace=False)
    return folder


@pytest.fixture(scope="session")
def native_dir() -> Path:
    """The folder of installed native parts. Fails where nothing is installed."""
    folder = native.directory()
    if not folder.is_dir():
        pytest.fail(f"{folder} is not there: run `make native`", pytrace=False)
    return folder


@pytest.fixture
def simgpu_home() -> Iterator[Path]:
    """A fresh folder for a simulated machine, in memory as the real one is; gone after the test."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="aliquot-test-", dir=base))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def simgpu_env(native_dir: Path, simgpu_home: Path) -> dict[str, str]:
    """The environment of a subprocess that sees a fresh simulated machine with one card, and no limiter."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    env.pop("LD_PRELOAD", None)
    simulated = str(native_dir / "simgpu")
    env["LD_LIBRARY_PATH"] = ":".join(filter(None, [simulated, env.get("LD_LIBRARY_PATH", "")]))
    env["ALIQUOT_SIMGPU_HOME"] = str(simgpu_home)
    env["CUPY_COMPILE_WITH_PTX"] = "1"
    env["CUPY_CACHE_IN_MEMORY"] = "1"
    env["NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS"] = "0"
    env["ASAN_OPTIONS"] = "detect_leaks=0:" + env.get("ASAN_OPTIONS", "")
    preload = os.environ.get("ALIQUOT_TEST_PRELOAD")  # the sanitizers' runtime libraries
    if preload:
        env["LD_PRELOAD"] = preload
    return env


@pytest.fixture
def run_python(simgpu_env: Mapping[str, str]) -> Run:
    """Runs Python on the simulated machine; keyword arguments go to subprocess.run."""

    def run(
        *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 100, **options: object
    ) -> subprocess.CompletedProcess[str]:
        return run_text([sys.executable, *arguments], env=env or simgpu_env, timeout=timeout, **options)

    return run


@pytest.fixture
def aliquot(simgpu_env: Mapping[str, str], tmp_path: Path) -> Run:
    """Runs the `aliquot` command on the simulated machine as a person would, without loader settings."""
    env = {name: value for name, value in simgpu_env.items() if name != "LD_LIBRARY_PATH"}
    env["COLUMNS"] = "160"

    def run(*arguments: str, timeout: float = 100, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "aliquot", *arguments]
        return run_text(command, **{"env": env, "cwd": tmp_path, "timeout": timeout, **options})

    return run


def run_text(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """subprocess.run with text in and out, and no exception for a status."""
    settings = {"capture_output": True, "text": True, "check": False, **options}
    return subprocess.run(list(command), **settings)  # pyright: ignore[reportCallIssue, reportArgumentType]
