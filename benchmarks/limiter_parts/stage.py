"""Where the benchmark happens: drivers, slices, and environments in which a program is bare or limited.

What a limited program runs under is this project's limiter, or any other library that is preloaded: the same
drivers, the same programs, the same judge.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aliquot import native
from aliquot.bench import BenchmarkUnavailable, native_program
from aliquot.catalog import qos_level
from aliquot.errors import AliquotError, NotInstalledError
from aliquot.limits import Slice
from aliquot.mechanisms import limiter
from aliquot.model import UNSTATED, Device, percent
from aliquot.node import arbiter, simulation
from aliquot.vendors import nvidia

from .options import Options

Driver = Literal["null", "card"]
_OURS = ("ALIQUOT_SLICE", "ALIQUOT_SIMGPU", "LD_PRELOAD", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a slice of the benchmark gets of its card."""

    percent: float = 0.0
    """Of the card's time; 0 asks for none."""
    hard: bool = False
    qos: str = "medium"
    vram_bytes: int = 1 << 40
    """By default so much that no allocation is refused."""


class Place:
    """A slice, or its like under another library: the environment of its programs."""

    def __init__(self, environment: Mapping[str, str], slice_: Slice | None) -> None:
        self.environment = environment
        self.slice = slice_


class Stage:
    """A fresh folder of slices and a fresh simulated machine; `opened` makes and removes them."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.slices = folder / "slices"
        self.card = _real_card() if options.real else None
        """The real card; without one a simulated machine is used."""
        self.machine = folder / "machine"
        self.machine.mkdir()
        base = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        self.base = {**base, "ALIQUOT_SIMGPU_HOME": str(self.machine)}
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        self.system = {**base, **kept}
        """On a real card what the person has set for the loader stays."""

    @property
    def ours(self) -> bool:
        """Whether this project's limiter is measured."""
        return self.options.preload is None

    @property
    def has_record(self) -> bool:
        """Whether the card writes down who had it: a real one does not."""
        return self.card is None

    def driver(self, which: Driver) -> Path | None:
        """The libcuda.so.1; None where it is the system's. Raises `BenchmarkUnavailable`."""
        if which == "card":
            return None if self.card else native.path("simgpu/libcuda.so.1")
        # It is never installed; the program beside it in the build tree shows where that is.
        folder = native_program("limiter-storm").parent / "null_driver"
        if not (found := folder / "libcuda.so.1").is_file():
            raise BenchmarkUnavailable("the driver that returns at once is not built", hint="make native")
        return found

    def bare(self, which: Driver) -> dict[str, str]:
        """The environment of a program that reaches the driver directly."""
        if (driver := self.driver(which)) is None:
            return self.system
        if which == "card":
            return simulation.environment(self.base, driver=driver)
        return {**self.base, "LD_LIBRARY_PATH": str(driver.parent)}

    @contextmanager
    def place(self, which: Driver, part: Part, name: str = "") -> Iterator[Place]:
        """A slice on a driver, under whatever is measured."""
        bare = self.bare(which)
        if self.options.preload:
            yield Place(
                {**bare, "LD_PRELOAD": str(self.options.preload), **self._variables(part, name)}, None
            )
            return
        simulated = which == "card" and self.card is None
        nvml = native.path("simgpu/libnvidia-ml.so.1") if simulated else None
        request = percent(part.percent)
        with Slice.create(
            vram_bytes=part.vram_bytes,
            compute=request,
            compute_limit=request if part.hard else UNSTATED,
            qos=qos_level(part.qos),
            driver=self.driver(which),
            nvml=nvml,
            name=name,
            home=self.slices,
            device=self._device(which),
        ) as made:
            yield Place(limiter.environment(made, bare), made)

    def ensure_arbiter(self, slice_: Slice | None) -> None:
        """Has the slices' cards lent in turns. Raises `BenchmarkUnavailable` where nobody does."""
        if slice_ is None:
            return
        try:
            arbiter.Watch(slice_).ensure()
        except AliquotError as error:
            raise BenchmarkUnavailable(error.reason, hint=error.hint) from error

    def tool(self, *arguments: str) -> list[str]:
        """A command of the program that knows the simulated machine."""
        return [str(native.program("aliquot-simgpu")), *arguments]

    def _device(self, which: Driver) -> int | str:
        if which == "null":
            return 0
        if self.card:
            return self.card.uuid
        answer = subprocess.run(
            [*self.tool("show"), "--json"],
            env=self.base,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return json.loads(answer.stdout)["cards"][0]["uuid"]

    def _variables(self, part: Part, name: str) -> dict[str, str]:
        """The person's KEY=VALUE, in which {percent}, {vram} and {name} stand for the slice's."""
        values = {"percent": f"{part.percent:g}", "vram": str(part.vram_bytes), "name": name}
        return {key: value.format(**values) for key, value in self.options.env}


def _real_card() -> Device:
    found = nvidia.find_real_cards()
    if not found.devices:
        raise BenchmarkUnavailable(found.fault or "this machine has no card", hint="leave --real out")
    return found.devices[0]


@contextmanager
def opened(options: Options) -> Iterator[Stage]:
    """The stage; what it made is gone afterwards. Raises `BenchmarkUnavailable` where parts are missing."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="aliquot-bench-", dir=base))
    try:
        yield Stage(options, folder)
    except NotInstalledError as error:
        raise BenchmarkUnavailable(error.reason, hint=error.hint) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
