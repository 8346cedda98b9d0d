"""Slices of simulated cards, and what the cards themselves say, asked from outside of any slice."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aliquot.limits import Slice
from aliquot.mechanisms import limiter

from .conftest import MIB, Limited

ROOM = 64 * MIB
"""What a slice has beside the context of one process."""
CLIENTS = """
import json, os, sys
import pynvml
from cuda.bindings import driver

def ok(answer):
    assert answer[0] == 0, answer
    return answer[1] if len(answer) == 2 else answer[1:]

def start(device=0):
    ok(driver.cuInit(0))
    context = ok(driver.cuDevicePrimaryCtxRetain(ok(driver.cuDeviceGet(device))))
    ok(driver.cuCtxSetCurrent(context))
    return context

MIB = 2**20
CONTEXT = int(os.environ["CONTEXT_BYTES"])
LIMIT = CONTEXT + 64 * MIB
REFUSED = driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
"""


def make_slice(
    machine: Mapping[str, str],
    native_dir: Path,
    home: Path,
    device: int | str = 0,
    *,
    card: int = 0,
    contexts: int = 1,
) -> Limited:
    """A slice with room for so many contexts and 64 MiB more; `card` is the number of `device`."""
    driver, nvml = (native_dir / "simgpu" / name for name in ("libcuda.so.1", "libnvidia-ml.so.1"))
    context = context_bytes(machine, card)
    limit = contexts * context + ROOM
    made = Slice.create(vram_bytes=limit, device=device, driver=driver, nvml=nvml, home=home)
    base = {name: value for name, value in machine.items() if name != "LD_LIBRARY_PATH"}
    return Limited(made, {**limiter.environment(made, base), "CONTEXT_BYTES": str(context)})


def context_bytes(machine: Mapping[str, str], card: int = 0) -> int:
    """What a card's own record says that a context takes of it, made outside of any slice."""
    text = f"""
import pynvml
from cuda.bindings import driver
driver.cuInit(0)
assert driver.cuDevicePrimaryCtxRetain({card})[0] == 0
pynvml.nvmlInit()
print(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex({card})).used)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], env=machine, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def from_outside(machine: Mapping[str, str], expression: str) -> Any:
    """What NVML says to somebody who is in no slice."""
    text = f"import json, pynvml; pynvml.nvmlInit(); print(json.dumps({expression}))"
    done = subprocess.run(
        [sys.executable, "-c", text], env=machine, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def run_clients(limited: Limited, program: str) -> str:
    return limited.run(CLIENTS + textwrap.dedent(program))[0]
