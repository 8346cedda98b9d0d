"""What the interpreter says it implements, and what the vendor's compilers write for recent cards."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exec_runner import Runner, find_program
from test_ptx_compilers import nvrtc

# Families that stay refused; docs/simulated-gpu.md lists them.
REFUSED = (
    *("cvt.rs.", "cp.reduce.", "cp.async.bulk.tensor.", "multimem.", "tex.", "ldmatrix.sync.aligned.m16n16"),
    *("mma.sp.", "wgmma.", "tcgen05."),
)


@pytest.fixture
def runner(native_build: Path, tmp_path: Path) -> Runner:
    return Runner(find_program(native_build), tmp_path)


def refusals(build: Path, folder: Path, text: str) -> list[str]:
    """The instructions of a module that are not implemented."""
    file = folder / "module.ptx"
    file.write_text(text)
    command = [find_program(build), "--refusals", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def test_list_of_forms(native_build: Path) -> None:
    """Every instruction of the lowering's table has proposed forms; only the named families are refused."""
    command = [find_program(native_build), "--list-forms"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    forms = [json.loads(line) for line in done.stdout.splitlines()]
    refused = [form["form"] for form in forms if not form["implemented"]]
    assert len(forms) > 3000
    assert [form for form in refused if not form.startswith(REFUSED)] == []
    assert {family for family in REFUSED if any(form.startswith(family) for form in refused)} == set(REFUSED)
    assert all(form["refusal"] for form in forms if not form["implemented"])


def test_refusals_name_the_line(native_build: Path, tmp_path: Path) -> None:
    header = ".version 8.0 .target sm_80 .address_size 64\n.entry k() { .reg .b32 a;\n"
    text = header + "wgmma.fence.sync.aligned;\nadd.what.s32 a, a, a;\nret; }"
    found = refusals(native_build, tmp_path, text)
    assert ["line 3: wgmma" in found[0], "line 4: add.what.s32" in found[1], len(found)] == [True, True, 2]


SOURCES = {
    "halves": """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
template <class T, class P> __device__ void all(T* s, P* p, float* f, int* i, float2* q) {
  T a = s[0], b = s[1], c = s[2];
  P x = p[0], y = p[1], z = p[2];
  p[3] = __hadd2(x, y); p[4] = __hsub2_sat(x, y); p[5] = __hfma2_relu(x, y, z); p[6] = __hmin2_nan(x, y);
  p[7] = __h2div(x, y); p[8] = h2exp2(x); p[9] = h2sin(y); p[10] = h2rcp(z); p[11] = h2rsqrt(x);
  p[12] = h2log(x);
  p[13] = __hgtu2(x, y); p[14] = __habs2(x); p[15] = __hcmadd(x, y, z); p[16] = __hneg2(x);
  s[64] = __hadd(a, b); s[65] = __hfma_sat(a, b, c); s[66] = __hmax_nan(a, b); s[67] = hsqrt(a);
  s[68] = hceil(b);
  s[69] = hrint(c); s[70] = __hdiv(a, b); s[71] = hcos(a); s[72] = htrunc(b); s[73] = hexp10(c);
  i[0] = __hbleu2(x, y) + __heq(a, b) + __hisnan(c) + __hltu(b, c); f[0] = float(a) + float(y.x);
  s[74] = T(f[1]); s[75] = T(i[1]); s[76] = T(double(f[2])); i[2] = int(a); i[3] = (unsigned short)(b);
  s[77] = atomicAdd(s + 78, a); p[40] = atomicAdd(p + 41, x); s[79] = __shfl_down_sync(~0u, a, 3);
  p[42] = __shfl_xor_sync(~0u, x, 2); s[80] = __ldg(s + 81); __stcs(p + 43, x); p[44] = __ldcg(p + 45);
}
extern "C" __global__ void k(__half* h, __half2* h2, __nv_bfloat16* b, __nv_bfloat162* b2, float* f, int* i) {
  all(h, h2, f, i, (float2*)f);
  all(b, b2, f + 9, i + 9, (float2*)f);
  h[90] = __float2half_rd(f[3]); h[91] = __int2half_ru(i[4]); i[5] = __half2int_rd(h[4]);
  h[92] = __ll2half_rz(i[6]);
  b[90] = __float2bfloat16_ru(f[3]); b[91] = __ull2bfloat16_rd(i[4]); i[7] = __bfloat162int_ru(b[4]);
  h2[46] = __float22half2_rn(((float2*)f)[5]); b2[46] = __float22bfloat162_rn(((float2*)f)[5]);
}
""",
    "small": """
#include <cuda_fp8.h>
#include <cuda_fp6.h>
#include <cuda_fp4.h>
extern "C" __global__ void k(float2* in, __nv_fp8x2_storage_t* out, float2* back) {
  int i = threadIdx.x;
  out[i] = __nv_cvt_float2_to_fp8x2(in[i], __NV_SATFINITE, __NV_E4M3);
  back[i] = float2(__nv_fp8x2_e5m2(in[i]));
  back[i + 32] = float2(__nv_fp6x2_e2m3(in[i]));
  back[i + 64] = float2(__nv_fp4x2_e2m1(in[i]));
}
""",
    "barriers": """
#include <cuda/barrier>
#include <cuda/atomic>
extern "C" __global__ void k(int* data, int n) {
  __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
  __shared__ int copy[256];
  if (threadIdx.x == 0) init(&barrier, blockDim.x);
  __syncthreads();
  cuda::memcpy_async(copy + threadIdx.x, data + threadIdx.x, cuda::aligned_size_t<4>(4), barrier);
  barrier.arrive_and_wait();
  cuda::atomic_ref<int, cuda::thread_scope_device>(data[n]).fetch_max(copy[threadIdx.x ^ 1]);
  barrier.arrive_and_drop();
}
""",
    "groups": """
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
namespace cg = cooperative_groups;
extern "C" __global__ void k(int* data, float* f) {
  auto tile = cg::tiled_partition<16>(cg::this_thread_block());
  data[0] = cg::reduce(tile, data[threadIdx.x], cg::plus<int>()) + cg::inclusive_scan(tile, data[1]);
  f[0] = cg::reduce(tile, f[1], cg::less<float>());
  auto some = cg::coalesced_threads();
  data[2] = some.shfl(data[3], 1) + cg::labeled_partition(some, data[4]).size();
}
""",
}


@pytest.mark.parametrize("card", ["75", "80", "90a", "100a", "120a"])
@pytest.mark.parametrize("name", SOURCES)
def test_compilers_write_nothing_that_is_refused(
    native_build: Path, tmp_path: Path, name: str, card: str
) -> None:
    """Functions of CUDA's headers for small numbers, barriers, atomics and groups."""
    if name == "halves" and card == "75":
        pytest.skip("some of these functions need compute capability 8.0")
    text = nvrtc(SOURCES[name], f"--gpu-architecture=compute_{card}", "--std=c++17")
    assert ".entry k" in text
    assert refusals(native_build, tmp_path, text) == []


def test_compiled_matrix_product(runner: Runner) -> None:
    """nvcuda::wmma as the compiler writes it, 64 x 64 x 64 in tiles of 16, against NumPy."""
    source = """
#include <mma.h>
using namespace nvcuda;
extern "C" __global__ void k(const half* a, const half* b, float* c) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> x;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> y;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::fill_fragment(sum, 1.0f);
  int row = blockIdx.y * 16, column = blockIdx.x * 16;
  for (int k = 0; k < 64; k += 16) {
    wmma::load_matrix_sync(x, a + row * 64 + k, 64);
    wmma::load_matrix_sync(y, b + column * 64 + k, 64);
    wmma::mma_sync(sum, x, y, sum);
  }
  for (int i = 0; i < sum.num_elements; ++i) sum.x[i] *= 2;
  wmma::store_matrix_sync(c + row * 64 + column, sum, 64, wmma::mem_row_major);
}
"""
    rng = np.random.default_rng(1)
    a, b = ((rng.integers(-16, 17, (64, 64)) / 8).astype(np.float16) for _ in range(2))
    text = nvrtc(source, "--gpu-architecture=compute_80")
    got = runner.run(text, "k", a, b, np.zeros((64, 64), np.float32), grid=(4, 4)).arrays[2]
    np.testing.assert_array_equal(got, 2 * (a.astype(np.float64) @ b.T.astype(np.float64) + 1))
    text = nvrtc(source.replace("half", "__half"), "--gpu-architecture=compute_120")
    got = runner.run(text, "k", a, b, np.zeros((64, 64), np.float32), grid=(4, 4), isa="baseline").arrays[2]
    np.testing.assert_array_equal(got, 2 * (a.astype(np.float64) @ b.T.astype(np.float64) + 1))


def test_compiled_barrier(runner: Runner) -> None:
    text = nvrtc(SOURCES["barriers"], "--gpu-architecture=compute_90", "--std=c++17")
    data = np.arange(257, dtype=np.int32)
    data[256] = -5
    got = runner.run(text, "k", data, 256, block=(256,)).arrays[0]
    assert got[256] == 255
