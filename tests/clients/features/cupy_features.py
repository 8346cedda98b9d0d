"""What programs do with CuPy, each compared with NumPy. See `run.py`."""

from __future__ import annotations

from collections.abc import Callable

import cupy
import numpy as np
from numpy.typing import ArrayLike


def equal(got: cupy.ndarray, expected: ArrayLike) -> None:
    np.testing.assert_array_equal(cupy.asnumpy(got), expected)


def close(got: cupy.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(cupy.asnumpy(got), expected, rtol=tolerance, atol=tolerance)


def refused(kind: type[Exception], words: str, action: Callable[[], object]) -> None:
    try:
        action()
    except kind as error:
        said = str(error)
    else:
        raise AssertionError(f"no {kind.__name__}")
    assert words in said, said


def check_is_a_card():
    assert cupy.cuda.runtime.getDeviceCount() >= 1
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    assert properties["major"] >= 7
    free, total = cupy.cuda.Device(0).mem_info
    assert 0 < free <= total


def check_creation():
    equal(cupy.arange(100), np.arange(100))
    equal(cupy.zeros((3, 4)), np.zeros((3, 4)))
    equal(cupy.full((5, 6), 2.5, cupy.float32), np.full((5, 6), 2.5, np.float32))
    close(cupy.linspace(0, 1, 57), np.linspace(0, 1, 57), 1e-15)
    equal(cupy.eye(7), np.eye(7))


def check_arithmetic():
    for dtype in (np.int8, np.uint32, np.int64, np.float16, np.float32, np.float64, np.complex64):
        a, b = (np.arange(60) % 11 + 1).astype(dtype), (np.arange(60) % 7 + 1).astype(dtype)
        x, y = cupy.asarray(a), cupy.asarray(b)
        equal(x + y, a + b)
        equal(x * y - y, a * b - b)
    equal(cupy.arange(50) // 7 + cupy.arange(50) % 7, np.arange(50) // 7 + np.arange(50) % 7)


def check_math_functions():
    a = np.linspace(0.1, 5, 200)
    for dtype, tolerance in ((np.float32, 3e-6), (np.float64, 1e-14)):
        v = a.astype(dtype)
        x, wide = cupy.asarray(v), v.astype(float)
        for name in ("sin", "cos", "exp", "log", "tanh", "sqrt", "cbrt", "arctan", "log1p", "expm1", "floor"):
            close(getattr(cupy, name)(x), getattr(np, name)(wide), tolerance * 10)


def check_indexing():
    a = np.arange(600).reshape(20, 30)
    x = cupy.asarray(a)
    equal(x[3:15:2, ::-3], a[3:15:2, ::-3])
    equal(x[[1, 5, 7], [2, 4, 6]], a[[1, 5, 7], [2, 4, 6]])
    equal(x[x % 7 == 0], a[a % 7 == 0])
    x[4:6] = -1
    a[4:6] = -1
    equal(x, a)
    equal(cupy.where(x > 100, x, 0), np.where(a > 100, a, 0))
    equal(cupy.take(x, cupy.asarray([3, 1]), axis=1), np.take(a, [3, 1], axis=1))


def check_reductions():
    a = (np.arange(6000) * 7 % 113).reshape(20, 30, 10)
    for dtype in (np.int32, np.float32, np.float64):
        v = a.astype(dtype)
        x = cupy.asarray(v)
        for axis in (None, 0, 2, (0, 1)):
            close(x.sum(axis=axis), v.sum(axis=axis), 1e-6)
            equal(x.max(axis=axis), v.max(axis=axis))
        close(x.mean(axis=1), v.mean(axis=1), 1e-6)
        equal(x.argmax(axis=1), v.argmax(axis=1))
    equal(cupy.asarray(a).any(axis=0), a.any(axis=0))


def check_scan():
    a = np.arange(3000) % 17
    equal(cupy.cumsum(cupy.asarray(a)), np.cumsum(a))


def check_manipulation():
    a = np.arange(120).reshape(2, 3, 4, 5)
    x = cupy.asarray(a)
    equal(x.transpose(3, 1, 0, 2), a.transpose(3, 1, 0, 2))
    equal(cupy.concatenate([x, x + 1], axis=2), np.concatenate([a, a + 1], axis=2))
    equal(cupy.roll(x, 2, axis=1), np.roll(a, 2, axis=1))
    equal(cupy.repeat(x.ravel(), 3), np.repeat(a.ravel(), 3))
    equal(cupy.broadcast_to(x[0, 0, 0], (4, 5)) + 0, np.broadcast_to(a[0, 0, 0], (4, 5)))


def check_elementwise_kernel():
    kernel = cupy.ElementwiseKernel("T x, T y", "T z", "z = (x - y) * (x - y) + i % 3", "squared")
    a, b = np.arange(100.0), np.arange(100.0)[::-1].copy()
    equal(kernel(cupy.asarray(a), cupy.asarray(b)), (a - b) ** 2 + np.arange(100) % 3)


def check_reduction_kernel():
    kernel = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "length")
    a = np.arange(900.0).reshape(30, 30)
    close(kernel(cupy.asarray(a), axis=1), np.sqrt((a * a).sum(axis=1)), 1e-14)


def check_fusion():
    @cupy.fuse
    def fused(x, y):
        return cupy.sqrt(x * x + y * y)

    a = np.arange(200.0)
    close(fused(cupy.asarray(a), cupy.asarray(a) + 1), np.hypot(a, a + 1), 1e-14)


def check_raw_kernel():
    code = r"""
    template <typename T> __device__ T cube(T v) { return v * v * v; }
    extern "C" __global__ void raw(const double* in, double* out, int n) {
      extern __shared__ double held[];
      const int i = blockIdx.x * blockDim.x + threadIdx.x;
      held[threadIdx.x] = i < n ? in[i] : 0;
      __syncthreads();
      if (i < n) out[i] = cube(held[threadIdx.x]) + held[threadIdx.x ^ 1];
    }"""
    kernel = cupy.RawKernel(code, "raw")
    a = np.arange(256.0)
    out = cupy.zeros(256)
    kernel((2,), (128,), (cupy.asarray(a), out, np.int32(256)), shared_mem=128 * 8)
    equal(out, a**3 + a.reshape(-1, 2)[:, ::-1].ravel())
    assert kernel.max_threads_per_block >= 128


def check_raw_module():
    code = r"""
    __constant__ int offset;
    template <typename T> __global__ void shift(T* x) { x[threadIdx.x] += T(offset); }"""
    module = cupy.RawModule(
        code=code, options=("-std=c++17",), name_expressions=("shift<float>", "shift<int>")
    )
    where = module.get_global("offset")
    cupy.ndarray(1, cupy.int32, where)[0] = 42
    for name, dtype in (("shift<float>", cupy.float32), ("shift<int>", cupy.int32)):
        x = cupy.arange(32, dtype=dtype)
        module.get_function(name)((1,), (32,), (x,))
        equal(x, np.arange(32) + 42)


def check_streams_and_events():
    first, second = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    start, done = cupy.cuda.Event(), cupy.cuda.Event()
    with first:
        start.record()
        x = cupy.arange(1000) * 2
        done.record()
    second.wait_event(done)
    with second:
        y = x + 1
    second.synchronize()
    equal(y, np.arange(1000) * 2 + 1)
    assert cupy.cuda.get_elapsed_time(start, done) >= 0


def check_pinned_memory():
    memory = cupy.cuda.alloc_pinned_memory(8000)
    host = np.frombuffer(memory, np.float64, 1000)
    host[:] = np.arange(1000)
    x = cupy.empty(1000)
    with cupy.cuda.Stream() as stream:
        x.set(host)
        x *= 2
        x.get(out=host)
        stream.synchronize()
    np.testing.assert_array_equal(host, np.arange(1000) * 2)


def check_memory_pool():
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes()
    x = cupy.zeros(1 << 20, cupy.uint8)
    assert pool.used_bytes() == before + (1 << 20)
    del x
    assert pool.used_bytes() == before
    pool.free_all_blocks()


def check_asynchronous_pool():
    pool = cupy.cuda.MemoryAsyncPool()
    with cupy.cuda.using_allocator(pool.malloc):
        x = cupy.arange(1000) ** 2
        equal(x, np.arange(1000) ** 2)


def check_device_printf():
    code = r"""extern "C" __global__ void speak() { printf("block %d of CuPy\n", blockIdx.x); }"""
    cupy.RawKernel(code, "speak")((2,), (1,), ())
    cupy.cuda.Device().synchronize()


def check_bad_launch_is_an_error():
    kernel = cupy.RawKernel(r'extern "C" __global__ void nothing() {}', "nothing")
    error = cupy.cuda.driver.CUDADriverError
    refused(error, "CUDA_ERROR_INVALID_VALUE", lambda: kernel((1,), (4096,), ()))


def check_out_of_memory():
    _, total = cupy.cuda.Device().mem_info
    error = cupy.cuda.memory.OutOfMemoryError
    refused(error, "Out of memory", lambda: cupy.empty(total + 1024, cupy.uint8))
    equal(cupy.arange(10) + 1, np.arange(1, 11))


def check_captured_graph():
    source, target = cupy.arange(256, dtype=cupy.float32), cupy.empty(256, cupy.float32)
    work = cupy.ElementwiseKernel("float32 x", "float32 y", "y = x * 2 + 1", "doubled")
    work(source, target)  # compiled before the capture
    target[:] = 0
    cupy.cuda.Device().synchronize()  # the stream below does not wait for the default one
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        assert stream.is_capturing()
        work(source, target)
        work(target, target)
        graph = stream.end_capture()
        assert not stream.is_capturing()
        stream.synchronize()
        equal(target, np.zeros(256, np.float32))
        graph.upload(stream)
        for _ in range(3):
            graph.launch(stream)
        stream.synchronize()
    equal(target, np.arange(256, dtype=np.float32) * 4 + 3)


def check_captured_streams_join():
    a, b = cupy.zeros(64, cupy.int32), cupy.zeros(64, cupy.int32)
    _ = a + 1  # compiled before the capture
    one, two = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with one:
        one.begin_capture()
        a += 1
        two.wait_event(one.record())
    with two:
        b += 2
        joined = two.record()
    with one:
        one.wait_event(joined)
        b += a
        graph = one.end_capture()
    for _ in range(2):
        graph.launch(one)
    one.synchronize()
    equal(a, np.full(64, 2))
    equal(b, np.full(64, 7))


def check_cooperative_launch():
    code = r"""
    #include <cooperative_groups.h>
    extern "C" __global__ void shift(int* x) {
        const int i = blockIdx.x * blockDim.x + threadIdx.x, n = gridDim.x * blockDim.x;
        const int seen = x[(i + 1) % n];
        cooperative_groups::this_grid().sync();
        x[i] = seen;
    }"""
    x = cupy.arange(256, dtype=cupy.int32)
    cupy.RawKernel(code, "shift", enable_cooperative_groups=True)((8,), (32,), (x,))
    equal(x, np.roll(np.arange(256), -1))
