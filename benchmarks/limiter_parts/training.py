"""A training loop as people write it with CuPy: two layers, their matrix products by a RawKernel of its own.

Prints the seconds that its steps took, the first ones, which compile, left out. Started by `programs.py`.
"""

from __future__ import annotations

import sys
import time

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
WARM_UP = 3

product_kernel = cp.RawKernel(KERNEL, "product")


def product(a: cp.ndarray, b: cp.ndarray) -> cp.ndarray:
    """a @ b, of sides that are multiples of 16."""
    (rows, inner), columns = a.shape, b.shape[1]
    out = cp.empty((rows, columns), cp.float32)
    sizes = tuple(map(cp.int32, (rows, inner, columns)))
    product_kernel((columns // 16, rows // 16), (16, 16), (a, b, out, *sizes))
    return out


def main(steps: int) -> None:
    """Fits a random target; the loss must fall, or the work was not done."""
    random = np.random.default_rng(1)
    x, target, first, second = (
        cp.asarray(random.random(shape, np.float32))
        for shape in ((BATCH, INNER), (BATCH, HIDDEN), (INNER, HIDDEN), (HIDDEN, HIDDEN))
    )
    first, second = first / INNER, second / HIDDEN
    losses: list[float] = []
    begin = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            cp.cuda.runtime.deviceSynchronize()
            begin = time.perf_counter()
        hidden = cp.tanh(product(x, first))
        error = product(hidden, second) - target
        losses.append(float(cp.mean(error * error)))
        back = product(error, cp.ascontiguousarray(second.T)) * (1 - hidden * hidden)
        second -= 0.01 * product(cp.ascontiguousarray(hidden.T), error) / BATCH
        first -= 0.01 * product(cp.ascontiguousarray(x.T), back) / BATCH
    cp.cuda.runtime.deviceSynchronize()
    took = time.perf_counter() - begin
    if not losses[-1] < losses[0]:
        sys.exit(f"the loss did not fall: {losses[0]} -> {losses[-1]}")
    print(took)


if __name__ == "__main__":
    main(int(sys.argv[1]))
