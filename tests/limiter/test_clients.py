"""Real clients notice nothing of the limiter: what they can do outside a slice they can do on one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter

FEATURES = Path(__file__).resolve().parents[1] / "clients/features"
GIB = 2**30


def start(script: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Begins a run of all features of a client."""
    settings = {"ALIQUOT_SIMGPU_HOST_BYTES": "64GiB"}  # little of it is touched
    command = [sys.executable, str(FEATURES / "run.py"), str(FEATURES / script)]
    return subprocess.Popen(
        command, env={**env, **settings}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def working(process: subprocess.Popen[str]) -> set[str]:
    """The features that held."""
    out, err = process.communicate(timeout=100)
    marker = "feature: "
    reports = [json.loads(line[len(marker) :]) for line in out.splitlines() if line.startswith(marker)]
    assert reports, err
    return {report["name"] for report in reports if report["failure"] is None}


@pytest.mark.parametrize("client", ["bindings", "core"])
def test_a_client_can_do_the_same_on_a_slice(
    simgpu_env: Mapping[str, str], native_dir: Path, slice_home: Path, client: str
) -> None:
    driver, nvml = (native_dir / "simgpu" / name for name in ("libcuda.so.1", "libnvidia-ml.so.1"))
    made = Slice.create(vram_bytes=8 * GIB, driver=driver, nvml=nvml, home=slice_home)
    base = {name: value for name, value in simgpu_env.items() if name != "LD_LIBRARY_PATH"}
    script = f"{client}_features.py"
    outside, inside = start(script, simgpu_env), start(script, limiter.environment(made, base))
    expected = working(outside)
    assert expected
    assert working(inside) == expected
    assert made.usage().vram_peak_bytes > 0
