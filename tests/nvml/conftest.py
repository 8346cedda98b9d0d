"""Clients of NVML run in processes of their own, with the simulated library first in the loader's path."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..lines import LineProgram

PRELUDE = """
import ctypes, json, sys
import pynvml as n
def outcome(call, *arguments):
    try:
        return call(*arguments)
    except n.NVMLError as error:
        return type(error).__name__
"""


def answer_of(arguments: Sequence[str], env: Mapping[str, str]) -> Any:
    """What a client in Python, called with these arguments, prints as JSON. Fails where the client does."""
    done = subprocess.run(
        [sys.executable, *arguments], env=dict(env), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def result_of(code: str, env: Mapping[str, str]) -> Any:
    """What code puts into `result`; it has imported json."""
    return answer_of(["-c", f"{code}\nprint(json.dumps(result))"], env)


@pytest.fixture
def nvml_env(simgpu_env: dict[str, str]) -> dict[str, str]:
    return simgpu_env | {"ALIQUOT_SIMGPU": "h100:2,t4,rtx4090", "ALIQUOT_SIMGPU_HOST_BYTES": "1Ti"}


@pytest.fixture
def nvml(nvml_env: Mapping[str, str]) -> Callable[..., Any]:
    """Runs code with nvidia-ml-py imported as `n`, and returns what it puts into `result`."""

    def run(code: str, *, initialise: bool = True, **env: str) -> Any:
        start = "n.nvmlInit()\n" if initialise else ""
        return result_of(f"{PRELUDE}{start}{code}", {**nvml_env, **env})

    return run


@pytest.fixture
def worker(native_build: Path, nvml_env: Mapping[str, str]) -> Iterator[LineProgram]:
    """A process on the same machine: 3 GiB and 500 ms of work on card 0, 1 GiB on card 3."""
    program = native_build / "native/simgpu/machine/probe/aliquot-machine-probe"
    with LineProgram([program], nvml_env) as process:
        assert process.ask("reserve 0 3221225472") == process.ask("reserve 3 1073741824") == "ok"
        process.ask("spin 0 500")
        yield process
