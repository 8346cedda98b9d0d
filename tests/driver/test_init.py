"""Initialisation, devices, finding entry points; in a process of its own where the process' state matters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

PRELUDE = """
import ctypes, os, sys, json, threading
cuda = ctypes.CDLL("libcuda.so.1")
number = ctypes.c_int()
def count():
    code = cuda.cuDeviceGetCount(ctypes.byref(number))
    return [code, number.value]
def name(device):
    text = ctypes.create_string_buffer(100)
    cuda.cuDeviceGetName(text, 100, device)
    return text.value.decode()
"""


def ask(script: str, env: Mapping[str, str], **extra: str) -> Any:
    """What the script gives to `tell`, as JSON."""
    script = PRELUDE + "def tell(x): print(json.dumps(x), flush=True)\n" + script
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**env, **extra},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)


def test_before_init(simgpu_env: dict[str, str]) -> None:
    answers = ask(
        """
pointer = ctypes.c_void_p()
tell([count()[0], cuda.cuCtxSynchronize(), cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(1)),
      cuda.cuDriverGetVersion(ctypes.byref(number)), number.value // 1000,
      cuda.cuInit(1), cuda.cuInit(0), cuda.cuInit(0),
      count()])
""",
        simgpu_env,
    )
    assert answers == [3, 3, 3, 0, 13, 1, 0, 0, [0, 1]]


def test_nothing_starts_before_work_is_submitted(simgpu_env: dict[str, str]) -> None:
    answers = ask(
        """
threads = lambda: len(os.listdir("/proc/self/task"))
loaded = threads()
cuda.cuInit(0)
tell([loaded, threads()])
""",
        simgpu_env,
    )
    assert answers == [1, 1]


def test_init_from_many_threads(simgpu_env: dict[str, str]) -> None:
    answers = ask(
        """
codes = []
threads = [threading.Thread(target=lambda: codes.append(cuda.cuInit(0))) for _ in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
tell([codes, count()])
""",
        simgpu_env,
    )
    assert answers == [[0] * 16, [0, 1]]


def test_child_of_fork(simgpu_env: dict[str, str]) -> None:
    answers = ask(
        """
context, address = ctypes.c_void_p(), ctypes.c_uint64()
cuda.cuInit(0); cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0); cuda.cuCtxSetCurrent(context)
cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(1 << 20))
cuda.cuMemsetD8_v2(address, 1, ctypes.c_size_t(1 << 20))
read, write = os.pipe()
if os.fork() == 0:
    codes = [count()[0], cuda.cuInit(0), cuda.cuCtxSynchronize(), cuda.cuMemFree_v2(address)]
    os.write(write, json.dumps(codes).encode())
    os._exit(0)
os.wait()
tell([json.loads(os.read(read, 1000)), cuda.cuMemFree_v2(address), cuda.cuCtxSynchronize()])
""",
        simgpu_env,
    )
    assert answers == [[3, 3, 3, 3], 0, 0]


def test_fork_before_init(simgpu_env: dict[str, str]) -> None:
    answers = ask(
        """
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, json.dumps([cuda.cuInit(0), count()]).encode())
    os._exit(0)
os.wait()
tell(json.loads(os.read(read, 1000)))
""",
        simgpu_env,
    )
    assert answers == [0, [0, 1]]


def test_calls_after_the_end(simgpu_env: dict[str, str]) -> None:
    """An exit handler that was there before cuInit runs after the driver's own."""
    answers = ask(
        """
libc = ctypes.CDLL(None)
late = ctypes.CFUNCTYPE(None)(lambda: os.write(1, json.dumps([count()[0], cuda.cuInit(0)]).encode()))
libc.__cxa_atexit(late, None, None)
cuda.cuInit(0)
libc.exit(0)
""",
        simgpu_env,
    )
    assert answers == [4, 4]


MIXED = "h100:2,t4:1"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["H100", "H100", "T4"]),
        ("2,0", ["T4", "H100"]),
        ("1", ["H100"]),
        ("0,7,1", ["H100"]),
        ("", None),
        ("-1", None),
        ("0,0", None),
        ("nonsense", None),
        ("GPU-", None),
    ],
)
def test_visible_devices(simgpu_env: dict[str, str], visible: str | None, expected: list[str] | None) -> None:
    extra = {"ALIQUOT_SIMGPU": MIXED} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    code, names = ask(
        "code = cuda.cuInit(0)\ntell([code, [name(i) for i in range(count()[1])]])", simgpu_env, **extra
    )
    assert code == (0 if expected else 100)
    assert [next(k for k in ("H100", "T4") if k in each) for each in names] == (expected or [])
    assert all(each.endswith("(simulated)") for each in names)


def test_visible_by_uuid(simgpu_env: dict[str, str]) -> None:
    script = """
cuda.cuInit(0)
uuid = (ctypes.c_ubyte * 16)()
found = []
for i in range(count()[1]):
    cuda.cuDeviceGetUuid_v2(uuid, i)
    h = bytes(uuid).hex()
    found.append("GPU-" + "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:])))
tell(found)
"""
    uuids = ask(script, simgpu_env, ALIQUOT_SIMGPU=MIXED)
    assert len(set(uuids)) == 3
    assert ask(script, simgpu_env, ALIQUOT_SIMGPU=MIXED, CUDA_VISIBLE_DEVICES=uuids[2]) == [uuids[2]]
    prefix = uuids[1][:16]
    assert ask(script, simgpu_env, ALIQUOT_SIMGPU=MIXED, CUDA_VISIBLE_DEVICES=prefix) == [uuids[1]]


def test_a_wrong_setting_is_told(simgpu_env: dict[str, str]) -> None:
    script = PRELUDE + "sys.exit(cuda.cuInit(0))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**simgpu_env, "ALIQUOT_SIMGPU": "warp9:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 100
    assert "warp9" in done.stderr


def test_facts_of_devices(api: Any, context: Any) -> None:
    kinds = api.CUdevice_attribute
    for device in range(api.cuDeviceGetCount()):
        ask_one = api.cuDeviceGetAttribute
        assert ask_one(kinds.CU_DEVICE_ATTRIBUTE_WARP_SIZE, device) == 32
        assert ask_one(kinds.CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, device) == 1024
        assert ask_one(kinds.CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, device) == 1
        assert api.cuDeviceTotalMem(device) >= 1 << 30
        pci = api.cuDeviceGetPCIBusId(32, device)
        assert int(api.cuDeviceGetByPCIBusId(pci)) == device


def test_every_attribute_answers(api: Any, context: Any) -> None:
    names = [each for each in api.CUdevice_attribute if each.name != "CU_DEVICE_ATTRIBUTE_MAX"]
    assert len(names) > 120
    assert {api.code("cuDeviceGetAttribute", each, 0) for each in names} == {"SUCCESS"}


def test_capabilities_by_model(simgpu_env: dict[str, str]) -> None:
    answers = ask(
        """
cuda.cuInit(0)
def attribute(which, device):
    cuda.cuDeviceGetAttribute(ctypes.byref(number), which, device)
    return number.value
tell([[attribute(75, i) * 10 + attribute(76, i), attribute(16, i)] for i in range(2)])
""",
        simgpu_env,
        ALIQUOT_SIMGPU="h100:1,t4:1",
    )
    assert answers == [[90, 132], [75, 40]]  # H100 SXM5: 132 SMs, sm_90; T4: 40 SMs, sm_75


def test_null_results(simgpu_env: dict[str, str]) -> None:
    answers = ask(
        """
cuda.cuInit(0)
tell([cuda.cuDeviceGetCount(None), cuda.cuDeviceGet(None, 0), cuda.cuDeviceGetName(None, 10, 0),
      cuda.cuDriverGetVersion(None), cuda.cuDeviceGetAttribute(None, 1, 0), cuda.cuGetErrorName(1, None)])
""",
        simgpu_env,
    )
    assert answers == [1] * 6


def test_error_names(api: Any) -> None:
    for each in api.CUresult:
        assert api.cuGetErrorName(each).decode() == each.name
        assert api.cuGetErrorString(each)
    assert api.code("cuGetErrorName", api.CUresult.CUDA_SUCCESS) == "SUCCESS"
    assert (
        api.cuGetErrorString(api.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS)
        == b"an illegal memory access was encountered"
    )


def test_entry_points_by_version(simgpu_env: dict[str, str]) -> None:
    """The ABI of the version asked for, and the variant for the per-thread default stream where asked."""
    answers = ask(
        """
def find(name, version, flags=0):
    pointer, status = ctypes.c_void_p(), ctypes.c_int(-1)
    flags = ctypes.c_uint64(flags)
    code = cuda.cuGetProcAddress_v2(name, ctypes.byref(pointer), version, flags, ctypes.byref(status))
    return code, pointer.value, status.value
def symbol(name):
    return ctypes.cast(getattr(cuda, name), ctypes.c_void_p).value
tell([
  find(b"cuMemAlloc", 13000)[1] == symbol("cuMemAlloc_v2"),
  find(b"cuCtxCreate", 13000)[1] == symbol("cuCtxCreate_v4"),
  find(b"cuCtxCreate", 11040)[1] == symbol("cuCtxCreate_v3"),
  find(b"cuLaunchKernel", 13000, 2)[1] == symbol("cuLaunchKernel_ptsz"),
  find(b"cuNothing", 13000), find(b"cuCtxCreate", 1000)[0], find(b"", 0)[0],
])
""",
        simgpu_env,
    )
    assert answers[:4] == [True] * 4
    assert answers[4] == [500, None, 1]
    assert answers[5:] == [500, 500]


def test_coverage(simgpu_env: dict[str, str], tmp_path: Path) -> None:
    answers = ask(
        f"""
file = os.open({str(tmp_path / "coverage.json")!r}, os.O_CREAT | os.O_RDWR)
assert cuda.aliquot_simgpu_coverage(file) == 0
tell({{e["symbol"]: e["implemented"] for e in json.load(open({str(tmp_path / "coverage.json")!r}))}})
""",
        simgpu_env,
    )
    assert answers["cuLaunchKernel"]
    assert answers["cuLaunchKernel_ptsz"]
    assert answers["cuGraphCreate"]
    assert not answers["cuGraphConditionalHandleCreate"]
    assert len(answers) > 700
