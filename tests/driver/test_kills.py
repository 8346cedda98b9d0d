"""Processes that allocate and launch at random and are killed at random leave nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

PTX = Path(__file__).parent / "ptx" / "kernels.ptx"
# A minute in acceptance runs; shorter wherever people wait for it.
SECONDS = float(os.environ.get("ALIQUOT_TEST_KILL_SECONDS", "12"))
PROCESSES = 8

TENANT = f"""
import ctypes, random
cuda = ctypes.CDLL("libcuda.so.1")
context, module, function, out = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0 and cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuModuleLoadData(ctypes.byref(module), open({str(PTX)!r}, "rb").read() + b"\\0") == 0
assert cuda.cuModuleGetFunction(ctypes.byref(function), module, b"spin") == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(out), ctypes.c_size_t(64)) == 0
rounds = ctypes.c_uint64()
parameters = (ctypes.c_void_p * 2)(ctypes.addressof(rounds), ctypes.addressof(out))
live = []
while True:
    rounds.value = random.choice([1, 1000, 200_000])
    blocks = random.choice([1, 8])
    assert cuda.cuLaunchKernel(function, blocks, 1, 1, 32, 1, 1, 0, None, parameters, None) == 0
    address = ctypes.c_uint64()
    size = random.choice([100, 1 << 20, 3 << 20, 40 << 20])
    if cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)) == 0:
        live.append(address)
        cuda.cuMemsetD8_v2(address, 1, ctypes.c_size_t(min(size, 1 << 20)))
    while len(live) > 8 or (live and random.random() < 0.4):
        assert cuda.cuMemFree_v2(live.pop(random.randrange(len(live)))) == 0
    if random.random() < 0.3:
        assert cuda.cuCtxSynchronize() == 0
"""

LOOK = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
assert cuda.cuInit(0) == 0 and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
def used():
    assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return total.value - free.value

alone = used()
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
print(2 * alone - used())  # what is used beside the first context, which is as large as the second
"""


def test_kills(simgpu_env: dict[str, str], tmp_path: Path) -> None:
    env = {**simgpu_env, "ALIQUOT_SIMGPU_THREADS": "1"}
    log = (tmp_path / "stderr").open("w+")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", TENANT], env=env, stderr=log)

    chance = random.Random(5)
    tenants = [start() for _ in range(PROCESSES)]
    kills = 0
    try:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            time.sleep(chance.random() * 0.3)
            number = chance.randrange(PROCESSES)
            assert tenants[number].poll() is None, (tmp_path / "stderr").read_text()
            tenants[number].send_signal(signal.SIGKILL)
            tenants[number].wait()
            tenants[number] = start()
            kills += 1
    finally:
        for tenant in tenants:
            tenant.kill()
            tenant.wait()
        log.close()
    assert kills > SECONDS
    look = subprocess.run(
        [sys.executable, "-c", LOOK], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (look.returncode, look.stdout) == (0, "0\n"), look.stderr
