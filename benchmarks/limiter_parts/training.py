"""A training loop as people write it with CuPy: two layers, their matrix products by a RawKernel of its own.

Started by `programs.py` through `repeated.py`; takes the number of steps.
"""

from __future__ import annotations

import sys

import cupy as cp
import numpy as np

KERNEL = r"""
extern "C" __global__ void product(const float* a, const float* b, float* out,
                                   int rows, int inner, int columns) {
  __shared__ float left[16][16], right[16][16];
  int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
  float sum = 0;
  for (int at = 0; at < inner; at += 16) {
    left[threadIdx.y][threadIdx.x] = a[row * inner + at + threadIdx.x];
    right[threadIdx.y][threadIdx.x] = b[(at + threadIdx.y) * columns + column];
    __syncthreads();
    for (int k = 0; k < 16; ++k) sum += left[threadIdx.y][k] * right[k][threadIdx.x];
    __syncthreads();
  }
  out[row * columns + column] = sum;
}
"""
BATCH, INNER, HIDDEN = 64, 64, 64

product_kernel = cp.RawKernel(KERNEL, "product")


def product(a: cp.ndarray, b: cp.ndarray) -> cp.ndarray:
    """a @ b, of sides that are multiples of 16."""
    (rows, inner), columns = a.shape, b.shape[1]
    out = cp.empty((rows, columns), cp.float32)
    sizes = tuple(map(cp.int32, (rows, inner, columns)))
    product_kernel((columns // 16, rows // 16), (16, 16), (a, b, out, *sizes))
    return out


def main() -> int:
    """Fits a random target. Returns the exit status: 1 if the loss does not fall."""
    random = np.random.default_rng(1)
    x, target, first, second = (
        cp.asarray(random.random(shape, np.float32))
        for shape in ((BATCH, INNER), (BATCH, HIDDEN), (INNER, HIDDEN), (HIDDEN, HIDDEN))
    )
    first, second = first / INNER, second / HIDDEN
    losses: list[float] = []
    for _ in range(int(sys.argv[1])):
        hidden = cp.tanh(product(x, first))
        error = product(hidden, second) - target
        losses.append(float(cp.mean(error * error)))
        back = product(error, cp.ascontiguousarray(second.T)) * (1 - hidden * hidden)
        second -= 0.01 * product(cp.ascontiguousarray(hidden.T), error) / BATCH
        first -= 0.01 * product(cp.ascontiguousarray(x.T), back) / BATCH
    cp.cuda.runtime.deviceSynchronize()
    print(f"the loss went from {losses[0]} to {losses[-1]}")
    return 0 if losses[-1] < losses[0] else 1


if __name__ == "__main__":
    sys.exit(main())
