"""Every way by which a program can look a driver function up leads to the limiter."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .conftest import CompileC, Limited

WHOSE = """
class Info(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p),
                ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p)]

process = ctypes.CDLL(None)
process.dlsym.restype = process.dlvsym.restype = process.dlopen.restype = ctypes.c_void_p

def whose(address):
    info = Info()
    assert address and process.dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    return info.file.decode().split("/")[-2], info.symbol and info.symbol.decode()

def is_ours(address):
    return whose(address)[0] in ("limiter", "lib")
"""

HOOKED = [
    ("cuMemAlloc", 12000, 0, "cuMemAlloc_v2"),
    ("cuMemAlloc", 3020, 2, "cuMemAlloc_v2"),
    ("cuMemAlloc", 3010, 0, "cuMemAlloc"),
    ("cuMemFree", 12000, 1, "cuMemFree_v2"),
    ("cuMemAllocAsync", 12000, 0, "cuMemAllocAsync"),
    ("cuMemAllocAsync", 12000, 1, "cuMemAllocAsync"),
    ("cuMemAllocAsync", 12000, 2, "cuMemAllocAsync_ptsz"),
    ("cuMemGetInfo", 12000, 0, "cuMemGetInfo_v2"),
    ("cuDeviceTotalMem", 12000, 0, "cuDeviceTotalMem_v2"),
    ("cuLaunchKernel", 12000, 2, "cuLaunchKernel_ptsz"),
    ("cuLaunchKernelEx", 13000, 2, "cuLaunchKernelEx_ptsz"),
    ("cuMemcpyHtoD", 12000, 2, "cuMemcpyHtoD_v2_ptds"),
    ("cuGetProcAddress", 12000, 0, "cuGetProcAddress_v2"),
    ("cuInit", 12000, 0, "cuInit"),
    ("cuMemCreate", 12000, 0, "cuMemCreate"),
    ("cuCtxDestroy", 12000, 0, "cuCtxDestroy_v2"),
]


@pytest.mark.parametrize(("base", "version", "flags", "symbol"), HOOKED)
def test_proc_address_answers_with_hooks(
    limited: Limited, base: str, version: int, flags: int, symbol: str
) -> None:
    limited.run(
        WHOSE
        + f"""
cuda = Cuda()
result, status, function = cuda.proc_address({base!r}, {version}, {flags})
assert (result, status) == (SUCCESS, 0)
assert is_ours(function), whose(function)
assert function == ctypes.cast(getattr(cuda.library, {symbol!r}), ctypes.c_void_p).value
"""
    )


def test_proc_address_leaves_the_rest_to_the_driver(limited: Limited) -> None:
    limited.run(
        WHOSE
        + """
cuda = Cuda()
result, status, function = cuda.proc_address("cuStreamGetFlags", 12000, 2)
assert (result, status) == (SUCCESS, 0)
assert whose(function) == ("null_driver", "cuStreamGetFlags_ptsz"), whose(function)
"""
    )


def test_proc_address_says_what_is_missing(limited: Limited) -> None:
    limited.run(
        """
        cuda = Cuda()
        assert cuda.proc_address("cuMemAllocAsync", 11010) == (NOT_FOUND, 2, None)   # VERSION_NOT_SUFFICIENT
        assert cuda.proc_address("cuNoSuchFunction", 12000) == (NOT_FOUND, 1, None)  # SYMBOL_NOT_FOUND
        assert cuda.proc_address("", 0) == (NOT_FOUND, 1, None)
        assert cuda.call("cuGetProcAddress_v2", None, None, ctypes.c_int(12000), 0, None) == INVALID_VALUE
        """
    )


def test_the_address_from_an_address_is_a_hook_too(limited: Limited) -> None:
    """As libcudart does it: dlsym of one name, everything else through the function that it gives."""
    limited.run(
        WHOSE
        + """
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_int,
                        ctypes.c_uint64, ctypes.POINTER(ctypes.c_int))
function, status = ctypes.c_void_p(), ctypes.c_int()
look_up = kind(Cuda().proc_address("cuGetProcAddress")[2])
assert look_up(b"cuMemAlloc", ctypes.byref(function), 12090, 0, ctypes.byref(status)) == SUCCESS
assert whose(function.value)[1] == "cuMemAlloc_v2" and is_ours(function.value)
"""
    )


def test_every_way_of_loading(limited: Limited) -> None:
    limited.run(
        WHOSE
        + """
import os
LAZY, NOW, GLOBAL, DEEPBIND, NOLOAD = 1, 2, 0x100, 8, 4
process.dlsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
process.dlvsym.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
process.dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
for name in (b"libcuda.so.1", b"libcuda.so"):
    for mode in (LAZY, NOW, NOW | GLOBAL, NOW | DEEPBIND, NOW | NOLOAD):
        handle = process.dlopen(name, mode)
        assert handle, (name, mode)
        assert is_ours(process.dlsym(handle, b"cuMemAlloc_v2")), (name, mode)
assert is_ours(process.dlsym(None, b"cuMemAlloc_v2"))  # RTLD_DEFAULT
# The driver's symbols carry no version, and neither do ours: both answer nothing, and nothing crashes.
assert process.dlvsym(process.dlopen(b"libcuda.so.1", NOW), b"cuMemAlloc_v2", b"GLIBC_2.2.5") is None
"""
    )


def test_a_program_linked_against_the_driver(
    limited: Limited, compile_c: CompileC, null_driver: Path
) -> None:
    """DT_NEEDED of libcuda.so.1 is satisfied by the limiter, and RTLD_NEXT leads to it."""
    program = compile_c(
        """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stddef.h>
        #include <stdio.h>
        int cuInit(unsigned); int cuDevicePrimaryCtxRetain(void**, int); int cuCtxSetCurrent(void*);
        int cuMemGetInfo_v2(size_t*, size_t*);
        int main(void) {
          void* context; size_t free = 0, total = 0;
          if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 1;
          if (cuMemGetInfo_v2(&free, &total)) return 2;
          if (dlsym(RTLD_NEXT, "cuInit") != (void*)cuInit) return 3;
          printf("%zu\\n", total);
          return 0;
        }
        """,
        "linked",
        str(null_driver),
        "-ldl",
    )
    out = subprocess.run([str(program)], env=limited.env, capture_output=True, text=True, check=True).stdout
    assert int(out) == 64 * 2**20


def test_init_may_come_again_and_from_many_threads(limited: Limited) -> None:
    limited.run(
        """
        import threading
        cuda = Cuda()
        results = []
        threads = [threading.Thread(target=lambda: results.append(cuda.call("cuInit", 0))) for _ in range(16)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert results == [SUCCESS] * 16
        cuda.start().allocate(BLOCK)
        cuda.start()
        assert cuda.used() == BLOCK
        """
    )
    assert len(limited.slice.usage().processes) == 0


def test_the_driver_is_not_touched_before_it_is_called(limited: Limited) -> None:
    limited.run(
        """
        cuda = Cuda()
        assert "null_driver" not in open("/proc/self/maps").read()
        version = ctypes.c_int()
        cuda.check("cuDriverGetVersion", ctypes.byref(version))
        assert "null_driver" in open("/proc/self/maps").read()
        assert version.value >= 13000
        """
    )
