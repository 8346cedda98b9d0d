"""What NVML shows a tenant: the card's state, and of what its processes do only the slice's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .conftest import Limited
from .simulated import CLIENTS, make_slice, run_clients

pytestmark = pytest.mark.sanitized

BUSY = (
    CLIENTS
    + '''
ptx = b""".version 7.0
.target sm_70
.address_size 64
.visible .entry spin() { .reg .u64 %a, %b; .reg .pred %p; mov.u64 %a, %globaltimer;
again: mov.u64 %b, %globaltimer; sub.u64 %b, %b, %a; setp.lt.u64 %p, %b, 20000000; @%p bra again; ret; }
""" + b"\\0"
start()
function = ok(driver.cuModuleGetFunction(ok(driver.cuModuleLoadData(ptx)), b"spin"))
print(flush=True)
while True:
    ok((*driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0), None))
    ok((*driver.cuCtxSynchronize(), None))
'''
)
ASK = """
pynvml.nvmlInit()
card = pynvml.nvmlDeviceGetHandleByIndex(0)
neighbour = int(sys.argv[1]) if len(sys.argv) > 1 else 0

def code(name, *arguments):
    try:
        getattr(pynvml, name)(*arguments)
    except pynvml.NVMLError as error:
        return error.value
    return 0
"""


@pytest.fixture
def neighbour(machine: Mapping[str, str], native_dir: Path, slice_home: Path) -> Iterator[int]:
    """The pid of a process of another slice that keeps the card busy."""
    limited = make_slice(machine, native_dir, slice_home)
    with limited.start(BUSY) as process:
        assert process.stdout
        assert process.stdout.readline() == "\n", process.communicate()[1]
        yield process.pid
        process.kill()


def test_a_neighbours_work_is_not_seen(on_card: Limited, neighbour: int) -> None:
    program = """
import time
start()
time.sleep(1.2)
rates = pynvml.nvmlDeviceGetUtilizationRates(card)
assert (rates.gpu, rates.memory) == (0, 0), (rates.gpu, rates.memory)
details = pynvml.nvmlDeviceGetRunningProcessDetailList(card, pynvml.nvmlProcessDetailList_v1, 0)
assert [each.pid for each in details] == [os.getpid()]
try:
    pids = [each.pid for each in pynvml.nvmlDeviceGetProcessUtilization(card, 0)]
except pynvml.NVMLError_NotFound:
    pids = []
assert set(pids) <= {os.getpid()}, pids
if pynvml.nvmlDeviceGetAccountingMode(card):
    assert neighbour not in pynvml.nvmlDeviceGetAccountingPids(card)
assert code("nvmlDeviceGetAccountingStats", card, neighbour) == pynvml.NVML_ERROR_NOT_FOUND
assert code("nvmlSystemGetProcessName", neighbour) == pynvml.NVML_ERROR_NOT_FOUND
assert pynvml.nvmlSystemGetProcessName(os.getpid())
"""
    limited_run(on_card, program, str(neighbour))


def limited_run(limited: Limited, program: str, *arguments: str) -> None:
    limited.run(CLIENTS + ASK + program, *arguments)


def test_its_own_work_is_seen(on_card: Limited) -> None:
    run_clients(
        on_card,
        BUSY.split("print(flush")[0].replace(CLIENTS, "")
        + ASK
        + """
import time
end = time.monotonic() + 1.5
while time.monotonic() < end:
    ok((*driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0), None))
    ok((*driver.cuCtxSynchronize(), None))
assert pynvml.nvmlDeviceGetUtilizationRates(card).gpu > 50
(sample,) = pynvml.nvmlDeviceGetProcessUtilization(card, 0)
assert (sample.pid, sample.smUtil > 50) == (os.getpid(), True)
""",
    )


def test_sums_over_everybody_are_not_shown_and_the_cards_state_is(on_card: Limited) -> None:
    run_clients(
        on_card,
        ASK
        + """
for name, *arguments in [
    ("nvmlDeviceGetBAR1MemoryInfo", card), ("nvmlDeviceGetTotalEnergyConsumption", card),
    ("nvmlDeviceGetPcieThroughput", card, pynvml.NVML_PCIE_UTIL_TX_BYTES),
    ("nvmlDeviceGetEncoderUtilization", card), ("nvmlDeviceGetDecoderUtilization", card),
    ("nvmlDeviceGetSamples", card, pynvml.NVML_GPU_UTILIZATION_SAMPLES, 0),
    ("nvmlDeviceGetSamples", card, pynvml.NVML_TOTAL_POWER_SAMPLES, 0),
]:
    assert code(name, *arguments) == pynvml.NVML_ERROR_NOT_SUPPORTED, name
assert not pynvml.nvmlGpmQueryDeviceSupport(card).isSupportedDevice
for name in ("Temperature", "ClockInfo"):
    assert code("nvmlDeviceGet" + name, card, 0) == 0, name
for name in ("PowerUsage", "EnforcedPowerLimit", "PerformanceState", "Name", "EccMode"):
    assert code("nvmlDeviceGet" + name, card) == 0, name
fields = [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER, 9999]
answers = [value.nvmlReturn for value in pynvml.nvmlDeviceGetFieldValues(card, fields)]
assert answers == [pynvml.NVML_ERROR_NOT_SUPPORTED, 0, pynvml.NVML_ERROR_NOT_SUPPORTED], answers

xid = pynvml.nvmlEventTypeXidCriticalError
assert pynvml.nvmlDeviceGetSupportedEventTypes(card) & xid == 0
events = pynvml.nvmlEventSetCreate()
assert code("nvmlDeviceRegisterEvents", card, xid, events) == pynvml.NVML_ERROR_NOT_SUPPORTED
assert code("nvmlDeviceRegisterEvents", card, pynvml.nvmlEventTypeClock, events) == 0
""",
    )


def test_other_cards_are_not_there(on_card: Limited) -> None:
    run_clients(
        on_card,
        ASK
        + """
assert pynvml.nvmlDeviceGetCount() == 1
assert pynvml.nvmlUnitGetCount() == 0
for level in (10, 20, 30, 40, 50):
    assert list(pynvml.nvmlDeviceGetTopologyNearestGpus(card, level)) == []
assert [pynvml.nvmlDeviceGetUUID(each) for each in pynvml.nvmlSystemGetTopologyGpuSet(0)] in (
    [], [pynvml.nvmlDeviceGetUUID(card)])
other = type(card)()
import ctypes
ctypes.memmove(ctypes.byref(other), ctypes.byref(ctypes.c_void_p(0x1234560)), ctypes.sizeof(ctypes.c_void_p))
for name in ("nvmlDeviceGetName", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetUUID"):
    assert code(name, other) == pynvml.NVML_ERROR_INVALID_ARGUMENT, name
""",
    )


def test_a_tenant_changes_no_card(on_card: Limited) -> None:
    """Not even as root, who may do so outside of a slice."""
    run_clients(
        on_card,
        ASK
        + """
for name, *arguments in [
    ("nvmlDeviceSetPersistenceMode", card, 0), ("nvmlDeviceSetComputeMode", card, 0),
    ("nvmlDeviceSetPowerManagementLimit", card, 300000), ("nvmlDeviceSetMigMode", card, 1),
    ("nvmlDeviceResetApplicationsClocks", card), ("nvmlDeviceSetAccountingMode", card, 1),
    ("nvmlDeviceClearAccountingPids", card), ("nvmlDeviceSetGpuLockedClocks", card, 300, 300),
    ("nvmlDeviceGetGpuInstanceById", card, 0), ("nvmlDeviceClearEccErrorCounts", card, 0),
]:
    assert code(name, *arguments) == pynvml.NVML_ERROR_NO_PERMISSION, name
""",
    )


def test_every_call_that_changes_something_is_refused(on_card: Limited) -> None:
    """All of the list, by what their names say; they are refused before they look at what they are given."""
    listing = Path(__file__).resolve().parents[2] / "native/api/nvml"
    names = {
        name
        for file in listing.glob("*.toml")
        for name in re.findall(r'symbol = "(nvml\w+)"', file.read_text(encoding="utf-8"))
        if re.search(r"(Set|Clear|Reset|Create|Destroy|Remove|Modify)[A-Z_]", name)
        and not re.search(r"CpuAffinity|EventSet|FieldValues|Creatable|GetLast|SetWait", name)
    }
    assert len(names) > 60
    run_clients(
        on_card,
        f"""
        import ctypes
        pynvml.nvmlInit()
        library = ctypes.CDLL("libnvidia-ml.so.1")
        codes = {{name: getattr(library, name)(*[None] * 6) for name in {sorted(names)!r}}}
        wrong = {{name: code for name, code in codes.items() if code != pynvml.NVML_ERROR_NO_PERMISSION}}
        assert not wrong, wrong
        """,
    )
