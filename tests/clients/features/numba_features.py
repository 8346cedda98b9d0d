"""What programs do with numba-cuda, each compared with NumPy. See `run.py`."""

# Kernels look to a type checker like functions that never return.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
# pyright: reportPrivateImportUsage=false, reportOptionalOperand=false

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numba
import numpy as np
from numba import cuda
from numba.core.errors import NumbaPerformanceWarning

warnings.simplefilter("ignore", NumbaPerformanceWarning)

BLOCK = 64


def equal(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(got, expected)


def refused(words: str, action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:  # noqa: BLE001  numba's own class, or cuda.core's
        said = str(error)
    else:
        raise AssertionError("no error")
    assert words in said, said


def check_is_a_card():
    assert cuda.is_available()
    assert len(cuda.gpus) >= 1
    device = cuda.get_current_device()
    assert device.compute_capability >= (7, 5)
    free, total = cuda.current_context().get_memory_info()
    assert 0 < free <= total


def check_types():
    @cuda.jit
    def scale(x, y):
        i = cuda.grid(1)
        if i < x.size:
            y[i] = x[i] * 3 + 1

    for dtype in (np.int8, np.uint16, np.int32, np.int64, np.float32, np.float64):
        x = (np.arange(1000) % 40).astype(dtype)
        y = np.zeros_like(x)
        scale[16, BLOCK](x, y)
        equal(y, (x * 3 + 1).astype(dtype))


def check_complex_numbers():
    @cuda.jit
    def square(z):
        i = cuda.grid(1)
        z[i] = z[i] * z[i]

    z = np.arange(128) + 1j * np.arange(128)[::-1]
    expected = z * z
    square[2, BLOCK](z)
    equal(z, expected)


def check_two_dimensions():
    @cuda.jit
    def transpose(a, b):
        x, y = cuda.grid(2)
        if x < a.shape[0] and y < a.shape[1]:
            b[y, x] = a[x, y]

    a = np.arange(37 * 53, dtype=np.int32).reshape(37, 53)
    b = np.zeros((53, 37), np.int32)
    transpose[(5, 7), (8, 8)](a, b)
    equal(b, a.T)


def check_device_functions():
    @cuda.jit(device=True)
    def clamp(x, low, high):
        return min(max(x, low), high)

    @cuda.jit(device=True)
    def both(x):
        return clamp(x, 10, 50), clamp(-x, -40, 0)

    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        a, b = both(i)
        out[i] = a * 100 + b

    out = np.zeros(128, np.int64)
    kernel[2, BLOCK](out)
    i = np.arange(128)
    equal(out, np.clip(i, 10, 50) * 100 + np.clip(-i, -40, 0))


def check_shared_reduction():
    @cuda.jit
    def total(x, out):
        partial = cuda.shared.array(BLOCK, numba.float64)
        lane = cuda.threadIdx.x
        partial[lane] = x[cuda.grid(1)]
        cuda.syncthreads()
        half = BLOCK // 2
        while half > 0:
            if lane < half:
                partial[lane] += partial[lane + half]
            cuda.syncthreads()
            half //= 2
        if lane == 0:
            cuda.atomic.add(out, 0, partial[0])

    x = np.arange(1024, dtype=np.float64)
    out = np.zeros(1)
    total[16, BLOCK](x, out)
    assert out[0] == x.sum()


def check_dynamic_shared():
    @cuda.jit
    def reverse(x):
        held = cuda.shared.array(0, numba.int32)
        lane = cuda.threadIdx.x
        held[lane] = x[lane]
        cuda.syncthreads()
        x[lane] = held[cuda.blockDim.x - 1 - lane]

    x = np.arange(256, dtype=np.int32)
    reverse[1, 256, 0, 1024](x)
    equal(x, np.arange(256)[::-1])


def check_local_and_constant_arrays():
    weights = np.array([1, 4, 6, 4, 1], np.float32)

    @cuda.jit
    def smooth(x, y):
        table = cuda.const.array_like(weights)
        window = cuda.local.array(5, numba.float32)
        i = cuda.grid(1)
        for k in range(5):
            window[k] = x[(i + k) % x.size]
        value = numba.float32(0)
        for k in range(5):
            value += window[k] * table[k]
        y[i] = value

    x = np.arange(128, dtype=np.float32)
    y = np.zeros_like(x)
    smooth[2, BLOCK](x, y)
    equal(y, sum(np.roll(x, -k) * weights[k] for k in range(5)))


def check_generated_reduction():
    @cuda.reduce
    def total(a, b):
        return a + b

    x = np.arange(5000, dtype=np.float64)
    assert total(x) == x.sum()


def check_atomics():
    @cuda.jit
    def tally(x, counts, extremes):
        i = cuda.grid(1)
        cuda.atomic.add(counts, x[i], 1)
        cuda.atomic.max(extremes, 0, x[i])
        cuda.atomic.min(extremes, 1, x[i])

    x = (np.arange(2048) * 7 % 31).astype(np.int32)
    counts, extremes = np.zeros(31, np.int32), np.array([0, 1000], np.int32)
    tally[32, BLOCK](x, counts, extremes)
    equal(counts, np.bincount(x, minlength=31))
    equal(extremes, np.array([x.max(), x.min()]))


def check_float_atomics():
    @cuda.jit
    def add(out):
        cuda.atomic.add(out, 0, 0.25)

    for dtype in (np.float32, np.float64):
        out = np.zeros(1, dtype)
        add[32, BLOCK](out)
        assert out[0] == 512


def check_warp_operations():
    @cuda.jit
    def votes(x, sums, odd):
        i = cuda.grid(1)
        value = x[i]
        odd[i] = cuda.ballot_sync(0xFFFFFFFF, value % 2 == 1)
        offset = 16
        while offset > 0:
            value += cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
            offset //= 2
        sums[i] = value

    x = (np.arange(128) * 5 % 13).astype(np.int32)
    sums, odd = np.zeros(128, np.int32), np.zeros(128, np.uint32)
    votes[2, BLOCK](x, sums, odd)
    equal(sums[::32], x.reshape(-1, 32).sum(axis=1))
    bits = ((x.reshape(-1, 32) % 2) << np.arange(32, dtype=np.int64)).sum(axis=1)
    equal(odd, np.repeat(bits, 32).astype(np.uint32))


def check_math_functions():
    @cuda.jit
    def evaluate(x, out):
        i = cuda.grid(1)
        v = x[i]
        out[0, i] = math.sin(v)
        out[1, i] = math.exp(-v)
        out[2, i] = math.log(v + 1)
        out[3, i] = math.pow(v + 1, 1.7)
        out[4, i] = math.tanh(v - 2)
        out[5, i] = math.atan2(v - 2, v)
        out[6, i] = math.sqrt(v)
        out[7, i] = math.floor(v * 5)
        out[8, i] = math.cos(v * 1000)
        out[9, i] = math.hypot(v, 3.0)

    for dtype, tolerance in ((np.float64, 1e-14), (np.float32, 2e-6)):
        x = (np.arange(128) / 32).astype(dtype)
        out = np.zeros((10, 128), dtype)
        evaluate[2, BLOCK](x, out)
        v = x.astype(float)
        expected = [
            np.sin(v),
            np.exp(-v),
            np.log(v + 1),
            (v + 1) ** 1.7,
            np.tanh(v - 2),
            np.arctan2(v - 2, v),
        ]
        expected += [np.sqrt(v), np.floor(v * 5), np.cos(v * 1000), np.hypot(v, 3)]
        np.testing.assert_allclose(out, np.array(expected), rtol=tolerance, atol=tolerance)


def check_divergence():
    @cuda.jit
    def collatz(out):
        i = cuda.grid(1)
        n, steps = i + 1, 0
        while n > 1:
            n = 3 * n + 1 if n % 2 else n // 2
            steps += 1
        out[i] = steps

    def steps(n: int) -> int:
        return 0 if n == 1 else 1 + steps(3 * n + 1 if n % 2 else n // 2)

    out = np.zeros(256, np.int64)
    collatz[4, BLOCK](out)
    equal(out, np.array([steps(n) for n in range(1, 257)]))


def check_streams_and_events():
    @cuda.jit
    def add(x, value):
        x[cuda.grid(1)] += value

    pinned = cuda.pinned_array(128, np.int32)
    pinned[:] = np.arange(128)
    first, second = cuda.stream(), cuda.stream()
    start, done = cuda.event(), cuda.event()
    start.record(first)
    x = cuda.to_device(pinned, stream=first)
    add[2, BLOCK, first](x, 5)
    done.record(first)
    done.wait(second)
    add[2, BLOCK, second](x, 7)
    x.copy_to_host(pinned, stream=second)
    second.synchronize()
    equal(pinned, np.arange(128) + 12)
    assert cuda.event_elapsed_time(start, done) >= 0


def check_mapped_memory():
    @cuda.jit
    def fill(x):
        i = cuda.grid(1)
        x[i] = i * i

    x = cuda.mapped_array(128, np.int32)
    fill[2, BLOCK](x)
    cuda.synchronize()
    equal(x, np.arange(128) ** 2)


def check_device_arrays():
    x = cuda.to_device(np.arange(1000, dtype=np.float32))
    equal(x[100:200:3].copy_to_host(), np.arange(100, 200, 3))
    y = cuda.device_array_like(x)
    y.copy_to_device(x)
    y[:10] = 7
    got = y.copy_to_host()
    equal(got[:10], np.full(10, 7))
    equal(got[10:], np.arange(10, 1000))


def check_vectorize():
    @numba.vectorize(["float32(float32, float32)", "float64(float64, float64)"], target="cuda")
    def mixed(a, b):
        return a * a + math.sqrt(b)

    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-15)):
        a, b = np.arange(500, dtype=dtype), np.arange(500, dtype=dtype)[::-1].copy()
        np.testing.assert_allclose(mixed(a, b), a * a + np.sqrt(b), rtol=tolerance)


def check_print():
    @cuda.jit
    def speak(x):
        if cuda.threadIdx.x == 3:
            print("thread", cuda.threadIdx.x, "holds", x[3])

    speak[1, 32](np.arange(32) * 1.5)
    cuda.synchronize()


def check_bad_launch_is_an_error():
    @cuda.jit
    def nothing(x):
        x[0] = 1

    refused("CUDA_ERROR_INVALID_VALUE", lambda: nothing[1, 4096](np.zeros(1)))


def check_out_of_memory():
    _, total = cuda.current_context().get_memory_info()
    refused("CUDA_ERROR_OUT_OF_MEMORY", lambda: cuda.device_array(total + 1024, np.uint8))
    equal(cuda.to_device(np.arange(10)).copy_to_host(), np.arange(10))
