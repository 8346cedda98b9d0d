"""Patterns that grow by themselves: the Gray-Scott reaction on the card, with CuPy.

Two substances spread, and the second one feeds on the first: from a few drops grow spots and labyrinths
(J. Pearson, "Complex Patterns in a Simple System", Science 1993). A RawKernel does the chemistry, a
ReductionKernel watches it and an ElementwiseKernel colours the picture.

Cost: about 55 lane-instructions a cell and step, so 55 * size^2 * steps: 1.8e9 with the defaults, which is
one to three seconds on a simulated card that runs on two host cores, and nothing on a real one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cupy
import numpy as np
from PIL import Image

BLOCK = 128
SPREAD_U, SPREAD_V = 0.16, 0.08
FEED, KILL = 0.0545, 0.062

# The world is a torus: what leaves on one side comes back on the other.
react = cupy.RawKernel(
    r"""
extern "C" __global__ void react(const float* u, const float* v, float* u_next, float* v_next, int n,
                                 float spread_u, float spread_v, float feed, float kill) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n * n) return;
  const int x = i % n, row = i - x;
  const int left = x ? i - 1 : i + n - 1, right = x < n - 1 ? i + 1 : row;
  const int below = row ? i - n : i + n * (n - 1), above = row < n * (n - 1) ? i + n : x;
  const float here_u = u[i], here_v = v[i];
  const float flow_u = u[left] + u[right] + u[below] + u[above] - 4 * here_u;
  const float flow_v = v[left] + v[right] + v[below] + v[above] - 4 * here_v;
  const float eaten = here_u * here_v * here_v;
  u_next[i] = here_u + spread_u * flow_u - eaten + feed * (1 - here_u);
  v_next[i] = here_v + spread_v * flow_v + eaten - (feed + kill) * here_v;
}
""",
    "react",
)

total = cupy.ReductionKernel(
    "float32 v, float32 scale", "float32 y", "v * scale", "a + b", "y = a", "0", "total"
)

colour = cupy.ElementwiseKernel(
    "float32 v, float32 highest",
    "uint8 red, uint8 green, uint8 blue",
    """
    const float t = min(1.0f, v / highest);
    red = (unsigned char)(255 * min(1.0f, 1.6f * t * t + 0.04f));
    green = (unsigned char)(255 * (0.05f + 0.85f * powf(t, 1.5f)));
    blue = (unsigned char)(255 * (0.15f + 0.55f * sinf(3.1415927f * t)));
    """,
    "colour",
)


def drops(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The start: the first substance everywhere, drops of the second one in it."""
    rng = np.random.default_rng(11)
    u, v = np.ones((size, size), np.float32), np.zeros((size, size), np.float32)
    edge = max(3, size // 20)
    for x, y in rng.integers(0, size - edge, (18, 2)):
        u[y : y + edge, x : x + edge] = 0.5
        v[y : y + edge, x : x + edge] = 0.25
    return u, v


def simulate(u: np.ndarray, v: np.ndarray, steps: int) -> cupy.ndarray:
    """Run on the card. Returns the second substance, still on the card."""
    size = len(u)
    now = [cupy.asarray(u), cupy.asarray(v)]
    later = [cupy.empty_like(now[0]), cupy.empty_like(now[1])]
    constants = tuple(np.float32(value) for value in (SPREAD_U, SPREAD_V, FEED, KILL))
    grid = ((size * size + BLOCK - 1) // BLOCK,)
    for _ in range(steps):
        react(grid, (BLOCK,), (*now, *later, np.int32(size), *constants))
        now, later = later, now
    return now[1]


def numpy_simulate(u: np.ndarray, v: np.ndarray, steps: int) -> np.ndarray:
    """The same chemistry in NumPy, in double precision."""
    u, v = u.astype(float), v.astype(float)
    for _ in range(steps):
        flow_u, flow_v = (
            sum(np.roll(field, shift, axis) for axis in (0, 1) for shift in (1, -1)) - 4 * field
            for field in (u, v)
        )
        eaten = u * v * v
        u = u + SPREAD_U * flow_u - eaten + FEED * (1 - u)
        v = v + SPREAD_V * flow_v + eaten - (FEED + KILL) * v
    return v


def draw(v: cupy.ndarray, pixels: int = 720) -> Image.Image:
    """Coloured on the card, enlarged here."""
    picture = np.stack([cupy.asnumpy(channel) for channel in colour(v, np.float32(0.36))], axis=-1)
    return Image.fromarray(picture).resize((pixels, pixels), Image.Resampling.BICUBIC)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="The Gray-Scott reaction, computed with CuPy.")
    parser.add_argument(
        "--size", type=int, default=128, help="edge of the world in cells (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=2000, help="time steps (default %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/reaction_diffusion.png"),
        help="the picture (default %(default)s)",
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with NumPy (default: yes)",
    )
    return parser.parse_args()


def main() -> int:
    """Simulate, draw, check. Returns the exit status: 1 if the card and NumPy differ."""
    options = arguments()
    u, v = drops(options.size)
    grown = simulate(u, v, options.steps)
    mean = float(total(grown, np.float32(1 / grown.size)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(grown).save(options.out)
    print(f"{options.size} x {options.size} cells, {options.steps} steps, mean {mean:.4f}: see {options.out}")
    if not options.check:
        return 0
    expected = numpy_simulate(u, v, options.steps)
    worst = max(float(np.abs(cupy.asnumpy(grown) - expected).max()), abs(mean - float(expected.mean())))
    print(f"checked against NumPy: largest difference {worst:.1e}")
    return 0 if worst < 5e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
