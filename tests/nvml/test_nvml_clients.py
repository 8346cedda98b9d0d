"""nvidia-ml-py, unchanged, on the simulated NVML."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ..lines import LineProgram

GIB = 1 << 30
Nvml = Callable[..., Any]


def test_cards_are_what_the_setting_says(nvml: Nvml) -> None:
    cards = nvml(
        "handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]\n"
        "result = [[n.nvmlDeviceGetName(h), n.nvmlDeviceGetMemoryInfo(h).total,\n"
        "           n.nvmlDeviceGetCudaComputeCapability(h)] for h in handles]"
    )
    h100 = ["NVIDIA H100 80GB HBM3 (simulated)", 81559 << 20, [9, 0]]
    assert cards == [
        h100,
        h100,
        ["Tesla T4 (simulated)", 15360 << 20, [7, 5]],
        ["NVIDIA GeForce RTX 4090 (simulated)", 24564 << 20, [8, 9]],
    ]


def test_handles_lead_back_to_the_card(nvml: Nvml) -> None:
    assert nvml(
        "result = []\n"
        "for i in range(4):\n"
        "    h = n.nvmlDeviceGetHandleByIndex(i)\n"
        "    pci = n.nvmlDeviceGetPciInfo(h)\n"
        "    ways = [n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h)),\n"
        "            n.nvmlDeviceGetHandleByPciBusId(pci.busId),\n"
        "            n.nvmlDeviceGetHandleByPciBusId(pci.busIdLegacy)]\n"
        "    if i < 3: ways.append(n.nvmlDeviceGetHandleBySerial(n.nvmlDeviceGetSerial(h)))\n"
        "    result.append([n.nvmlDeviceGetIndex(way) for way in ways])"
    ) == [[0] * 4, [1] * 4, [2] * 4, [3] * 3]


def test_memory_and_processes(nvml: Nvml, worker: LineProgram) -> None:
    seen = nvml(
        "result = []\n"
        "for i in range(4):\n"
        "    h = n.nvmlDeviceGetHandleByIndex(i)\n"
        "    m, m2 = n.nvmlDeviceGetMemoryInfo(h), n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2)\n"
        "    assert (m.used, m.total, m.free) == (m2.used, m2.total, m2.free)\n"
        "    assert m.used + m.free == m.total\n"
        "    lists = [n.nvmlDeviceGetComputeRunningProcesses(h),\n"
        "             n.nvmlDeviceGetComputeRunningProcesses_v2(h)]\n"
        "    result.append([m.used, *([[p.pid, p.usedGpuMemory] for p in one] for one in lists),\n"
        "                   len(n.nvmlDeviceGetGraphicsRunningProcesses(h))])"
    )
    first, last = [[worker.pid, 3 * GIB]], [[worker.pid, GIB]]
    assert seen == [[3 * GIB, first, first, 0], [0, [], [], 0], [0, [], [], 0], [GIB, last, last, 0]]


def test_load_is_measured_and_the_rest_follows(nvml: Nvml, worker: LineProgram) -> None:
    worker.send("spin 0 20000")
    busy, idle = nvml(
        "import time; time.sleep(1.2)\n"
        "result = []\n"
        "for i in (0, 1):\n"
        "    h = n.nvmlDeviceGetHandleByIndex(i)\n"
        "    samples = outcome(n.nvmlDeviceGetProcessUtilization, h, 0)\n"
        "    samples = samples if isinstance(samples, str) else [[s.pid, s.smUtil] for s in samples]\n"
        "    result.append([n.nvmlDeviceGetUtilizationRates(h).gpu, samples, n.nvmlDeviceGetPowerUsage(h),\n"
        "                   n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),\n"
        "                   n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),\n"
        "                   n.nvmlDeviceGetTotalEnergyConsumption(h), n.nvmlDeviceGetEnforcedPowerLimit(h)])"
    )
    assert 50 <= busy[0] <= 100
    assert busy[1][0][0] == worker.pid
    assert abs(busy[1][0][1] - busy[0]) <= 30
    assert idle[0] == 0
    assert idle[1] == "NVMLError_NotFound"
    assert idle[2] < busy[2] <= busy[6] == 700_000
    assert (idle[3], idle[4], busy[4]) == (30, 210, 1980)
    assert 30 < busy[3] < 85
    assert busy[5] > idle[5] > 0


def test_what_a_class_of_card_lacks_is_not_supported(nvml: Nvml) -> None:
    answers = nvml(
        "calls = dict(fan=n.nvmlDeviceGetFanSpeed, ecc=n.nvmlDeviceGetEccMode,\n"
        "             serial=n.nvmlDeviceGetSerial, mig=n.nvmlDeviceGetMigMode,\n"
        "             errors=lambda h: n.nvmlDeviceGetTotalEccErrors(h, 0, 0))\n"
        "result = {name: [outcome(call, n.nvmlDeviceGetHandleByIndex(i)) for i in (0, 2, 3)]\n"
        "          for name, call in calls.items()}"
    )
    lacks = "NVMLError_NotSupported"
    assert answers["fan"] == [lacks, lacks, 30]
    assert answers["ecc"] == [[1, 1], [1, 1], lacks]
    assert answers["errors"] == [0, 0, lacks]
    assert answers["mig"] == [[0, 0], lacks, lacks]
    assert [len(serial) for serial in answers["serial"][:2]] == [13, 13]
    assert answers["serial"][2] == lacks


def test_initialisation_is_counted(nvml: Nvml) -> None:
    assert nvml(
        "count = lambda: outcome(n.nvmlDeviceGetCount)\n"
        "result = [count()]\n"
        "n.nvmlInit(); n.nvmlInit(); n.nvmlShutdown(); result.append(count())\n"
        "n.nvmlShutdown(); result.append(count())\n"
        "result.append(outcome(n.nvmlShutdown))\n"
        "n.nvmlInit(); result.append(count())",
        initialise=False,
    ) == ["NVMLError_Uninitialized", 4, "NVMLError_Uninitialized", "NVMLError_Uninitialized", 4]


def test_versions_agree_with_the_driver(nvml: Nvml) -> None:
    cuda, driver, nvml_version, error = nvml(
        "result = [n.nvmlSystemGetCudaDriverVersion(), n.nvmlSystemGetDriverVersion(),\n"
        "          n.nvmlSystemGetNVMLVersion(), n.nvmlErrorString(n.NVML_ERROR_GPU_IS_LOST)]"
    )
    assert cuda >= 13000
    assert nvml_version == f"{cuda // 1000}.{driver}"
    assert error == "GPU is lost"


def test_a_bad_setting_is_an_error_with_a_reason(nvml_env: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env={**nvml_env, "ALIQUOT_SIMGPU": "h10"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "did you mean h100?" in done.stderr


@pytest.mark.parametrize("fork", [False, True])
def test_a_client_that_forks_keeps_seeing(fork: bool, nvml: Nvml) -> None:
    assert (
        nvml(
            "import os\n"
            f"child = os.fork() if {fork} else 0\n"
            "if child:\n"
            "    os.waitpid(child, 0); os._exit(0)\n"
            "result = n.nvmlDeviceGetMemoryInfo(n.nvmlDeviceGetHandleByIndex(3)).total"
        )
        == 24564 << 20
    )
