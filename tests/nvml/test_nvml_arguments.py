"""Missing outputs, foreign handles, short buffers, wrong struct versions: an NVML error, never a crash.

The calls go through ctypes, because nvidia-ml-py never makes such mistakes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..lines import LineProgram

INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND, INSUFFICIENT_SIZE, VERSION_MISMATCH = 2, 3, 6, 7, 25
Nvml = Callable[..., Any]
LIBRARY = "L = ctypes.CDLL('libnvidia-ml.so.1')\nh = n.nvmlDeviceGetHandleByIndex(0)\nu = ctypes.c_uint\n"


NOT_CALLED = {"nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags", "nvmlErrorString"}


@pytest.fixture
def entry_points(native_build: Path) -> dict[str, bool]:
    """All exported functions, from the list of entry points: does it take a device first?"""
    text = (native_build / "generated/aliquot/nvml_entry_points.inc").read_text()
    rows = re.findall(r"^ALIQUOT_NVML_ENTRY_POINT\(\d+, (\w+), .*?, \((.*?)\), ", text, re.MULTILINE)
    assert len(rows) > 300
    return {name: first.startswith("nvmlDevice_t ") for name, first in rows if name not in NOT_CALLED}


@pytest.mark.sanitized
@pytest.mark.parametrize("device", ["null", "valid", "foreign"])
def test_every_entry_point_survives_missing_arguments(
    device: str, entry_points: dict[str, bool], nvml_env: Mapping[str, str]
) -> None:
    """Nothing but a device of some kind, where a function takes one: every result is an nvmlReturn_t."""
    called = [name for name, takes_device in entry_points.items() if takes_device or device == "null"]
    assert len(called) > 200
    code = (
        "import ctypes, sys, pynvml as n\n"
        "n.nvmlInit()\n"
        "L = ctypes.CDLL('libnvidia-ml.so.1')\n"
        "scratch = ctypes.create_string_buffer(64)\n"
        "device = {'null': None, 'valid': n.nvmlDeviceGetHandleByIndex(0),\n"
        "          'foreign': ctypes.cast(scratch, ctypes.c_void_p)}[sys.argv[1]]\n"
        "for name in sys.argv[2:]:\n"
        "    result = getattr(L, name)(device, *[ctypes.c_void_p(None)] * 6)\n"
        "    assert 0 <= result <= 30 or result == 999, (name, result)\n"
        "    if name == 'nvmlShutdown': n.nvmlInit()\n"
        "assert scratch.raw == bytes(64)\n"
        "print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, device, *called],
        env=dict(nvml_env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_foreign_handles_are_told_apart(nvml: Nvml) -> None:
    assert (
        nvml(
            LIBRARY + "value = u()\n"
            "at = ctypes.cast(h, ctypes.c_void_p).value\n"
            "near = [ctypes.c_void_p(at + offset) for offset in (-1, 4, 64, 1 << 40)]\n"
            "bad = [None, ctypes.c_void_p(1), ctypes.c_void_p(2**64 - 1), ctypes.byref(value), *near]\n"
            "result = [L.nvmlDeviceGetIndex(handle, ctypes.byref(value)) for handle in bad]"
        )
        == [INVALID_ARGUMENT] * 8
    )


def test_pci_addresses_that_are_none(nvml: Nvml) -> None:
    assert nvml(
        LIBRARY + "d = ctypes.c_void_p()\n"
        "texts = [b'', b':', b'10:00', b'10:00.', b'0:10:00.0x', b'1:0:10:00.0', b'fffffffff:10:00.0',\n"
        "         b' 10:00.0', b'99:00.0', b'10:0.0']\n"
        "result = [L.nvmlDeviceGetHandleByPciBusId_v2(text, ctypes.byref(d)) for text in texts]"
    ) == [INVALID_ARGUMENT] * 8 + [NOT_FOUND, 0]


def test_buffers_are_not_written_past_their_end(nvml: Nvml) -> None:
    short, exact, kept = nvml(
        LIBRARY + "name = n.nvmlDeviceGetName(h)\n"
        "b = ctypes.create_string_buffer(b'x' * 96, 96)\n"
        "result = [L.nvmlDeviceGetName(h, b, u(len(name))), L.nvmlDeviceGetName(h, b, u(len(name) + 1))]\n"
        "result.append(b.raw[len(name) + 1:] == b'x' * (95 - len(name)))"
    )
    assert (short, exact, kept) == (INSUFFICIENT_SIZE, 0, True)


def test_old_pci_info_ends_before_the_new_fields(nvml: Nvml) -> None:
    """The first nvmlDeviceGetPciInfo filled a struct without pciSubSystemId and busId."""
    status, kept = nvml(
        LIBRARY + "b = ctypes.create_string_buffer(b'x' * 68, 68)\n"
        "result = [L.nvmlDeviceGetPciInfo(h, b), b.raw[32:] == b'x' * 36]"
    )
    assert (status, kept) == (0, True)


def test_struct_versions_are_checked(nvml: Nvml) -> None:
    assert nvml(
        LIBRARY + "m = n.c_nvmlMemory_v2_t(); m.version = 7\n"
        "result = [L.nvmlDeviceGetMemoryInfo_v2(h, ctypes.byref(m)), m.total]"
    ) == [VERSION_MISMATCH, 0]


def test_lists_say_how_much_room_they_need(nvml: Nvml, worker: LineProgram) -> None:
    result = nvml(
        LIBRARY + "count = u(0)\n"
        "f = L.nvmlDeviceGetComputeRunningProcesses_v3\n"
        "first = f(h, ctypes.byref(count), None), count.value\n"
        "infos = (n.c_nvmlProcessInfo_v3_t * 4)(); count = u(4)\n"
        "second = f(h, ctypes.byref(count), infos), count.value, infos[0].pid, infos[0].gpuInstanceId\n"
        "third = f(h, ctypes.byref(u(4)), None)\n"
        "clocks = u(0)\n"
        "fourth = L.nvmlDeviceGetSupportedMemoryClocks(h, ctypes.byref(clocks), None), clocks.value\n"
        "result = [first, second, third, fourth]"
    )
    assert result == [
        [INSUFFICIENT_SIZE, 1],
        [0, 1, worker.pid, 0xFFFFFFFF],
        INVALID_ARGUMENT,
        [INSUFFICIENT_SIZE, 1],
    ]


def test_field_values_fail_one_by_one(nvml: Nvml) -> None:
    statuses = nvml(
        "h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "fields = [n.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, n.NVML_FI_DEV_RETIRED_DBE,\n"
        "          n.NVML_FI_DEV_POWER_INSTANT, 99999]\n"
        "values = n.nvmlDeviceGetFieldValues(h, fields)\n"
        "result = [value.nvmlReturn for value in values] + [values[2].value.uiVal]"
    )
    assert statuses == [0, NOT_SUPPORTED, 0, NOT_SUPPORTED, 70_000]
