"""Every exported function, called with NULLs and garbage: any answer will do, a crash will not.

Garbage stands for what a program can get wrong and a driver can notice: handles, sizes, flags, enumerators,
and NULL for any pointer. A pointer to nowhere in place of a result cannot be told by any driver, so those
point to memory.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import ctypes, faulthandler, json, os, random, sys
faulthandler.enable()
seed, table = int(sys.argv[1]), json.loads(sys.argv[2])
chance = random.Random(seed)
cuda = ctypes.CDLL("libcuda.so.1")
initialised = seed % 4 != 0
context = ctypes.c_void_p()
if initialised:
    assert cuda.cuInit(0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert cuda.cuCtxSetCurrent(context) == 0
scratch = ctypes.create_string_buffer(1 << 16)
kinds = [0x5A01 + kind << 48 for kind in range(9)]  # as our own handles begin
handles = [0, 1, 2, 0x1234, *kinds, kinds[2] + 0x10, kinds[4] + 0xFFFFF0, 2**63, 2**64 - 16]
numbers = [0, 1, 2, 3, 7, 31, 32, 64, 255, 65535, 65536, 1 << 20]
numbers += [2**31 - 1, 2**31, 2**32 - 1, 1 << 40, 2**63, 2**64 - 1]

# Structures hold numbers, and pointers into the same memory: nobody can tell a wild one inside of them.
words = [0, 0, 0, 1, 2, 3, 8, 255, 2**32 - 1, ctypes.addressof(scratch), ctypes.addressof(scratch) + 256]

def scribble():
    values = [chance.choice(words) for _ in range(64)] * 8
    ctypes.memmove(scratch, (ctypes.c_uint64 * 512)(*values), 4096)

def argument(kind):
    if kind == "pointer":
        return ctypes.c_void_p(chance.choice([0, ctypes.addressof(scratch) + 16 * chance.randrange(16)]))
    if kind == "handle":
        return ctypes.c_void_p(chance.choice(handles))
    return ctypes.c_uint64(chance.choice(numbers))

# These end or stop the caller, or take a function to call.
skip = {"cuCtxDestroy", "cuCtxDestroy_v2"}
for name, kinds in chance.sample(table, len(table)):
    if name in skip:
        continue
    function = getattr(cuda, name)
    for _ in range(4):
        scribble()
        sys.stderr.write(name + "\\n")
        result = function(*[argument(kind) for kind in kinds])
        assert 0 <= result <= 999, (name, result)
        if initialised and chance.random() < 0.1:
            cuda.cuDevicePrimaryCtxReset_v2(0)
            cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
            cuda.cuCtxSetCurrent(context)
"""


def entry_points() -> list[tuple[str, list[str]]]:
    """Symbols of the list with the kind of each parameter; those that take functions to call are left out."""
    sys.path.insert(0, str(ROOT / "native" / "api"))
    try:
        from listing import toml_io  # pyright: ignore[reportMissingImports]

        api = toml_io.load(ROOT / "native" / "api" / "cuda")
    finally:
        sys.path.pop(0)
    found: list[tuple[str, list[str]]] = []
    for function in api.functions.values():
        for abi in function.abis:
            kinds = [kind_of(each.type) for each in abi.params]
            if "callback" not in kinds:
                found.append((abi.symbol, kinds))
    return found


def kind_of(spelled: str) -> str:
    if any(word in spelled for word in ("CUhostFn", "Callback", "B2DSize", "callback")):
        return "callback"
    if spelled.endswith("*"):
        return "pointer"
    handle = spelled.startswith("CU") and not spelled.startswith(("CUdeviceptr", "CUdevice", "CUresult"))
    return "handle" if handle else "number"


@pytest.mark.parametrize("seed", range(6))
def test_abuse(simgpu_env: dict[str, str], tmp_path: Path, seed: int) -> None:
    import json

    table = entry_points()
    assert len(table) > 500
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(seed), json.dumps(table)],
        env={**simgpu_env, "ALIQUOT_LOG": "error"},
        cwd=tmp_path,  # some calls take the name of a file to write
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
