"""Smoke in a box: a fluid solver in CUDA C++, compiled at run time by NVRTC and launched through cuda.core.

Two jets of smoke meet. Each step moves everything along the flow, then makes the flow free of divergence with
a number of Jacobi sweeps over tiles in shared memory (J. Stam, "Stable Fluids", SIGGRAPH 1999).

Cost: about 1,000 lane-instructions a cell and step, so 1000 * size^2 * steps: 1.5e9 with the defaults, which
is one to three seconds on a simulated card that runs on two host cores, and nothing on a real one.
"""

# The names of cuda.core are chosen at run time, by the toolkit's version.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from cuda.core import (
    Buffer,
    Device,
    Kernel,
    LaunchConfig,
    LegacyPinnedMemoryResource,
    Program,
    ProgramOptions,
    Stream,
    launch,
)
from PIL import Image

TILE = 16
"""Edge of a block, in cells. The edge of the box is a multiple of it."""

SWEEPS = 16
TIME_STEP = 1.0

SOURCE = r"""
constexpr int kTile = 16;

__device__ int clamped(int i, int n) { return min(max(i, 0), n - 1); }

__device__ float at(const float* field, int x, int y, int n) {
  return field[clamped(y, n) * n + clamped(x, n)];
}

// Where the smoke in this cell was a step ago: bilinear between four cells.
template <typename Real>
__global__ void advect(Real* to, const Real* from, const Real* u, const Real* v, int n, Real dt) {
  const int x = blockIdx.x * kTile + threadIdx.x, y = blockIdx.y * kTile + threadIdx.y, i = y * n + x;
  const Real px = fminf(fmaxf(x - dt * u[i], Real(0)), Real(n - 1));
  const Real py = fminf(fmaxf(y - dt * v[i], Real(0)), Real(n - 1));
  const int x0 = int(px), y0 = int(py);
  const Real fx = px - x0, fy = py - y0;
  const Real low = at(from, x0, y0, n) * (1 - fx) + at(from, x0 + 1, y0, n) * fx;
  const Real high = at(from, x0, y0 + 1, n) * (1 - fx) + at(from, x0 + 1, y0 + 1, n) * fx;
  to[i] = low * (1 - fy) + high * fy;
}

// A jet: a disc that adds smoke and speed.
extern "C" __global__ void blow(float* smoke, float* u, float* v, int n, float cx, float cy, float su,
                                float sv) {
  const int x = blockIdx.x * kTile + threadIdx.x, y = blockIdx.y * kTile + threadIdx.y, i = y * n + x;
  const float dx = x - cx * n, dy = y - cy * n, strength = expf(-(dx * dx + dy * dy) / (0.0008f * n * n));
  smoke[i] += 0.25f * strength;
  u[i] += su * strength;
  v[i] += sv * strength;
}

extern "C" __global__ void divergence(float* to, const float* u, const float* v, int n) {
  const int x = blockIdx.x * kTile + threadIdx.x, y = blockIdx.y * kTile + threadIdx.y;
  to[y * n + x] = 0.5f * (at(u, x + 1, y, n) - at(u, x - 1, y, n) + at(v, x, y + 1, n) - at(v, x, y - 1, n));
}

// One sweep towards the pressure that undoes the divergence; each tile and its rim are read once.
extern "C" __global__ void sweep(float* to, const float* from, const float* div, int n) {
  __shared__ float tile[kTile + 2][kTile + 2];
  const int tx = threadIdx.x + 1, ty = threadIdx.y + 1;
  const int x = blockIdx.x * kTile + threadIdx.x, y = blockIdx.y * kTile + threadIdx.y;
  tile[ty][tx] = from[y * n + x];
  if (tx == 1) tile[ty][0] = at(from, x - 1, y, n);
  if (tx == kTile) tile[ty][kTile + 1] = at(from, x + 1, y, n);
  if (ty == 1) tile[0][tx] = at(from, x, y - 1, n);
  if (ty == kTile) tile[kTile + 1][tx] = at(from, x, y + 1, n);
  __syncthreads();
  to[y * n + x] =
      0.25f * (tile[ty][tx - 1] + tile[ty][tx + 1] + tile[ty - 1][tx] + tile[ty + 1][tx] - div[y * n + x]);
}

extern "C" __global__ void project(float* u, float* v, const float* p, int n) {
  const int x = blockIdx.x * kTile + threadIdx.x, y = blockIdx.y * kTile + threadIdx.y, i = y * n + x;
  u[i] -= 0.5f * (at(p, x + 1, y, n) - at(p, x - 1, y, n));
  v[i] -= 0.5f * (at(p, x, y + 1, n) - at(p, x, y - 1, n));
}
"""

JETS = (("warm", 0.15, 0.47, 1.5, 0.1), ("cool", 0.85, 0.53, -1.5, -0.1))
"""Smoke, place (parts of the box) and push (cells a step) of each jet."""


class Box:
    """The fields on the card, and the kernels that move them."""

    NAMES = ("u", "v", "warm", "cool", "pressure", "divergence", "spare")

    def __init__(self, size: int) -> None:
        self.size = size
        self.device = Device()
        self.device.set_current()
        self.stream: Stream = self.device.create_stream()
        self.kernels = self._compile()
        self.config = LaunchConfig(grid=(size // TILE, size // TILE), block=(TILE, TILE))
        self.fields: dict[str, Buffer] = {}
        for name in self.NAMES:
            self.fields[name] = self.device.allocate(size * size * 4, stream=self.stream)
            self.fields[name].fill(np.uint32(0), stream=self.stream)

    def _compile(self) -> dict[str, Kernel]:
        """PTX for this card's generation; the driver turns it into what the card executes."""
        capability = "".join(map(str, self.device.compute_capability))
        options = ProgramOptions(std="c++17", arch=f"compute_{capability}")
        code = Program(SOURCE, "c++", options).compile("ptx", name_expressions=("advect<float>",))
        names = {"advect": "advect<float>", **{n: n for n in ("blow", "divergence", "sweep", "project")}}
        return {short: code.get_kernel(full) for short, full in names.items()}

    def run(self, kernel: str, *arguments: Buffer | np.generic) -> None:
        """Launch one kernel over the whole box."""
        launch(self.stream, self.config, self.kernels[kernel], *arguments)

    def step(self) -> None:
        """One time step: blow, move along the flow, take out the divergence."""
        f, n = self.fields, np.int32(self.size)
        for smoke, cx, cy, su, sv in JETS:
            where_and_push = (np.float32(value) for value in (cx, cy, su, sv))
            self.run("blow", f[smoke], f["u"], f["v"], n, *where_and_push)
        for smoke in ("warm", "cool"):
            self.run("advect", f["spare"], f[smoke], f["u"], f["v"], n, np.float32(TIME_STEP))
            f[smoke], f["spare"] = f["spare"], f[smoke]
        self._move_the_flow(n)
        self.run("divergence", f["divergence"], f["u"], f["v"], n)
        for _ in range(SWEEPS):
            self.run("sweep", f["spare"], f["pressure"], f["divergence"], n)
            f["pressure"], f["spare"] = f["spare"], f["pressure"]
        self.run("project", f["u"], f["v"], f["pressure"], n)

    def _move_the_flow(self, n: np.int32) -> None:
        """The flow carries itself: both components along the old flow."""
        f = self.fields
        self.run("advect", f["spare"], f["u"], f["u"], f["v"], n, np.float32(TIME_STEP))
        # The divergence is computed anew after this: its memory can hold the other component meanwhile.
        self.run("advect", f["divergence"], f["v"], f["u"], f["v"], n, np.float32(TIME_STEP))
        f["u"], f["spare"] = f["spare"], f["u"]
        f["v"], f["divergence"] = f["divergence"], f["v"]

    def read(self, name: str) -> np.ndarray:
        """A field as a NumPy array, shape (size, size)."""
        pinned = LegacyPinnedMemoryResource().allocate(self.size * self.size * 4)
        self.fields[name].copy_to(pinned, stream=self.stream)
        self.stream.sync()
        return np.from_dlpack(pinned).view(np.float32).reshape(self.size, self.size).copy()


def advected(field: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """`advect` in NumPy."""
    n = len(field)
    y, x = np.mgrid[0:n, 0:n]
    px, py = np.clip(x - TIME_STEP * u, 0, n - 1), np.clip(y - TIME_STEP * v, 0, n - 1)
    x0, y0 = px.astype(int), py.astype(int)
    x1, y1 = np.minimum(x0 + 1, n - 1), np.minimum(y0 + 1, n - 1)
    fx, fy = px - x0, py - y0
    low = field[y0, x0] * (1 - fx) + field[y0, x1] * fx
    high = field[y1, x0] * (1 - fx) + field[y1, x1] * fx
    return low * (1 - fy) + high * fy


def neighbours(field: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The fields one cell to the left, right, below and above; the rim repeats itself."""
    wide = np.pad(field, 1, mode="edge")
    return wide[1:-1, :-2], wide[1:-1, 2:], wide[:-2, 1:-1], wide[2:, 1:-1]


def numpy_smoke(size: int, steps: int) -> dict[str, np.ndarray]:
    """The same simulation in NumPy, in double precision."""
    f = {name: np.zeros((size, size)) for name in ("u", "v", "warm", "cool", "pressure")}
    y, x = np.mgrid[0:size, 0:size]
    for _ in range(steps):
        for smoke, cx, cy, su, sv in JETS:
            strength = np.exp(-((x - cx * size) ** 2 + (y - cy * size) ** 2) / (0.0008 * size * size))
            f[smoke] += 0.25 * strength
            f["u"] += su * strength
            f["v"] += sv * strength
        f.update({name: advected(f[name], f["u"], f["v"]) for name in ("warm", "cool", "u", "v")})
        left, right, _, _ = neighbours(f["u"])
        _, _, below, above = neighbours(f["v"])
        div = 0.5 * (right - left + above - below)
        for _ in range(SWEEPS):
            f["pressure"] = 0.25 * (sum(neighbours(f["pressure"])) - div)
        left, right, below, above = neighbours(f["pressure"])
        f["u"] -= 0.5 * (right - left)
        f["v"] -= 0.5 * (above - below)
    return f


def draw(warm: np.ndarray, cool: np.ndarray, pixels: int = 720) -> Image.Image:
    """Both smokes as light of their colours."""
    light = warm[..., None] * np.array((1.0, 0.45, 0.15)) + cool[..., None] * np.array((0.15, 0.5, 1.0))
    picture = Image.fromarray((255 * (1 - np.exp(-2.2 * light))).astype(np.uint8)[::-1].copy())
    return picture.resize((pixels, pixels), Image.Resampling.BICUBIC)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description="Two jets of smoke, computed with CUDA C++ through cuda.core."
    )
    parser.add_argument(
        "--size", type=int, default=128, help="edge of the box in cells (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=90, help="time steps (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/fluid.png"), help="the picture (default %(default)s)"
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with NumPy (default: yes)",
    )
    options = parser.parse_args()
    if options.size < TILE or options.size % TILE:
        parser.error(f"--size must be a multiple of {TILE}")
    return options


def main() -> int:
    """Simulate, draw, check. Returns the exit status: 1 if the card and NumPy differ."""
    options = arguments()
    box = Box(options.size)
    for _ in range(options.steps):
        box.step()
    warm, cool = box.read("warm"), box.read("cool")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(warm, cool).save(options.out)
    print(f"{options.size} x {options.size} cells, {options.steps} steps: see {options.out}")
    if not options.check:
        return 0
    expected = numpy_smoke(options.size, options.steps)
    worst = max(float(np.abs(warm - expected["warm"]).max()), float(np.abs(cool - expected["cool"]).max()))
    print(f"checked against NumPy: largest difference {worst:.1e}")
    return 0 if worst < 2e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
