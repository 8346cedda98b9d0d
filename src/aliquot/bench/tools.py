"""What benchmarks share: native programs, and a name for this machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from aliquot import native
from aliquot.errors import NotInstalledError

BUILD_VARIABLE = "ALIQUOT_BUILD_DIR"
"""A CMake build folder in which programs that are not installed are looked for."""


def native_program(name: str) -> Path:
    """An executable that belongs to a benchmark: installed, or in the build folder `ALIQUOT_BUILD_DIR`.

    Raises `NotInstalledError`.
    """
    try:
        return native.program(name)
    except NotInstalledError:
        build = _build_folder()
        built = sorted(build.rglob(name)) if build else []
        for candidate in built:
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return candidate
        raise


def machine_name() -> str:
    """Processor model, how many of its cores this process may use, and the system, on one line."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"{_processor()}, {cores} core{'s' if cores != 1 else ''}, "
        f"{platform.system()} {platform.release().partition('-')[0]}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _build_folder() -> Path | None:
    if chosen := os.environ.get(BUILD_VARIABLE):
        return Path(chosen)
    root = native.checkout()
    return root / "build" / "native" if root else None
