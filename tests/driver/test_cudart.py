"""Unmodified libcudart, as every CUDA program carries it, on the simulated driver."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import ctypes, sys
runtime = ctypes.CDLL(sys.argv[1])
ref, size = ctypes.byref, ctypes.c_size_t
number, address, stream, event = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
def ok(call, *arguments):
    code = getattr(runtime, call)(*arguments)
    assert code == 0, (call, code)
ok("cudaGetDeviceCount", ref(number)); assert number.value == 1
ok("cudaMalloc", ref(address), size(1 << 20))
sent, received = ctypes.create_string_buffer(b"aliquot" * 1000, 1 << 20), ctypes.create_string_buffer(1 << 20)
ok("cudaMemcpy", address, sent, size(1 << 20), 1)
ok("cudaMemcpy", received, address, size(1 << 20), 2)
assert received.raw == sent.raw
ok("cudaStreamCreate", ref(stream)); ok("cudaEventCreate", ref(event))
ok("cudaMemsetAsync", address, 7, size(100), stream)
ok("cudaEventRecord", event, stream); ok("cudaEventSynchronize", event); ok("cudaStreamSynchronize", stream)
ok("cudaMemcpy", received, address, size(200), 4)
assert received.raw[:100] == bytes([7] * 100) and received.raw[100:200] == sent.raw[100:200]
pooled = ctypes.c_void_p()
ok("cudaMallocAsync", ref(pooled), size(1000), stream); ok("cudaFreeAsync", pooled, stream)
ok("cudaDeviceSynchronize"); ok("cudaFree", address)
assert runtime.cudaFree(address) != 0 and runtime.cudaGetLastError() != 0 and runtime.cudaGetLastError() == 0
ok("cudaDeviceReset"); ok("cudaMalloc", ref(address), size(16))
print("done")
"""


def library(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "lib" / name


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("nvidia.cuda_runtime", "libcudart.so.12"),
        ("nvidia.cu13", "libcudart.so.13"),
    ],
)
def test_runtime(simgpu_env: dict[str, str], package: str, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(library(package, name))],
        env=simgpu_env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
