"""Two galaxies collide: an n-body simulation in Python, compiled for the card by numba-cuda.

Every body attracts every other one. A block of threads loads the bodies tile by tile into shared memory, so
that each is read from the card's memory once a block. The trails of all bodies make the picture.

Cost: about 30 lane-instructions a pair, so 30 * size^2 * steps: 2.0e9 with the defaults, which is one to
three seconds on a simulated card that runs on two host cores, and nothing on a real one.
"""

# A kernel looks to a type checker like a function that never returns, and cannot be indexed with a grid.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

import argparse
import math
import sys
import warnings
from pathlib import Path

import numpy as np
from numba import cuda, float32
from PIL import Image

TILE = 128
"""Threads of a block, and bodies in a tile of shared memory."""

SOFTENING = 0.05
"""Length that keeps two close bodies from flinging each other out of the picture."""

TIME_STEP = 0.02
CHECKED_STEPS = 6
"""NumPy takes this many steps again, in double precision."""


@cuda.jit
def accelerate(body, acceleration, softening_squared):
    """Gravity on each body; a row of `body` is x, y, z, mass."""
    tile = cuda.shared.array((TILE, 4), float32)
    lane = cuda.threadIdx.x
    i = cuda.grid(1)
    count = body.shape[0]
    x = y = z = ax = ay = az = float32(0)
    if i < count:
        x, y, z = body[i, 0], body[i, 1], body[i, 2]
    for start in range(0, count, TILE):
        j = start + lane
        if j < count:
            for k in range(4):
                tile[lane, k] = body[j, k]
        else:
            tile[lane, 3] = float32(0)
        cuda.syncthreads()
        for k in range(TILE):
            dx, dy, dz = tile[k, 0] - x, tile[k, 1] - y, tile[k, 2] - z
            inverse = float32(1) / math.sqrt(dx * dx + dy * dy + dz * dz + softening_squared)
            pull = tile[k, 3] * inverse * inverse * inverse
            ax += dx * pull
            ay += dy * pull
            az += dz * pull
        cuda.syncthreads()
    if i < count:
        acceleration[i, 0], acceleration[i, 1], acceleration[i, 2] = ax, ay, az


@cuda.jit
def kick(velocity, acceleration, seconds):
    """Half a leapfrog step: gravity changes the velocity."""
    i = cuda.grid(1)
    if i < velocity.shape[0]:
        for k in range(3):
            velocity[i, k] += acceleration[i, k] * seconds


@cuda.jit
def drift(body, velocity, seconds, trail):
    """The other half: the velocity changes the place, which is noted in the trail."""
    i = cuda.grid(1)
    if i < body.shape[0]:
        for k in range(3):
            body[i, k] += velocity[i, k] * seconds
            trail[i, k] = body[i, k]


def disc(
    count: int, centre: tuple[float, float], speed: tuple[float, float], spin: float, rng: np.random.Generator
):
    """Bodies on circular orbits around a heavy middle: (rows of x, y, z, mass; rows of velocity)."""
    radius = 0.25 + 1.5 * np.sqrt(rng.random(count))
    angle = rng.random(count) * 2 * np.pi
    body = np.zeros((count, 4))
    body[:, 0] = centre[0] + radius * np.cos(angle)
    body[:, 1] = centre[1] + radius * np.sin(angle)
    body[:, 2] = rng.normal(0, 0.05, count)
    body[:, 3] = 0.5 / count
    orbit = spin * np.sqrt(2.0 / radius)
    velocity = np.zeros((count, 3))
    velocity[:, 0] = speed[0] - orbit * np.sin(angle)
    velocity[:, 1] = speed[1] + orbit * np.cos(angle)
    body[0] = (*centre, 0, 2)
    velocity[0] = (*speed, 0)
    return body, velocity


def two_galaxies(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The start: two discs that are about to pass through each other."""
    rng = np.random.default_rng(7)
    left = disc(count // 2, (-1.9, -0.5), (0.55, 0.2), 1.0, rng)
    right = disc(count - count // 2, (1.9, 0.5), (-0.55, -0.2), 1.0, rng)
    body = np.concatenate([left[0], right[0]]).astype(np.float32)
    velocity = np.concatenate([left[1], right[1]]).astype(np.float32)
    return body, velocity


def simulate(body: np.ndarray, velocity: np.ndarray, steps: int) -> np.ndarray:
    """Run on the card. Returns the places of all bodies after each step, shape (steps + 1, bodies, 3)."""
    softening, step = np.float32(SOFTENING**2), np.float32(TIME_STEP)
    stream = cuda.stream()
    places = cuda.to_device(body, stream=stream)
    speeds = cuda.to_device(velocity, stream=stream)
    pull = cuda.device_array((len(body), 3), np.float32, stream=stream)
    trail = cuda.device_array((steps, len(body), 3), np.float32, stream=stream)
    grid = (len(body) + TILE - 1) // TILE
    accelerate[grid, TILE, stream](places, pull, softening)
    for n in range(steps):
        kick[grid, TILE, stream](speeds, pull, step / 2)
        drift[grid, TILE, stream](places, speeds, step, trail[n])
        accelerate[grid, TILE, stream](places, pull, softening)
        kick[grid, TILE, stream](speeds, pull, step / 2)
    history = trail.copy_to_host(stream=stream)
    stream.synchronize()
    return np.concatenate([body[None, :, :3], history])


def gravity(place: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """The same law in NumPy, in double precision."""
    apart = place[None, :, :] - place[:, None, :]
    inverse = 1 / np.sqrt((apart**2).sum(axis=2) + SOFTENING**2)
    return np.einsum("ijk,ij->ik", apart, mass[None, :] * inverse**3)


def difference_from_numpy(body: np.ndarray, velocity: np.ndarray, history: np.ndarray) -> float:
    """The largest distance between a place on the card and NumPy's over the first steps."""
    place, mass, speed = body[:, :3].astype(float), body[:, 3].astype(float), velocity.astype(float)
    pull = gravity(place, mass)
    worst = 0.0
    for n in range(1, min(CHECKED_STEPS, len(history) - 1) + 1):
        speed += pull * (TIME_STEP / 2)
        place += speed * TIME_STEP
        pull = gravity(place, mass)
        speed += pull * (TIME_STEP / 2)
        worst = max(worst, float(np.abs(history[n] - place).max()))
    return worst


def draw(history: np.ndarray, pixels: int = 720, extent: float = 4.0) -> Image.Image:
    """All trails, one galaxy warm and one cool, late steps brighter than early ones."""
    light = np.zeros((pixels, pixels, 3))
    half = history.shape[1] // 2
    for n, place in enumerate(history):
        glow = 0.15 + 0.85 * (n / max(1, len(history) - 1)) ** 3
        cell = ((place[:, :2] / extent + 1) * pixels / 2).astype(int)
        seen = ((cell >= 0) & (cell < pixels)).all(axis=1)
        for chosen, colour in ((slice(0, half), (1.0, 0.62, 0.30)), (slice(half, None), (0.35, 0.65, 1.0))):
            x, y = cell[chosen][seen[chosen]].T
            np.add.at(light, (pixels - 1 - y, x), glow * np.array(colour))
    return Image.fromarray((255 * (1 - np.exp(-1.6 * light))).astype(np.uint8))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Two galaxies collide, computed with numba-cuda.")
    parser.add_argument("--size", type=int, default=1024, help="bodies (default %(default)s)")
    parser.add_argument("--steps", type=int, default=64, help="time steps (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/nbody.png"), help="the picture (default %(default)s)"
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
    # A thousand bodies cannot fill a card, which is the point of giving it away in parts.
    warnings.filterwarnings("ignore", message="Grid size")
    body, velocity = two_galaxies(options.size)
    history = simulate(body, velocity, options.steps)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(history).save(options.out)
    print(f"{options.size} bodies, {options.steps} steps: see {options.out}")
    if not options.check:
        return 0
    worst = difference_from_numpy(body, velocity, history)
    print(f"checked against NumPy: largest difference {worst:.1e}")
    return 0 if worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
