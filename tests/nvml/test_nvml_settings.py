"""What is set on a card, and what follows from it: limits, clocks, energy, accounting, modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ..lines import LineProgram

pytestmark = pytest.mark.sanitized

Nvml = Callable[..., Any]
INVALID, NOT_SUPPORTED, NO_PERMISSION = 2, 3, 4
AS_ROOT = {"ALIQUOT_SIMGPU_ADMIN": "1"}
CODE = (
    "h = n.nvmlDeviceGetHandleByIndex(0)\n"
    "def code(call, *arguments):\n"
    "    try: call(*arguments); return 0\n"
    "    except n.NVMLError as error: return error.value\n"
)


def test_a_power_limit_caps_clocks_for_every_process(nvml: Nvml, worker: LineProgram) -> None:
    limits = nvml(
        CODE + "low, high = n.nvmlDeviceGetPowerManagementLimitConstraints(h)\n"
        "result = [low, high, *[code(n.nvmlDeviceSetPowerManagementLimit, h, mw) for mw in (low - "
        "1, high + 1, low)]]",
        **AS_ROOT,
    )
    assert limits == [350_000, 700_000, INVALID, INVALID, 0]
    worker.send("spin 0 20000")
    enforced, power, clock, reasons = nvml(
        "import time; time.sleep(1.2); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "result = [n.nvmlDeviceGetEnforcedPowerLimit(h), n.nvmlDeviceGetPowerUsage(h),\n"
        "          n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM), n.nvmlDeviceGetCurrentClocksEventReasons(h)]"
    )
    assert enforced == 350_000
    assert 70_000 < power <= 350_000
    assert 210 < clock < 1980
    assert reasons == 0x4


def test_locked_clocks(nvml: Nvml) -> None:
    assert nvml(
        CODE + "n.nvmlDeviceSetGpuLockedClocks(h, 900, 1200)\n"
        "result = [n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM), "
        "code(n.nvmlDeviceSetGpuLockedClocks, h, 900, 300)]\n"
        "n.nvmlDeviceResetGpuLockedClocks(h); result.append(n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM))",
        **AS_ROOT,
    ) == [900, INVALID, 210]


def test_energy_is_power_over_time(nvml: Nvml) -> None:
    """An idle H100 draws its idle power, and nothing is lost when a setting changes in between."""
    power, drawn, seconds = nvml(
        CODE + "import time\n"
        "start, first = time.monotonic(), n.nvmlDeviceGetTotalEnergyConsumption(h)\n"
        "time.sleep(1); n.nvmlDeviceSetPowerManagementLimit(h, 400000); time.sleep(1)\n"
        "last = n.nvmlDeviceGetTotalEnergyConsumption(h)\n"
        "result = [n.nvmlDeviceGetPowerUsage(h), last - first, time.monotonic() - start]",
        **AS_ROOT,
    )
    assert power == 70_000
    assert abs(drawn - power * seconds) < 0.1 * power * seconds


def test_accounting_counts_who_came_after(nvml: Nvml, worker: LineProgram) -> None:
    off, on, pids = nvml(
        CODE + "result = [code(n.nvmlDeviceGetAccountingPids, h)]\n"
        "n.nvmlDeviceSetAccountingMode(h, 1)\n"
        "result += [n.nvmlDeviceGetAccountingMode(h), list(n.nvmlDeviceGetAccountingPids(h))]",
        **AS_ROOT,
    )
    assert (off, on, pids) == (NOT_SUPPORTED, 1, [])


def test_samples_are_a_series(nvml: Nvml) -> None:
    times, values, again = nvml(
        CODE + "kind, samples = n.nvmlDeviceGetSamples(h, n.NVML_GPU_UTILIZATION_SAMPLES, 0)\n"
        "result = [[s.timeStamp for s in samples], [s.sampleValue.uiVal for s in samples]]\n"
        "result.append(code(n.nvmlDeviceGetSamples, h, 1, samples[len(samples) - 1].timeStamp + 10**9))"
    )
    assert len(times) == 100
    assert times == sorted(times)
    assert set(values) == {0}
    assert again == 6


def test_gpm_reports_what_is_counted(nvml: Nvml, worker: LineProgram) -> None:
    worker.send("spin 0 20000")
    busy, occupancy, old = nvml(
        CODE + "import time\n"
        "a, b = n.nvmlGpmSampleAlloc(), n.nvmlGpmSampleAlloc()\n"
        "n.nvmlGpmSampleGet(h, a); time.sleep(1); n.nvmlGpmSampleGet(h, b)\n"
        "m = n.c_nvmlGpmMetricsGet_t(); m.version = n.NVML_GPM_METRICS_GET_VERSION; m.numMetrics = 2\n"
        "m.sample1, m.sample2 = a, b; m.metrics[0].metricId = n.NVML_GPM_METRIC_SM_UTIL\n"
        "m.metrics[1].metricId = n.NVML_GPM_METRIC_SM_OCCUPANCY; n.nvmlGpmMetricsGet(m)\n"
        "result = [m.metrics[0].value, m.metrics[1].nvmlReturn,\n"
        "          code(n.nvmlGpmSampleGet, n.nvmlDeviceGetHandleByIndex(2), a)]"
    )
    assert 30 < busy <= 100
    assert (occupancy, old) == (NOT_SUPPORTED, NOT_SUPPORTED)


def test_modules_of_one_model_are_joined(nvml: Nvml) -> None:
    links, state, kind, peers = nvml(
        CODE + "f = n.nvmlDeviceGetFieldValues(h, [n.NVML_FI_DEV_NVLINK_LINK_COUNT])[0].value.uiVal\n"
        "second, other = n.nvmlDeviceGetHandleByIndex(1), n.nvmlDeviceGetHandleByIndex(2)\n"
        "result = [f, n.nvmlDeviceGetNvLinkState(h, 17), n.nvmlDeviceGetNvLinkRemoteDeviceType(h, 0),\n"
        "          [n.nvmlDeviceGetP2PStatus(h, x, n.NVML_P2P_CAPS_INDEX_NVLINK) for x in (second, other)]]"
    )
    assert (links, state, kind, peers) == (18, 1, 2, [0, 5])
