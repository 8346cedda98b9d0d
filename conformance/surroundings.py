"""What the processes of a suite get: a simulated machine, an environment, a command to start with."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aliquot import native
from aliquot.node import simulation
from conformance.neighbour import busy_neighbour
from conformance.suite import Suite

_INSIDE: Final = Path(__file__).parent / "inside"
_SLICE_OF_ALL: Final = Path(__file__).with_name("slice_of_all.py")
_DROPPED: Final = ("ALIQUOT_SIMGPU", "ALIQUOT_SLICE", "CUDA_", "CUPY_", "NUMBA_", "PYTEST_", "PYTHON")
"""Whoever starts a run has settings of their own, which are not the suite's."""
_KEPT: Final = ("ALIQUOT_SIMGPU_HOST_BYTES", "ALIQUOT_SIMGPU_THREADS", "ALIQUOT_SIMGPU_ISA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """How the slice is made in which a suite runs."""

    every_card: bool = False
    """Whether it is of all cards of the machine; then it has no options."""
    options: tuple[str, ...] = ()
    """For `aliquot run`, besides its memory: `--compute 30%`."""
    neighbour: bool = False
    """Whether another slice keeps the card busy meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a process of a suite runs."""

    command: tuple[str, ...]
    """What the arguments of pytest are added to."""
    environment: Mapping[str, str]
    folder: Path
    """An empty working folder."""
    use: Path
    """Where `aliquot run` writes what a process used of its slice, once it has ended."""


@contextmanager
def surroundings(suite: Suite, inside: Inside | None = None) -> Iterator[Surroundings]:
    """A fresh simulated machine, gone afterwards; inside of a slice of it, if that is said.

    Raises `NotInstalledError` without native parts, `SuiteError` where the busy neighbour does not work.
    """
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        home = stack.enter_context(_folder(memory if memory.is_dir() else None))
        folder, apart = stack.enter_context(_folder()), stack.enter_context(_folder())
        environment = _environment(suite, home, folder, inside=inside is not None)
        if inside is not None and inside.neighbour:
            stack.enter_context(busy_neighbour(environment, apart))
        use = apart / "use.json"
        yield Surroundings(
            command=_command(suite, inside, use), environment=environment, folder=folder, use=use
        )


@contextmanager
def _folder(above: Path | None = None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="aliquot-conformance-", dir=above))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _environment(suite: Suite, home: Path, folder: Path, *, inside: bool) -> dict[str, str]:
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
    if inside:
        return base  # `aliquot run` arranges the rest
    return simulation.environment(base, driver=native.path("simgpu/libcuda.so.1"))


def _command(suite: Suite, inside: Inside | None, use: Path) -> tuple[str, ...]:
    """The same pytest inside and outside, so that nothing but the slice differs."""
    limited: tuple[str, ...] = ()
    if inside is not None and inside.every_card:
        limited = (sys.executable, str(_SLICE_OF_ALL), suite.slice_vram, str(use), "--")
    elif inside is not None:
        limited = (sys.executable, "-m", "aliquot", "run", "--simulate", "--quiet", "--json", str(use))
        limited += ("--vram", suite.slice_vram, *inside.options, "--")
    plugins = [part for plugin in ("conformance_recorder", *suite.plugins) for part in ("-p", plugin)]
    return (
        *limited,
        *(sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider"),
        *("-c", str(_INSIDE / "pytest.ini"), "--rootdir", str(suite.root), "--confcutdir", str(suite.root)),
        *plugins,
        *suite.arguments,
    )
