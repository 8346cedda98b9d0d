"""Where the native parts lie.

They are installed below `aliquot/_native`: `simgpu/` (the simulated GPU's libcuda.so.1 and
libnvidia-ml.so.1), `limiter/`, and `bin/`. This module finds files and nothing else; it loads none of them.
"""

from __future__ import annotations

import os
from pathlib import Path

from aliquot.errors import NotInstalledError

DIRECTORY_VARIABLE = "ALIQUOT_NATIVE_DIR"
"""Names another folder with native parts, e.g. a sanitizer build's."""


def directory() -> Path:
    """The folder below which native parts are looked for. It need not exist."""
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    return Path(chosen).absolute() if chosen else Path(__file__).parent / "_native"


def path(part: str) -> Path:
    """The file of one native part, e.g. `path("simgpu/libcuda.so.1")`.

    Raises `NotInstalledError`, which says how to get the part, where it is missing.
    """
    found = directory() / part
    if not found.is_file():
        raise NotInstalledError(f"the native part {part} is not in {directory()}", hint=_how_to_install())
    return found


def program(name: str) -> Path:
    """An executable native part, e.g. `program("aliquot-simgpu")`. Raises `NotInstalledError`."""
    return path(f"bin/{name}")


def checkout() -> Path | None:
    """The root of the source tree that this package runs from, or None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "native" / "CMakeLists.txt").is_file() else None


def _how_to_install() -> str:
    if os.environ.get(DIRECTORY_VARIABLE):
        return f"{DIRECTORY_VARIABLE} names that folder: correct it or unset it"
    if root := checkout():
        return f"build it with: make -C {root} ready"
    return "this installation is not complete: install the aliquot wheel for this platform again"
