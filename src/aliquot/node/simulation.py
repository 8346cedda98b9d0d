"""What a program's environment needs so that an unchanged CUDA program runs on simulated cards.

Simulated cards run PTX. A real card runs machine code beside it, so several clients compile to that alone
unless told otherwise. Nothing here changes the program, and nothing is set on a real card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aliquot import native

CLIENT_SETTINGS: Final[Mapping[str, str]] = {
    # CuPy: have NVRTC make PTX instead of machine code (CuPy manual, "Environment variables").
    "CUPY_COMPILE_WITH_PTX": "1",
    # CuPy: its compiled CUB reductions are machine code; without them it generates its own (same page).
    "CUPY_ACCELERATORS": "",
}
"""Set for the program unless the person has set them."""

DROPPED: Final = frozenset({"NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_CUDA"})
"""Settings that keep numba from every driver, real or simulated (numba manual, "Environment variables")."""

_NO_JIT_LINK: Final = "simgpu/preload/libnvJitLink.so.13"
"""An empty library under nvJitLink's name. cuda-pathfinder, and so numba-cuda and cuda.core, take what is
loaded under that name already; finding no function in it they link through the driver, which takes PTX."""

_NO_JIT_LINK_WARNING: Final = "ignore:libnvJitLink.so* is too old:RuntimeWarning"
"""What cuda.core says of it to a Python program, and what a person could do nothing about."""


def environment(base: Mapping[str, str], *, driver: Path) -> dict[str, str]:
    """`base` changed so that the loader finds the simulated driver and NVML, and clients hand over PTX.

    `driver` is the simulated libcuda.so.1; NVML lies beside it. Whoever looks a library up by its name, as
    libcudart, cuda-bindings and nvidia-ml-py do, finds these first. Raises `NotInstalledError`.
    """
    kept = {name: value for name, value in base.items() if name not in DROPPED}
    folders = base.get("LD_LIBRARY_PATH", "").split(":")
    preloaded = base.get("LD_PRELOAD", "").replace(" ", ":").split(":")
    return {
        **CLIENT_SETTINGS,
        **kept,
        "LD_LIBRARY_PATH": _joined(":", str(driver.parent), folders),
        "LD_PRELOAD": _joined(":", str(native.path(_NO_JIT_LINK)), preloaded),
        # Of several filters the last one that fits decides: the person's own.
        "PYTHONWARNINGS": _joined(",", _NO_JIT_LINK_WARNING, base.get("PYTHONWARNINGS", "").split(",")),
    }


def _joined(separator: str, first: str, others: Sequence[str]) -> str:
    """`first`, then the others in their order, each once and none empty."""
    return separator.join(dict.fromkeys([first, *filter(None, others)]))
