"""Slices enforced inside the process: what puts a program, and all that it starts, on a slice.

The limiter's libraries carry the driver's own names (libcuda.so.1, libnvidia-ml.so.1) and are preloaded, so
that every way to look the driver up finds them first. This module arranges an environment; it starts nothing.

    from aliquot.limits import Slice
    from aliquot.mechanisms import limiter

    with Slice.create(vram_bytes=2 * 2**30, device=card_uuid, driver=libcuda, nvml=libnvidia_ml) as slice_:
        subprocess.run(program, env=limiter.environment(slice_, os.environ))

Preload is for the willing: docs/limiter.md says what it does not stop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from aliquot import native
from aliquot.limits import Slice
from aliquot.mechanisms import Isolation, Properties

SLICE_VARIABLE: Final = "ALIQUOT_SLICE"
"""Names the folder of the slice that the limiter obeys."""

PROPERTIES: Final = Properties(
    unit="any number of bytes of VRAM, millionths of a card's time",
    isolation=Isolation.SOFTWARE,
    interference="whole operations: a turn of the card begins when the neighbour's kernel has ended",
    dynamic_cost="none: memory from the next allocation on, compute within 200 ms",
    compatibility="programs that load libcuda.so.1 dynamically and keep LD_PRELOAD",
)

_SEPARATORS: Final = " :"
_LIBRARIES: Final = ("limiter/libcuda.so.1", "limiter/libnvidia-ml.so.1")
_ALIASES: Final = ("limiter/libcuda.so", "limiter/libnvidia-ml.so")


def libraries() -> tuple[Path, ...]:
    """What is to be preloaded, in this order. Raises `NotInstalledError` where a part is missing."""
    return tuple(native.path(part) for part in (*_LIBRARIES, *_ALIASES))


def environment(slice_: Slice, base: Mapping[str, str]) -> dict[str, str]:
    """`base` (say `os.environ`), changed so that a program runs on the slice.

    Libraries that are preloaded already stay so, behind the limiter's. The limiter has the driver show the
    slice's cards only; `CUDA_VISIBLE_DEVICES`, if a program sets it, chooses among them. `base`'s is dropped.
    Raises `NotInstalledError`, `SliceNotFoundError` and `SliceDamagedError`.
    """
    ours = _loadable(slice_)
    # The caller's choice was among all cards of the machine.
    kept = {name: value for name, value in base.items() if name != "CUDA_VISIBLE_DEVICES"}
    return {
        **kept,
        "LD_PRELOAD": ":".join([*ours, *_others(base.get("LD_PRELOAD", ""), ours)]),
        SLICE_VARIABLE: str(slice_.path.absolute()),
    }


def make_loadable(slice_: Slice) -> None:
    """Lets programs of the slice find the libraries where their path is one that the loader cannot read.

    LD_PRELOAD has no way to quote a blank or a colon, so an installation below such a folder is reached by a
    link in the slice's own folder, which only the slice's owner can change. Raises `NotInstalledError`.
    """
    folder = libraries()[0].parent
    link = _link(slice_)
    if any(separator in str(folder) for separator in _SEPARATORS) and not link.is_symlink():
        with suppress(FileExistsError):
            link.symlink_to(folder)


def _link(slice_: Slice) -> Path:
    return slice_.path.absolute() / "libraries"


def _loadable(slice_: Slice) -> list[str]:
    """The libraries' paths as the loader can read them."""
    make_loadable(slice_)
    paths, link = libraries(), _link(slice_)
    if link.is_symlink():
        return [str(link / path.name) for path in paths]
    return [str(path) for path in paths]


def _others(preload: str, ours: Sequence[str]) -> list[str]:
    """What else is preloaded; the limiter itself is already when a limited program starts another one."""
    names = re.split(f"[{_SEPARATORS}]", preload)
    return [name for name in names if name and name not in ours]
