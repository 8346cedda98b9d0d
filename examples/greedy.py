"""A program that asks for more and more of the card, until it is told that there is no more.

It takes memory piece by piece through the driver's API (cuda-bindings). Where its share ends, cuMemAlloc
answers CUDA_ERROR_OUT_OF_MEMORY; what the program holds by then goes on working, which it proves by writing
to it and reading it back. No other program on the card is harmed.

Cost: nothing; on a simulated card, memory that is never touched costs the host nothing either.
"""

# The names of cuda.bindings are made at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import argparse
import sys

import numpy as np
from cuda.bindings import driver

MIB = 1 << 20
WRITTEN = 4 * MIB
"""Bytes of the last piece that are written and read back."""


def call(answer: tuple):
    """The value of a driver call. Raises `RuntimeError` with the driver's own words if it failed."""
    status, *values = answer
    if status != driver.CUresult.CUDA_SUCCESS:
        _, text = driver.cuGetErrorString(status)
        raise RuntimeError(f"{status.name}: {text.decode()}")
    return values[0] if len(values) == 1 else tuple(values)


def take(wanted: int, piece: int) -> tuple[list[driver.CUdeviceptr], str | None]:
    """Memory up to `wanted` bytes. Returns the pieces, and the driver's error if it gave less."""
    pieces = []
    while len(pieces) * piece < wanted:
        try:
            pieces.append(call(driver.cuMemAlloc(piece)))
        except RuntimeError as error:
            return pieces, str(error)
    return pieces, None


def still_works(memory: driver.CUdeviceptr) -> bool:
    """Whether the card keeps what is written to `memory`."""
    seen = np.zeros(WRITTEN // 4, np.uint32)
    call(driver.cuMemsetD32(memory, 0xA11C0E7, seen.size))
    call(driver.cuMemcpyDtoH(seen, memory, WRITTEN))
    return bool((seen == 0xA11C0E7).all())


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Asks for more memory than it may have.")
    parser.add_argument(
        "--ask", type=int, default=0, help="MiB in all (default: all that the card has, and more)"
    )
    parser.add_argument("--piece", type=int, default=256, help="MiB at a time (default %(default)s)")
    options = parser.parse_args()
    if options.piece * MIB < WRITTEN or options.ask < 0:
        parser.error(f"--piece is at least {WRITTEN // MIB} MiB, --ask is not negative")
    return options


def main() -> int:
    """Take, be refused, go on. Returns the exit status: 0 if the card's memory still works at the end."""
    options = arguments()
    call(driver.cuInit(0))
    device = call(driver.cuDeviceGet(0))
    call(driver.cuCtxSetCurrent(call(driver.cuDevicePrimaryCtxRetain(device))))
    free, total = call(driver.cuMemGetInfo())
    wanted = options.ask * MIB or total + options.piece * MIB
    print(f"the card says {free // MIB} of {total // MIB} MiB are free; asking for {wanted // MIB} MiB")
    pieces, error = take(wanted, options.piece * MIB)
    held = len(pieces) * options.piece
    print(f"got {held} MiB" + (f", then {error}" if error else ", all that was asked for"))
    if not pieces:
        return 1
    works = still_works(pieces[-1])
    print(f"what it holds {'still works' if works else 'is broken'}")
    for memory in pieces:
        call(driver.cuMemFree(memory))
    call(driver.cuDevicePrimaryCtxRelease(device))
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main())
