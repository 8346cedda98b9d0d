"""What CUDA_VISIBLE_DEVICES means to programs of a slice: a choice among its cards, and no way to others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aliquot.limits import DeviceLimit, Slice
from aliquot.mechanisms import limiter

from .conftest import MIB, PROGRAMS, Limited
from .simulated import from_outside

CARDS = "h100,t4,a100"
A100, H100 = "A100", "H100"
LIMITS = {A100: 2048 * MIB, H100: 1024 * MIB}

PROGRAM = """
import ctypes, json, os, sys, threading
from cuda.bindings import driver

def seen(value):
    # What a new process sees of the slice that sets the variable to that before it starts with CUDA.
    if value is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = value
    starting = [threading.Thread(target=driver.cuInit, args=(0,)) for _ in range(3)]
    for each in starting: each.start()
    for each in starting: each.join()
    code = driver.cuInit(0)[0]
    assert all(int(driver.cuInit(0)[0]) == int(code) for _ in range(3))
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    kept = getenv(b"CUDA_VISIBLE_DEVICES")
    assert kept == (None if value is None else value.encode()), kept
    cards = [(driver.cuDeviceGetName(60, i)[1].decode().rstrip("\\0"), driver.cuDeviceTotalMem(i)[1])
             for i in range(driver.cuDeviceGetCount()[1] or 0)]
    return {"code": code.name, "cards": cards}

def in_child(value):
    end, start = os.pipe()
    if os.fork() == 0:
        os.write(start, json.dumps(seen(value)).encode())
        os._exit(0)
    os.close(start)
    told = os.fdopen(end).read()
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    return json.loads(told)

print(json.dumps([in_child(value) for value in json.loads(sys.argv[1])]))
"""


@pytest.fixture
def machine(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    """Three cards, seen from outside any slice."""
    settings = {"ALIQUOT_SIMGPU": CARDS, "ALIQUOT_SIMGPU_HOST_BYTES": "64GiB", "PYTHONPATH": str(PROGRAMS)}
    return {**simgpu_env, **settings}


@pytest.fixture
def uuids(machine: Mapping[str, str]) -> list[str]:
    """Of the machine's cards, in its order."""
    asked = "pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(i))"
    return from_outside(machine, f"[{asked} for i in range(3)]")


@pytest.fixture
def on_two(machine: Mapping[str, str], uuids: list[str], native_dir: Path, slice_home: Path) -> Limited:
    """A slice of the third card and the first, in this order."""
    limits = [
        DeviceLimit(vram_bytes=LIMITS[A100], device=uuids[2]),
        DeviceLimit(vram_bytes=LIMITS[H100], device=uuids[0]),
    ]
    driver, nvml = (native_dir / "simgpu" / name for name in ("libcuda.so.1", "libnvidia-ml.so.1"))
    made = Slice.create_on(limits, driver=driver, nvml=nvml, home=slice_home)
    base = {name: value for name, value in machine.items() if name != "LD_LIBRARY_PATH"}
    return Limited(made, limiter.environment(made, {**base, "CUDA_VISIBLE_DEVICES": "1"}))


def seen(limited: Limited, values: list[str | None]) -> list[dict[str, Any]]:
    """What a process sees with each of these values, in a slice."""
    return json.loads(limited.run(PROGRAM, json.dumps(values))[0])


def test_the_callers_choice_is_not_the_programs(on_two: Limited):
    """It was among all cards of the machine; the slice has taken its place."""
    assert "CUDA_VISIBLE_DEVICES" not in on_two.env


def test_a_program_chooses_among_its_slices_cards(on_two: Limited, uuids: list[str]):
    expected: dict[str | None, list[str]] = {
        None: [A100, H100],
        "0": [A100],
        "1": [H100],
        " 1 , 0": [H100, A100],
        "0,1,2": [A100, H100],
        "0,2,1": [A100],
        f"{uuids[0]},{uuids[2]}": [H100, A100],
        uuids[2][:12]: [A100],
        f"0,{uuids[1]},1": [A100],
    }
    for value, told in zip(expected, seen(on_two, list(expected)), strict=True):
        assert told["code"] == "CUDA_SUCCESS", value
        assert [(name.split()[1][:4], size) for name, size in told["cards"]] == [
            (name, LIMITS[name]) for name in expected[value]
        ], value


def test_no_value_leads_to_another_card(on_two: Limited, uuids: list[str]):
    none: list[str | None] = [
        "",
        "-1",
        "2",
        uuids[1],
        "GPU-",
        "MIG-0",
        "0,0",
        "x",
        ",0",
        "9" * 5000,
        "0," * 5000,
    ]
    for value, told in zip(none, seen(on_two, none), strict=True):
        assert told == {"code": "CUDA_ERROR_NO_DEVICE", "cards": []}, value
