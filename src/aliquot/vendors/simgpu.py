"""The simulated machine, through the native program that knows its shared state.

The program is the only one that reads and writes that state; here its answers become data.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from aliquot import native
from aliquot.errors import AliquotError

PROGRAM: Final = "aliquot-simgpu"
"""The program that knows the machine's shared state."""
REGIONS: Final = "machine-*"
"""In the machine's home: what its processes have mapped, and its record beside it."""
_TIMEOUT_S: Final = 30


class SimulationError(AliquotError):
    """The simulated machine refused, with its own reason."""

    code = "simulation-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardState:
    """One simulated card. Sizes in bytes; `busy_ns` since the machine was made."""

    index: int
    uuid: str
    name: str
    model: str
    pci_bus_id: str
    compute_capability: str
    fp16_gflops: int
    vram_bytes: int
    vram_used_bytes: int
    utilisation_percent: int
    busy_ns: int
    mig: bool = False
    """Divided into instances, or about to be."""
    mps: bool = False
    """Processes overlap instead of taking turns."""
    timeslice_us: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """What the device itself saw one process do on one card. No tenant can write it. Sizes in bytes."""

    pid: int
    start_time: int
    """In clock ticks since boot: tells a reused pid apart."""
    command: str
    slice: str
    """The name of the slice that it ran on; empty without one."""
    card: int
    vram_bytes: int
    peak_vram_bytes: int
    busy_ns: int
    """Time for which it held the engine with work running."""
    launches: int
    copied_to_device: int
    copied_to_host: int
    copied_on_device: int
    running: bool
    gpu_instance: int | None = None
    compute_instance: int | None = None
    """Of the instance that it used (MIG); None for the card as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostBudget:
    """What all simulated VRAM may take of this host's memory, in bytes."""

    limit_bytes: int
    reserved_bytes: int
    reserved_by_user_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """The simulated machine of this environment."""

    home: str
    setting: str
    """Its cards as `set_cards` takes them, e.g. `h100:2,t4:4`."""
    cards: list[CardState]
    host_budget: HostBudget


def machine() -> MachineState:
    """The machine as it is now, made if it is not there. Raises `SimulationError` and `NotInstalledError`."""
    answer = query("show")
    return MachineState(
        home=answer["home"],
        setting=answer["setting"],
        cards=[CardState(**known(CardState, card)) for card in answer["cards"]],
        host_budget=HostBudget(**known(HostBudget, answer["host_budget"])),
    )


def processes(env: Mapping[str, str] | None = None) -> list[ProcessRecord]:
    """A record for each process and card: those that run, then those that ended; of the machine that `env`
    names, by default this process' own environment. Raises as `machine`."""
    answer = query("processes", env=env)
    living = [_record(entry, running=True) for entry in answer["live"]]
    # A process that ends while the program looks is in both lists; what it did is then in the second.
    ended = {
        _identity(record): record for record in (_record(each, running=False) for each in answer["departed"])
    }
    return [record for record in living if _identity(record) not in ended] + list(ended.values())


def gpu_time_ns(slice_name: str, records: Iterable[ProcessRecord] | None = None) -> int:
    """Time for which the processes of a slice held simulated cards with work running, in ns."""
    return sum(
        each.busy_ns for each in (processes() if records is None else records) if each.slice == slice_name
    )


def set_cards(cards: Sequence[str], *, force: bool = False) -> str:
    """Makes these the machine's cards, e.g. `["h100:2", "t4:4"]`; returns the setting in its normal form.

    Refused with `SimulationError` for an unknown model, and while processes use the machine unless `force`d.
    """
    return call("set", *cards, *(["--force"] if force else [])).strip()


def reset(*, force: bool = False) -> None:
    """Forgets all state of the machine. Refused while processes use it unless `force`d."""
    call("reset", *(["--force"] if force else []))


def models() -> str:
    """The models that can be simulated, a line each."""
    return call("models")


@dataclass(frozen=True, slots=True)
class Coverage:
    """One exported symbol of the driver API, and whether the simulated GPU implements it."""

    symbol: str
    family: str
    implemented: bool


def coverage() -> list[Coverage]:
    """Every symbol that the simulated driver exports. Raises `SimulationError` and `NotInstalledError`."""
    path = native.path("simgpu/libcuda.so.1")
    try:
        report = ctypes.CDLL(str(path)).aliquot_simgpu_coverage
    except (OSError, AttributeError) as error:
        raise SimulationError(f"{path} cannot be asked: {error}") from error
    with os.fdopen(os.memfd_create("coverage"), "r+b") as answer:
        if status := report(ctypes.c_int(answer.fileno())):
            raise SimulationError(f"the coverage cannot be read: {os.strerror(status)}")
        answer.seek(0)
        return [
            Coverage(entry["symbol"], entry["family"], entry["implemented"]) for entry in json.load(answer)
        ]


def query(*arguments: str, env: Mapping[str, str] | None = None) -> Any:
    """The answer of one of the program's JSON commands. Raises `SimulationError` and `NotInstalledError`."""
    text = call(*arguments, "--json", env=env)
    try:
        return json.loads(text)
    except ValueError as error:
        raise SimulationError(f"{PROGRAM} {' '.join(arguments)} printed no JSON: {error}") from error


def call(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What a command of the program prints. Raises `SimulationError` with its reason, `NotInstalledError`."""
    program = native.program(PROGRAM)
    try:
        done = subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=env,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SimulationError(f"{program.name} cannot be run: {error}") from error
    if done.returncode != 0:
        reason = done.stderr.strip().removeprefix("aliquot: ")
        raise SimulationError(reason or f"{program.name} {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def _record(entry: Mapping[str, Any], *, running: bool) -> ProcessRecord:
    return ProcessRecord(**known(ProcessRecord, entry), running=running)


def _identity(record: ProcessRecord) -> tuple[object, ...]:
    return record.pid, record.start_time, record.card, record.gpu_instance, record.compute_instance


def known(kind: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The members that this version knows: a newer program may say more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in entry.items() if name in names}
