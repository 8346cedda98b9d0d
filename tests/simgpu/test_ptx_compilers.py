"""The parser takes what real compilers write: NVRTC 12 and 13, numba-cuda, and CuPy's headers."""

from __future__ import annotations

import ctypes
import importlib
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CUDA = (Path(__file__).parent / "corpus.cu").read_text()
KERNELS = set(re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)", CUDA))


def package_folder(name: str, folder: str) -> Path:
    """A folder inside an installed package."""
    found = find_spec(name)
    assert found is not None, f"the development environment has no {name}"
    for place in found.submodule_search_locations or []:
        if (Path(place) / folder).is_dir():
            return Path(place) / folder
    pytest.fail(f"the development environment has no {name}/{folder}")


CUPY_INCLUDE = package_folder("cupy", "_core/include")
CCCL = CUPY_INCLUDE / "cupy/_cccl"
NVRTC = {
    "12": ("cuda_nvrtc/lib/libnvrtc.so.12", "cuda_runtime/include"),
    "13": ("cu13/lib/libnvrtc.so.13", "cu13/include"),
}


def nvrtc(source: str, *options: str, release: str = "13") -> str:
    """PTX of a source, by NVRTC of that CUDA release."""
    library, headers = NVRTC[release]
    api = ctypes.CDLL(str(package_folder("nvidia", str(Path(library).parent)) / Path(library).name))
    include = package_folder("nvidia", headers)
    flags = [o.encode() for o in (*options, f"-I{include}", f"-I{CCCL}/libcudacxx")]
    program = ctypes.c_void_p()
    created = api.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"corpus.cu", 0, None, None)
    assert created == 0
    status = api.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    assert status == 0, _fetch(api.nvrtcGetProgramLogSize, api.nvrtcGetProgramLog, program)
    text = _fetch(api.nvrtcGetPTXSize, api.nvrtcGetPTX, program)
    api.nvrtcDestroyProgram(ctypes.byref(program))
    return text


def _fetch(size_of, get, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    assert size_of(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert get(program, text) == 0
    return text.value.decode()


def check_settles(ptx_dump, text: str) -> None:
    first = ptx_dump.run("--ptx", texts=[text])
    assert first.returncode == 0, first.stdout
    second = ptx_dump.run("--ptx", texts=[first.stdout]).stdout
    assert ptx_dump.run("--ptx", texts=[second]).stdout == second


@pytest.mark.parametrize("release", ["12", "13"])
@pytest.mark.parametrize(
    "options",
    [
        ("--gpu-architecture=compute_75",),
        ("--gpu-architecture=compute_80",),
        ("--gpu-architecture=compute_90a",),
        ("--gpu-architecture=compute_120",),
        ("--gpu-architecture=compute_80", "-G"),
        ("--gpu-architecture=compute_80", "-lineinfo", "-rdc=true"),
        ("--gpu-architecture=compute_80", "-use_fast_math", "--maxrregcount=64"),
    ],
    ids=" ".join,
)
def test_nvrtc(ptx_dump, options: tuple[str, ...], release: str) -> None:
    text = nvrtc(CUDA, "--device-int128", *options, release=release)
    module = ptx_dump.parse(text)
    assert {f["name"] for f in module["functions"] if f["is_entry"]} == KERNELS
    # These compilers begin a line with each instruction: none was skipped, and none made up.
    found = {(i["line"], i["opcode"]) for f in module["functions"] for i in f["instructions"]}
    lines = list(enumerate(text.splitlines(), start=1))
    bodies = {
        n for n, line in lines if re.fullmatch(r"\s+(@!?%p\d+ )?[a-z][a-z0-9]*(\.[\w:.]+)?( .*|;)", line)
    }
    assert len(bodies) > 1000
    assert bodies - {n for n, _ in found} == set()
    check_settles(ptx_dump, text)


@pytest.mark.parametrize("debug", [False, True])
def test_numba(ptx_dump, debug: bool) -> None:
    import math

    # What a kernel writes is compiled by numba, not run: its stubs do not describe it.
    cuda: Any = importlib.import_module("numba.cuda")
    float32: Any = importlib.import_module("numba").float32

    def product(a, b, c):
        tile = cuda.shared.array((16, 16), float32)
        t, u = cuda.threadIdx.x, cuda.threadIdx.y
        total = 0.0
        for k in range(a.shape[1] // 16):
            tile[t, u] = a[t, k * 16 + u]
            cuda.syncthreads()
            total += tile[t, u] * b[k, u] + math.sin(total)
            cuda.syncthreads()
        c[t, u] = total
        cuda.atomic.add(c, (0, 0), 1.0)
        print("done", total)

    matrix = float32[:, :]
    text, _ = cuda.compile_ptx(product, (matrix, matrix, matrix), cc=(8, 0), debug=debug, opt=not debug)
    module = ptx_dump.parse(text)
    assert any("product" in f["name"] and f["is_entry"] for f in module["functions"])
    check_settles(ptx_dump, text)


def test_cupy_headers(ptx_dump) -> None:
    """Complex numbers, halves and arrays as CuPy's kernels include them."""
    text = nvrtc(
        r"""
        #include <cupy/complex.cuh>
        #include <cupy/carray.cuh>
        #include <cupy/atomics.cuh>
        extern "C" __global__ void kernel(CArray<complex<float>, 1, true, true> a, float* out) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          if (i >= a.size()) return;
          a[i] = exp(a[i]) / pow(a[i], complex<float>(2, 1));
          atomicAdd(out, a[i].real());
        }
        """,
        *(f"-I{folder}" for folder in (CUPY_INCLUDE, CCCL / "thrust", CCCL / "cub")),
        "--std=c++17",
        "--gpu-architecture=compute_80",
    )
    module = ptx_dump.parse(text)
    assert [f["name"] for f in module["functions"] if f["is_entry"]] == ["kernel"]
    check_settles(ptx_dump, text)


def test_speed(ptx_dump) -> None:
    """At least 20 MB/s on one core for what compilers write (a sanitizer build is not measured)."""
    text = nvrtc(CUDA, "--device-int128", "--gpu-architecture=compute_80")
    start = text.index(".visible .entry saxpy")
    function = text[start : text.index("}\n", start) + 2]
    large = text + "".join(function.replace("saxpy", f"saxpy{i}") for i in range(6000))
    measured = [json.loads(ptx_dump.run("--time", texts=[large]).stdout) for _ in range(3)]
    assert max(m["bytes"] / m["seconds"] for m in measured) > 20e6
