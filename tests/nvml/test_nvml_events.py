"""Events and counters of faults that `aliquot-simgpu fault` makes, as a monitoring client sees them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.sanitized

Nvml = Callable[..., Any]
XID, SINGLE, DOUBLE, CLOCK = 0x8, 0x1, 0x2, 0x10
GPU_IS_LOST, TIMEOUT = 15, 10

WATCH = """
import json, sys, time, pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
s = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(h, int(sys.argv[1]), s)
print('ready', flush=True)
start = time.monotonic()
for _ in range(int(sys.argv[2])):
    try:
        e = n.nvmlEventSetWait_v2(s, 20000)
        print(json.dumps([e.eventType, e.eventData, n.nvmlDeviceGetIndex(e.device) if int(sys.argv[3]) else 0,
                          round(time.monotonic() - start, 3)]), flush=True)
    except n.NVMLError as error:
        print(json.dumps([0, error.value, 0, 0]), flush=True)
"""


@pytest.fixture
def fault(native_dir: Path, nvml_env: Mapping[str, str]) -> Callable[..., None]:
    def run(*arguments: str) -> None:
        program = native_dir / "bin" / "aliquot-simgpu"
        subprocess.run([program, "fault", *arguments], env=dict(nvml_env), check=True, timeout=60)

    return run


@pytest.fixture
def watch(nvml_env: Mapping[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def run(types: int, count: int, *, present: bool = True) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WATCH, str(types), str(count), str(int(present))]
        process = subprocess.Popen(command, env=dict(nvml_env), stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def events(process: subprocess.Popen[str], count: int) -> list[Any]:
    assert process.stdout
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_an_xid_wakes_who_waits(watch: Callable[..., Any], fault: Callable[..., None]) -> None:
    watcher = watch(XID, 1)
    time.sleep(0.5)
    fault("xid", "31", "--card", "0")
    ((kind, data, card, after),) = events(watcher, 1)
    assert (kind, data, card) == (XID, 31, 0)
    assert 0.4 < after < 15


def test_ecc_errors_are_events_and_counts(
    watch: Callable[..., Any], fault: Callable[..., None], nvml: Nvml
) -> None:
    watcher = watch(SINGLE, 1)
    fault("ecc", "single", "--card", "0")
    assert events(watcher, 1)[0][:2] == [SINGLE, 0]
    counts = nvml(
        "result = [[n.nvmlDeviceGetTotalEccErrors(n.nvmlDeviceGetHandleByIndex(i), t, c)\n"
        "           for t in (0, 1) for c in (0, 1)] for i in (0, 1)]"
    )
    assert counts == [[1, 1, 0, 0], [0, 0, 0, 0]]


def test_a_lost_card_is_lost_to_every_call(fault: Callable[..., None], nvml: Nvml) -> None:
    fault("lost", "--card", "0")
    assert nvml(
        "result = [n.nvmlDeviceGetCount(), outcome(n.nvmlDeviceGetHandleByIndex, 0),\n"
        "          n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByIndex(1))]"
    ) == [4, "NVMLError_GpuIsLost", 1]


def test_throttling_slows_clocks_down(
    fault: Callable[..., None], nvml: Nvml, watch: Callable[..., Any]
) -> None:
    watcher = watch(CLOCK, 1)
    fault("throttle", "--card", "0", "--clock", "50")
    assert events(watcher, 1)[0][:2] == [CLOCK, 0]
    reasons, slow = nvml(
        "h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "result = [n.nvmlDeviceGetCurrentClocksEventReasons(h),\n"
        "          n.nvmlDeviceGetTemperature(h, 0) >= n.nvmlDeviceGetTemperatureThreshold(h, 1)]"
    )
    assert reasons & 0xE8
    assert slow is True


def test_waits_end_in_time(nvml: Nvml) -> None:
    code, waited = nvml(
        "import time\n"
        "s = n.nvmlEventSetCreate(); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "n.nvmlDeviceRegisterEvents(h, n.nvmlEventTypeXidCriticalError, s)\n"
        "start = time.monotonic()\n"
        "try: n.nvmlEventSetWait_v2(s, 200); code = 0\n"
        "except n.NVMLError as error: code = error.value\n"
        "result = [code, time.monotonic() - start]"
    )
    assert code == TIMEOUT
    assert 0.19 < waited < 10


def test_sets_that_are_none(nvml: Nvml) -> None:
    assert nvml(
        "L = ctypes.CDLL('libnvidia-ml.so.1'); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "s = n.nvmlEventSetCreate(); n.nvmlEventSetFree(s); d = n.c_nvmlEventData_t()\n"
        "result = [L.nvmlEventSetWait_v2(s, ctypes.byref(d), 0), L.nvmlEventSetWait_v2(None, "
        "ctypes.byref(d), 0),\n"
        "          L.nvmlDeviceRegisterEvents(h, ctypes.c_ulonglong(8), s), L.nvmlEventSetFree(s)]"
    ) == [2, 2, 2, 999]
