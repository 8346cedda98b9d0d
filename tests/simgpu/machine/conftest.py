"""The probe (native/simgpu/machine/probe) and the tool, as tests drive them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from ...lines import LineProgram

_OURS = ("ALIQUOT_SIMGPU", "ALIQUOT_SLICE")


class Probe(LineProgram):
    """One process on the machine. Lines go in, answers come out."""

    def used(self, card: int = 0) -> int:
        """Bytes of the card's memory that are in use."""
        return int(self.ask("vram", card).split()[0])


class StartProbe(Protocol):
    def __call__(self, **env: str) -> Probe: ...


Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def machine_env(simgpu_home: Path) -> dict[str, str]:
    """A fresh machine whose host memory is no limit (tests of the budget set their own)."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return env | {
        "ALIQUOT_SIMGPU_HOME": str(simgpu_home),
        "ALIQUOT_SIMGPU": "t4:2",
        "ALIQUOT_SIMGPU_HOST_BYTES": "1Ti",
        "ASAN_OPTIONS": "detect_leaks=0",
    }


@pytest.fixture
def probe(native_build: Path, machine_env: dict[str, str]) -> Iterator[StartProbe]:
    """Starts probes; keyword arguments change their environment. All are gone after the test."""
    started: list[Probe] = []

    def start(**env: str) -> Probe:
        program = native_build / "native/simgpu/machine/probe/aliquot-machine-probe"
        started.append(Probe([program], machine_env | env))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def tool(native_build: Path, machine_env: dict[str, str]) -> Tool:
    """Runs aliquot-simgpu; `env` changes its environment, None removes a variable."""

    def run(*arguments: str, **env: str | None) -> subprocess.CompletedProcess[str]:
        merged = {name: value for name, value in (machine_env | env).items() if value is not None}
        program = native_build / "native/simgpu/machine/tool/aliquot-simgpu"
        return subprocess.run(
            [program, *arguments], env=merged, capture_output=True, text=True, timeout=30, check=False
        )

    return run


@pytest.fixture
def show(tool: Tool) -> Callable[..., Any]:
    """The answer of one of the tool's JSON commands."""

    def read(*arguments: str, **env: str | None) -> Any:
        done = tool(*arguments, **env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


@pytest.fixture
def until() -> Callable[[Callable[[], bool], float], bool]:
    """Waits for a condition, at most so many seconds."""

    def wait(condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    return wait
