"""nvitop and gpustat, unchanged, on the simulated NVML: what they show, and what programs get of nvitop."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ..lines import LineProgram
from .conftest import answer_of, result_of

MIB, GIB = 1 << 20, 1 << 30
Nvml = Callable[..., Any]
Nvitop = Callable[..., Any]


@pytest.fixture
def nvitop(nvml_env: Mapping[str, str]) -> Nvitop:
    """Runs code with nvitop's classes imported, and returns what it puts into `result`."""

    def run(code: str, **env: str) -> Any:
        classes = "CudaDevice, Device, GpuProcess, MigDevice, PhysicalDevice, take_snapshots"
        return result_of(f"import json\nfrom nvitop import {classes}\n{code}", {**nvml_env, **env})

    return run


def test_nvitop_shows_cards_and_processes(nvml_env: Mapping[str, str], worker: LineProgram) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nvitop", "-1", "--colorful"],
        env={**nvml_env, "COLUMNS": "140", "LINES": "60", "TERM": "xterm", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for shown in (
        "HBM3 (simulated)",
        "T4 (simulated)",
        "4090 (simulated)",
        "3072MiB / 79.65GiB",
        "00000000:13:00.0",
    ):
        assert shown in done.stdout
    lines = [line for line in done.stdout.splitlines() if f" {worker.pid} " in line]
    assert len(lines) == 2
    assert "3072MiB" in lines[0]
    assert "1024MiB" in lines[1]


def test_gpustat_shows_cards_and_processes(nvml_env: Mapping[str, str], worker: LineProgram) -> None:
    cards = gpustat(nvml_env)["gpus"]
    assert [card["memory.used"] for card in cards] == [3072, 0, 0, 1024]
    assert [card["enforced.power.limit"] for card in cards] == [700, 700, 70, 450]
    assert [[p["pid"], p["gpu_memory_usage"]] for p in cards[0]["processes"]] == [[worker.pid, 3072]]


def test_nvitop_knows_the_cards(nvitop: Nvitop) -> None:
    cards = nvitop(
        "result = [[d.index, d.name(), d.memory_total(), d.cuda_compute_capability(), d.bus_id(),\n"
        "           d.power_limit(), d.max_sm_clock(), d.uuid()[:4],\n"
        "           d.total_volatile_uncorrected_ecc_errors(), d.mig_mode(), d.compute_mode(),\n"
        "           d.performance_state()] for d in Device.all()]"
    )
    assert [card[0] for card in cards] == [0, 1, 2, 3]
    assert [card[2] >> 20 for card in cards] == [81559, 81559, 15360, 24564]
    assert [card[3] for card in cards] == [[9, 0], [9, 0], [7, 5], [8, 9]]
    assert len({card[4] for card in cards}) == 4
    assert [card[5] for card in cards] == [700_000, 700_000, 70_000, 450_000]
    assert cards[0][6:] == [1980, "GPU-", 0, "Disabled", "Default", "P0"]
    assert [card[8] for card in cards] == [0, 0, 0, "N/A"]  # a GeForce card has no ECC counters


def test_nvitop_sees_memory_and_processes(nvitop: Nvitop, worker: LineProgram) -> None:
    seen = nvitop(
        "result = []\n"
        "for d in Device.all():\n"
        "    used, total = d.memory_used(), d.memory_total()\n"
        "    assert d.memory_free() + used == total\n"
        "    assert d.memory_percent() == round(100 * used / total, 1)\n"
        "    processes = [[p.pid, p.gpu_memory(), p.type, p.host.name()] for p in d.processes().values()]\n"
        "    result.append([used, processes])"
    )
    name = "aliquot-machine-probe"
    first, last = [worker.pid, 3 * GIB, "C", name], [worker.pid, GIB, "C", name]
    assert seen == [[3 * GIB, [first]], [0, []], [0, []], [GIB, [last]]]


def test_nvitop_measures_load(nvitop: Nvitop, worker: LineProgram) -> None:
    worker.send("spin 0 20000")
    busy, idle, process = nvitop(
        "import time\n"
        "cards = Device.all()\n"
        "cards[0].processes(); time.sleep(1.5)\n"
        "(process,) = cards[0].processes().values()\n"
        "process.update_gpu_status()\n"
        "result = [[d.gpu_utilization(), d.power_usage(), d.temperature(), d.sm_clock()]\n"
        "          for d in cards[:2]]\n"
        "result.append([process.pid, process.gpu_sm_utilization()])"
    )
    assert 50 <= busy[0] <= 100
    assert idle[0] == 0
    assert idle[1] < busy[1]
    assert idle[2] < busy[2]
    assert idle[3] < busy[3]
    assert process[0] == worker.pid
    assert process[1] >= 50


def test_nvitop_takes_a_snapshot_of_all(nvitop: Nvitop, worker: LineProgram) -> None:
    devices, processes = nvitop(
        "taken = take_snapshots()\n"
        "result = [[[d.index, d.memory_used] for d in taken.devices],\n"
        "          sorted([p.device.index, p.pid, p.gpu_memory] for p in taken.gpu_processes)]"
    )
    assert devices == [[0, 3 * GIB], [1, 0], [2, 0], [3, GIB]]
    assert processes == [[0, worker.pid, 3 * GIB], [3, worker.pid, GIB]]


def test_nvitop_follows_what_cuda_may_see(nvitop: Nvitop) -> None:
    seen = nvitop(
        "result = [[d.physical_index, d.name()] for d in CudaDevice.all()]", CUDA_VISIBLE_DEVICES="3,2"
    )
    assert seen == [[3, "NVIDIA GeForce RTX 4090 (simulated)"], [2, "Tesla T4 (simulated)"]]


@pytest.fixture
def divided(nvml: Nvml) -> dict[str, str]:
    """Card 1 holds two MIG devices, of 3 and 1 slices; the environment of an administrator."""
    administrator = {"ALIQUOT_SIMGPU_ADMIN": "1"}
    nvml(
        "h = n.nvmlDeviceGetHandleByIndex(1)\n"
        "n.nvmlDeviceSetMigMode(h, 1)\n"
        "for profile in (9, 19):\n"
        "    g = n.nvmlDeviceCreateGpuInstance(h, profile)\n"
        "    n.nvmlGpuInstanceCreateComputeInstance(g, 2 if profile == 9 else 0)\n"
        "result = None",
        **administrator,
    )
    return administrator


def test_nvitop_knows_mig_devices(nvitop: Nvitop, divided: dict[str, str]) -> None:
    seen = nvitop(
        "card = PhysicalDevice(1)\n"
        "devices = card.mig_devices()\n"
        "result = dict(mode=card.mig_mode(), most=card.max_mig_device_count(),\n"
        "              leaves=[list(d.index) if isinstance(d.index, tuple) else d.index\n"
        "                      for c in PhysicalDevice.all() for d in c.to_leaf_devices()],\n"
        "              names=[d.name().split(' MIG ')[1] for d in devices],\n"
        "              totals=[d.memory_total() >> 20 for d in devices],\n"
        "              used=[d.memory_used() for d in devices],\n"
        "              uuids=[d.uuid()[:4] for d in devices],\n"
        "              instances=[[d.gpu_instance_id() > 0, d.compute_instance_id()] for d in devices],\n"
        "              all=len(MigDevice.all()))",
        **divided,
    )
    assert (seen["mode"], seen["most"], seen["all"]) == ("Enabled", 7, 2)
    assert seen["leaves"] == [0, [1, 0], [1, 1], 2, 3]
    assert seen["names"] == ["3g.40gb", "1g.10gb"]
    assert seen["totals"] == [40448, 9984]
    assert seen["uuids"] == ["MIG-", "MIG-"]
    assert seen["instances"] == [[True, 0], [True, 0]]


def gpustat(env: Mapping[str, str]) -> dict[str, Any]:
    """What `gpustat --json` says."""
    return answer_of(["-m", "gpustat", "--json"], env)


@pytest.fixture
def loaded(worker: LineProgram) -> LineProgram:
    """The worker, at work for twenty seconds."""
    worker.send("spin 0 20000")
    return worker


def test_gpustat_says_all_that_it_knows(nvml_env: Mapping[str, str], loaded: LineProgram) -> None:
    time.sleep(1.2)
    said = gpustat(nvml_env)
    assert said["driver_version"].count(".") == 1
    busy, idle, *_, last = said["gpus"]
    assert [card["index"] for card in said["gpus"]] == [0, 1, 2, 3]
    assert [card["memory.total"] for card in said["gpus"]] == [81559, 81559, 15360, 24564]
    assert len({card["uuid"] for card in said["gpus"]}) == 4
    assert busy["utilization.gpu"] >= 50
    assert idle["utilization.gpu"] == 0
    assert idle["temperature.gpu"] < busy["temperature.gpu"]
    assert idle["power.draw"] < busy["power.draw"] <= busy["enforced.power.limit"] == 700
    assert busy["fan.speed"] is None  # the card is cooled by its server
    assert last["fan.speed"] == 30
    (process,) = busy["processes"]
    assert process["pid"] == loaded.pid
    assert process["command"] == "aliquot-machine-probe"
    assert process["gpu_memory_usage"] == 3072
    assert idle["processes"] == []
