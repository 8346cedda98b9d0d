"""What the processes of a suite get: a simulated machine, an environment, a command to start with."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aliquot import native
from aliquot.node import simulation
from conformance.suite import Suite

_INSIDE: Final = Path(__file__).parent / "inside"
_DROPPED: Final = ("ALIQUOT_SIMGPU", "ALIQUOT_SLICE", "CUDA_", "CUPY_", "NUMBA_", "PYTEST_", "PYTHON")
"""Whoever starts a run has settings of their own, which are not the suite's."""
_KEPT: Final = ("ALIQUOT_SIMGPU_HOST_BYTES", "ALIQUOT_SIMGPU_THREADS", "ALIQUOT_SIMGPU_ISA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a process of a suite runs."""

    command: tuple[str, ...]
    """What the arguments of pytest are added to."""
    environment: Mapping[str, str]
    folder: Path
    """An empty working folder."""


@contextmanager
def surroundings(suite: Suite, *, inside_slice: bool) -> Iterator[Surroundings]:
    """A fresh simulated machine, gone afterwards. Raises `NotInstalledError` without native parts."""
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="aliquot-conformance-", dir=memory if memory.is_dir() else None))
    folder = Path(tempfile.mkdtemp(prefix="aliquot-conformance-"))
    try:
        yield Surroundings(
            command=_command(suite, inside_slice=inside_slice),
            environment=_environment(suite, home, folder, inside_slice=inside_slice),
            folder=folder,
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(suite: Suite, home: Path, folder: Path, *, inside_slice: bool) -> dict[str, str]:
    base = {
        name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_DROPPED)
    }
    base |= {
        **suite.environment,
        "ALIQUOT_SIMGPU": suite.cards,
        "ALIQUOT_SIMGPU_HOME": str(home),
        "PYTHONPATH": str(_INSIDE),
        # A process that is killed cannot remove what it had made: NVRTC's precompiled headers, for one.
        "TMPDIR": str(folder),
    }
    if inside_slice:
        return base  # `aliquot run` arranges the rest
    return simulation.environment(base, driver=native.path("simgpu/libcuda.so.1"))


def _command(suite: Suite, *, inside_slice: bool) -> tuple[str, ...]:
    """The same pytest inside and outside, so that nothing but the slice differs."""
    aliquot = (
        sys.executable,
        "-m",
        "aliquot",
        "run",
        "--simulate",
        "--quiet",
        "--vram",
        suite.slice_vram,
        "--",
    )
    plugins = [part for plugin in ("conformance_recorder", *suite.plugins) for part in ("-p", plugin)]
    return (
        *(aliquot if inside_slice else ()),
        *(sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider"),
        *("-c", str(_INSIDE / "pytest.ini"), "--rootdir", str(suite.root), "--confcutdir", str(suite.root)),
        *plugins,
        *suite.arguments,
    )
