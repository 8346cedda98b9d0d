"""Lists of processes while tenants are killed: no call fails, and nobody stays in them after his death."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..lines import LineProgram

MIB = 1 << 20
TENANTS, KILLS, SEED = 6, 24, 20261122

POLL = """
import json, sys, threading
import pynvml as n
n.nvmlInit()
cards = [n.nvmlDeviceGetHandleByIndex(i) for i in range(2)]
rounds, failures = 0, []
def lists(card):
    detail = n.nvmlDeviceGetRunningProcessDetailList(card, n.nvmlProcessDetailList_v1, 0)
    return [sorted([p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses(card)),
            sorted([p.pid, p.usedGpuMemory] for p in detail),
            sorted([p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses_v2(card))]
def utilization(card):
    try: return [s.pid for s in n.nvmlDeviceGetProcessUtilization(card, 0)]
    except n.NVMLError_NotFound: return []
def poll():
    global rounds
    while True:
        try:
            for card in cards:
                n.nvmlDeviceGetComputeRunningProcesses(card); n.nvmlDeviceGetMemoryInfo(card)
                for call in (lists, utilization):
                    try: call(card)
                    except n.NVMLError_InsufficientSize: pass # the client asks for the size; it grew since
        except Exception as error: failures.append(repr(error))
        rounds += 1
threading.Thread(target=poll, daemon=True).start()
print('ready', flush=True)
for line in sys.stdin:
    used = [n.nvmlDeviceGetMemoryInfo(card).used for card in cards]
    seen = [lists(card) for card in cards]
    print(json.dumps(dict(lists=seen, used=used, rounds=rounds, failures=failures[:5])), flush=True)
"""

LEADERLESS = """
import ctypes, threading, time
cuda, libc = ctypes.CDLL('libcuda.so.1'), ctypes.CDLL(None)
context, memory = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(64 << 20)) == 0
threading.Thread(target=time.sleep, args=(60,)).start()
print('ready', flush=True)
libc.pthread_exit(None) # the main thread alone: the kernel shows the process as a zombie, and it lives on
"""

Seen = dict[str, Any]


@pytest.fixture
def poller(nvml_env: Mapping[str, str]) -> Iterator[LineProgram]:
    """A process that polls all lists without a pause, and says on demand what they hold."""
    with LineProgram([sys.executable, "-c", POLL], nvml_env) as process:
        assert process.greeting == "ready"
        yield process


@pytest.fixture
def tenant(native_build: Path, nvml_env: Mapping[str, str]) -> Iterator[Callable[[int], LineProgram]]:
    """Starts tenants: so many MiB on card 0, twice as many on card 1, and working there."""
    program = native_build / "native/simgpu/machine/probe/aliquot-machine-probe"
    with ExitStack() as all_of_them:

        def start(mib: int) -> LineProgram:
            process = all_of_them.enter_context(LineProgram([program], nvml_env))
            for card in (0, 1):
                assert process.ask("reserve", card, mib * (card + 1) * MIB) == "ok"
            process.send("spin 1 60000")
            return process

        yield start


def look(poller: LineProgram) -> Seen:
    return json.loads(poller.ask("now"))


def expected(tenants: Mapping[int, int], card: int) -> list[list[int]]:
    """What each list of the card holds, given the tenants' MiB by pid."""
    return sorted([pid, mib * (card + 1) * MIB] for pid, mib in tenants.items())


def test_the_killed_leave_the_lists_at_once(
    poller: LineProgram, tenant: Callable[[int], LineProgram]
) -> None:
    chance = random.Random(SEED)
    living = {process.pid: (process, mib) for mib in range(10, 10 + TENANTS) for process in [tenant(mib)]}
    for number in range(KILLS):
        victim = chance.choice(sorted(living))
        process, _ = living.pop(victim)
        process.signal(signal.SIGKILL)
        if number % 2:
            process.kill()  # waited for: its pid may be given out again
        else:
            gone(process)  # a zombie: it holds nothing either
        seen = look(poller)
        tenants = {pid: mib for pid, (_, mib) in living.items()}
        for card in (0, 1):
            assert seen["lists"][card] == [expected(tenants, card)] * 3
        assert seen["used"] == [sum(tenants.values()) * MIB * (card + 1) for card in (0, 1)]
        fresh = tenant(20 + number)
        living[fresh.pid] = fresh, 20 + number
    for process, _ in living.values():
        process.kill()
    seen = look(poller)
    assert seen["lists"] == [[[]] * 3] * 2
    assert seen["used"] == [0, 0]
    assert seen["failures"] == []
    assert seen["rounds"] > KILLS


def test_a_process_lives_as_long_as_one_of_its_threads(
    poller: LineProgram, nvml_env: Mapping[str, str]
) -> None:
    with LineProgram([sys.executable, "-c", LEADERLESS], nvml_env) as process:
        assert process.greeting == "ready"
        gone(process)
        first, second = (look(poller) for _ in range(2))
        for seen in (first, second):
            ((pid, held),) = seen["lists"][0][0]
            assert pid == process.pid
            assert 64 * MIB < held == seen["used"][0]  # with the context's own
        process.kill()
        assert look(poller)["used"] == [0, 0]


def gone(process: LineProgram) -> None:
    """Waits until a killed process is a zombie, without taking it off the kernel's list."""
    status = Path(f"/proc/{process.pid}/stat")
    deadline = time.monotonic() + 10
    while status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.001)
