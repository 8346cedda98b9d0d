"""How the simulated machine's cards are shared, divided and broken, and what they recorded.

Through the same native program as `aliquot.vendors.simgpu`; every call raises `SimulationError` with the
machine's own reason, and `NotInstalledError` where the native parts are missing.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aliquot import native
from aliquot.vendors.simgpu import PROGRAM, SimulationError, call, known, query

ECC_LOCATIONS: Final = ("dram", "l2", "l1", "register-file", "sram")
"""Where an ECC error can be, by NVML's memory locations."""

THROTTLE_REASONS: Final = ("hw-thermal", "sw-thermal", "sw-power", "power-brake", "none")
"""Why clocks are held down: nvml.h, `nvmlClocksEventReasons`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigDevice:
    """An instance of a card, as CUDA sees it. Sizes in bytes."""

    uuid: str
    """`MIG-...`: what CUDA_VISIBLE_DEVICES takes."""
    name: str
    card: int
    gpu_instance: int
    compute_instance: int
    profile: str
    start: int
    """The memory slice at which its GPU instance begins."""
    compute_slices: int
    sm_count: int
    vram_bytes: int
    vram_used_bytes: int
    utilisation_percent: int
    busy_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyInterval:
    """A span in which one process had an engine, on CLOCK_MONOTONIC, as the card recorded it."""

    card: int
    unit: int
    """0 for the card itself, 1 plus the first slice for an instance of it (MIG)."""
    pid: int
    start_ns: int
    end_ns: int
    busy_ns: int
    overlaps: bool = False
    """Under MPS others may have run meanwhile."""
    command: str = ""
    slice: str = ""


def mig_devices(card: int | None = None) -> list[MigDevice]:
    """The instances of a card, or of all."""
    answer = query("mig", "list", *_device(card))
    return [MigDevice(**known(MigDevice, each)) for entry in answer for each in entry["devices"]]


def mig_modes() -> dict[int, bool]:
    """Whether each card is in MIG mode."""
    return {entry["card"]: entry["mig"] for entry in query("mig", "list")}


def set_mig_mode(enabled: bool, card: int = 0) -> None:
    """Refused while the card is in use."""
    call("mig", "on" if enabled else "off", *_device(card))


def create_mig_device(profile: str, card: int = 0, start: int | None = None) -> str:
    """Makes a GPU instance of a profile (its name or number) with one compute instance; returns the UUID."""
    where = [] if start is None else ["--start", str(start)]
    return call("mig", "create", profile, *where, *_device(card)).strip()


def destroy_mig_devices(card: int = 0, gpu_instance: int | None = None) -> None:
    """Of one GPU instance, or all of the card. Refused while processes use them."""
    which = ["--all"] if gpu_instance is None else ["--gpu-instance", str(gpu_instance)]
    call("mig", "destroy", *which, *_device(card))


def mig_profiles(card: int = 0) -> list[dict[str, Any]]:
    """Name, id, instances, remaining, memory_bytes and sm_count of each profile of the card's model."""
    return query("mig", "profiles", *_device(card))


def settings(kind: str) -> dict[int, str]:
    """`mps`, `timeslice` or `compute-mode` of each card."""
    key = kind.replace("-", "_")
    return {entry["card"]: entry[key] for entry in query(kind)}


def set_setting(kind: str, value: str, card: int | None = None) -> None:
    """`mps` on/off, `timeslice` 500us/default, `compute-mode` default/prohibited/exclusive-process."""
    call(kind, value, *_device(card))


def fault(*what: str, card: int = 0, **options: str | int | None) -> None:
    """Makes something go wrong with a card, e.g. `fault("xid", "79")`, `fault("ecc", "double", count=2)`."""
    given = [
        part
        for name, value in options.items()
        if value is not None
        for part in ("--" + name.replace("_", "-"), str(value))
    ]
    call("fault", *what, *given, *_device(card))


def fault_states(card: int | None = None) -> list[dict[str, Any]]:
    """What is wrong with each card, with its ECC counters."""
    return query("fault", "list", *_device(card))


def events(*, follow: bool = False, seconds: int | None = None) -> Iterator[dict[str, Any]]:
    """What the cards report, oldest first; with `follow` what comes, for so many seconds or until closed."""
    return _lines("events", *(["--follow"] if follow else []), *_seconds(seconds))


def record(card: int = 0, *, since_ns: int = 0) -> list[BusyInterval]:
    """What the card recorded since then (CLOCK_MONOTONIC), oldest first, runs that go on included."""
    text = call("record", "--since", str(since_ns), *_device(card))
    return [BusyInterval(**known(BusyInterval, entry)) for entry in json.loads(text)]


def follow_record(
    card: int = 0, *, since_ns: int = 0, seconds: int | None = None
) -> Iterator[BusyInterval | None]:
    """Intervals as they end; None where some were lost before they could be read."""
    for entry in _lines("record", "--follow", "--since", str(since_ns), *_seconds(seconds), *_device(card)):
        yield None if entry.get("gap") else BusyInterval(**known(BusyInterval, entry))


def _device(card: int | None) -> list[str]:
    return [] if card is None else ["--device", str(card)]


def _seconds(seconds: int | None) -> list[str]:
    return [] if seconds is None else ["--seconds", str(seconds)]


def _lines(*arguments: str) -> Iterator[dict[str, Any]]:
    program: Sequence[str] = [str(native.program(PROGRAM)), *arguments]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        try:
            for line in process.stdout:
                yield json.loads(line)
            reason = process.stderr.read().strip().removeprefix("aliquot: ")
        finally:
            process.terminate()
    if process.returncode > 0:
        raise SimulationError(reason or f"{PROGRAM} ended with {process.returncode}")
