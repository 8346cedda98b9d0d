"""Every function of nvidia-ml-py that asks something is called, as the module lists them, not as we do.

An answer or an NVMLError of the kinds that `nvml.h` documents for questions; never a crash, and never an
error that the client makes itself because it was asked in a wrong way.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from aliquot.catalog import UnknownModelError, by_product_name

pytestmark = pytest.mark.sanitized

Nvml = Callable[..., Any]
Table = dict[str, dict[str, dict[str, str]]]
Ask = Callable[..., Table]
TABLE = Path(__file__).with_name("call_table.py")

ERRORS = {
    f"NVMLError_{name}"
    for name in (
        "InvalidArgument",
        "NotSupported",
        "NoPermission",
        "NotFound",
        "InsufficientSize",
        "FunctionNotFound",
        "ArgumentVersionMismatch",
    )
}


@pytest.fixture
def table(nvml_env: Mapping[str, str], tmp_path: Path) -> Ask:
    """Runs the table of calls; keyword arguments change the environment."""

    def run(*options: str, **env: str) -> Table:
        saved = tmp_path / "answers.json"
        command = [sys.executable, str(TABLE), "--json", str(saved), *options]
        subprocess.run(command, env={**nvml_env, **env}, check=True, timeout=100, capture_output=True)
        return json.loads(saved.read_text("utf-8"))

    return run


def kinds(answers: Table) -> dict[str, set[str]]:
    return {name: {answer["kind"] for answer in given.values()} for name, given in answers.items()}


def test_every_asking_call_answers(table: Ask) -> None:
    seen = kinds(table())
    assert len(seen) > 300
    assert {
        name: given - ERRORS - {"value"} for name, given in seen.items() if given - ERRORS - {"value"}
    } == {}
    assert sum("value" in given for name, given in seen.items()) > 150


def test_bare_metal_without_vgpu(table: Ask) -> None:
    """What a host without vGPU says of it."""
    of_vgpu = {name for name, given in kinds(table()).items() if "Vgpu" in name and "value" in given}
    assert of_vgpu == set()


def test_a_divided_card_answers_for_its_parts(nvml: Nvml, table: Ask) -> None:
    administrator = {"ALIQUOT_SIMGPU_ADMIN": "1"}
    nvml(
        "h = n.nvmlDeviceGetHandleByIndex(1)\n"
        "n.nvmlDeviceSetMigMode(h, 1)\n"
        "g = n.nvmlDeviceCreateGpuInstance(h, 9)\n"
        "n.nvmlGpuInstanceCreateComputeInstance(g, 0)\n"
        "result = None",
        **administrator,
    )
    answers = table(**administrator)
    parts = ("nvmlGpuInstanceGet", "nvmlComputeInstanceGet", "nvmlDeviceGetMig", "nvmlDeviceGetGpuInstance")
    refusing = {
        name: given["1"]["kind"]
        for name, given in answers.items()
        if name.startswith(parts) and "Vgpu" not in name and given["1"]["kind"] != "value"
    }
    # A whole card is in no instance: that asks for the handle of a MIG device.
    assert refusing == {"nvmlDeviceGetGpuInstanceId": "NVMLError_InvalidArgument"}
    assert answers["nvmlGpuInstanceGetInfo"]["0"]["kind"] == "NVMLError_InvalidArgument"


def compare(env: Mapping[str, str], saved: Path) -> list[str]:
    """The rows of the table of differences between the card here and the one that was saved."""
    done = subprocess.run(
        [sys.executable, str(TABLE), "--compare", str(saved)],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return done.stdout.splitlines()[2:]


def test_the_table_compares_kinds_and_facts(nvml_env: Mapping[str, str], table: Ask, tmp_path: Path) -> None:
    answers = table()
    saved = tmp_path / "other.json"
    saved.write_text(json.dumps(answers), "utf-8")
    assert compare(nvml_env, saved) == []
    answers["nvmlDeviceGetNumGpuCores"]["0"]["text"] = "1"
    answers["nvmlDeviceGetPowerUsage"]["0"]["text"] = "1"
    answers["nvmlDeviceGetFanSpeed"]["0"] = {"kind": "value", "text": "30"}
    del answers["nvmlDeviceGetSerial"]
    saved.write_text(json.dumps(answers), "utf-8")
    assert compare(nvml_env, saved) == [
        "| nvmlDeviceGetFanSpeed | NVMLError_NotSupported | 30 |",
        "| nvmlDeviceGetNumGpuCores | 16896 | 1 |",
        f"| nvmlDeviceGetSerial | {table()['nvmlDeviceGetSerial']['0']['text']} | no such call |",
    ]


@pytest.mark.gpu
def test_a_real_card_answers_the_same(nvml_env: Mapping[str, str], tmp_path: Path) -> None:
    """What a real card answers, the simulated one of its model answers too, but for what is missing."""
    saved = tmp_path / "real.json"
    real = {name: value for name, value in os.environ.items() if not name.startswith("ALIQUOT_")}
    command = [sys.executable, str(TABLE), "--json", str(saved)]
    subprocess.run(command, env=real, check=True, timeout=300, capture_output=True)
    name = json.loads(saved.read_text("utf-8"))["nvmlDeviceGetName"]["0"]["text"]
    try:
        model = by_product_name(name)
    except UnknownModelError:
        pytest.skip(f"the catalogue has no {name} to simulate")
    differing = compare({**nvml_env, "ALIQUOT_SIMGPU": model.key}, saved)
    assert len(differing) < 40, "\n".join(differing)


def test_nothing_answers_before_it_is_initialised(nvml: Nvml) -> None:
    given = nvml(
        "L = ctypes.CDLL('libnvidia-ml.so.1')\n"
        "names = ['nvmlDeviceGetCount_v2', 'nvmlDeviceGetPowerUsage', 'nvmlDeviceGetSupportedVgpus',\n"
        "         'nvmlEventSetCreate', 'nvmlUnitGetCount', 'nvmlDeviceGetMigMode', 'nvmlGpmSampleAlloc']\n"
        "result = [getattr(L, name)(*[ctypes.c_void_p(None)] * 5) for name in names]",
        initialise=False,
    )
    assert given == [1] * 7
