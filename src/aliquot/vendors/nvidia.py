"""NVIDIA: which cards are on the bus, which of them work, and which are simulated.

A card can be on the PCI bus with no driver, or with one that fails. Those are told apart here, because
running on a simulated card in place of one that is broken would hide the fault.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from aliquot import native
from aliquot.errors import NotInstalledError
from aliquot.model import Bytes, Device, DeviceKind
from aliquot.vendors import nvml, simgpu

_PCI_VENDOR: Final = 0x10DE
_PCI_CLASS_DISPLAY: Final = (
    0x03  # VGA 0x0300 and 3D controllers 0x0302 (PCI Code and ID Assignment, base class 03h)
)
_SIMULATED: Final = "(simulated)"
_NVML: Final = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class RealCards:
    """What this machine has in hardware: cards that work, and the fault where the driver does not."""

    devices: list[Device] = field(default_factory=list[Device])
    on_bus: list[str] = field(default_factory=list[str])
    """PCI addresses of NVIDIA display devices, e.g. `0000:3b:00.0`."""
    fault: str = ""
    """Why the driver cannot be used; empty where it can, or where there is nothing to drive."""
    driver: str = ""
    """The driver's version where it works."""


def find_real_cards(*, bus: Path = Path("/sys/bus/pci/devices"), nodes: Path = Path("/dev")) -> RealCards:
    """Looks at the bus, the device files and the driver's library. Faults are in the answer, never raised."""
    on_bus = _cards_on_bus(bus)
    try:
        with nvml.opened(_NVML) as library:
            readings, driver = library.readings(), library.driver_version()
    except nvml.NvmlError as error:
        return RealCards(on_bus=on_bus, fault=error.reason if on_bus else "")
    # Inside `aliquot run --simulate` the loader answers with the simulated library.
    real = [_device(reading) for reading in readings if not reading.name.endswith(_SIMULATED)]
    if real and (missing := _missing_nodes(nodes)):
        return RealCards(on_bus=on_bus, fault=f"{missing} cannot be opened by this user")
    if on_bus and not real:
        return RealCards(on_bus=on_bus, fault="the driver's library answers, and shows no card")
    return RealCards(devices=real, on_bus=on_bus, driver=driver if real else "")


def find_simulated_cards() -> list[Device]:
    """The cards of this environment's simulated machine. Raises `NotInstalledError` or `NvmlError`."""
    with nvml.opened(str(native.path(f"simgpu/{_NVML}"))) as library:
        return [_device(reading) for reading in library.readings()]


def simulated_driver() -> tuple[Path, Path]:
    """The simulated libcuda.so.1 and libnvidia-ml.so.1. Raises `NotInstalledError`."""
    return native.path("simgpu/libcuda.so.1"), native.path(f"simgpu/{_NVML}")


def nvml_library(kind: DeviceKind) -> str:
    """The NVML of real cards, by name for the loader, or of simulated ones. Raises `NotInstalledError`."""
    return _NVML if kind is DeviceKind.REAL else str(simulated_driver()[1])


@dataclass(frozen=True, slots=True)
class DriverFiles:
    """What whoever is on a card has open or mapped."""

    majors: frozenset[int] = frozenset()
    """Of character devices, whatever they are called."""
    files: frozenset[tuple[int, int]] = frozenset()
    """By device and inode."""
    prefixes: tuple[bytes, ...] = ()
    """Of the paths of device files, which a mapping shows."""


def driver_files(kind: DeviceKind, *, devices: Path = Path("/proc/devices")) -> DriverFiles:
    """Of real cards the driver's devices, by the kernel's list of drivers (proc(5), /proc/devices); of
    simulated ones the machine's shared file.

    Raises `SimulationError` and `NotInstalledError`.
    """
    if kind is DeviceKind.REAL:
        return DriverFiles(majors=_majors(devices), prefixes=(b"/dev/nvidia", b"/dev/dxg"))
    found = [each.stat() for each in _simulated_home().glob(simgpu.REGIONS)]
    return DriverFiles(files=frozenset((each.st_dev, each.st_ino) for each in found))


@cache
def _simulated_home() -> Path:
    return Path(simgpu.machine().home)


def has_simulation() -> bool:
    """Whether the simulated GPU is installed."""
    try:
        simulated_driver()
    except NotInstalledError:
        return False
    return True


def _majors(devices: Path) -> frozenset[int]:
    """NVIDIA's own, and that of the Windows subsystem's device, which is one of the miscellaneous ones."""
    try:
        lines = devices.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    fields = (line.split() for line in lines)
    wanted = ("nvidia", "misc") if Path("/dev/dxg").exists() else ("nvidia",)
    return frozenset(
        int(each[0]) for each in fields if len(each) == 2 and each[0].isdigit() and each[1].startswith(wanted)
    )


def _cards_on_bus(bus: Path) -> list[str]:
    if not bus.is_dir():
        return []
    return sorted(entry.name for entry in bus.iterdir() if _is_card(entry))


def _is_card(entry: Path) -> bool:
    vendor, device_class = _hexadecimal(entry / "vendor"), _hexadecimal(entry / "class")
    return vendor == _PCI_VENDOR and device_class >> 16 == _PCI_CLASS_DISPLAY


def _hexadecimal(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii").strip(), 16)
    except (OSError, ValueError):
        return 0


def _missing_nodes(nodes: Path) -> str:
    """The first device file that the driver needs and this user may not open; empty where all is well.

    /dev/dxg is the one that the Windows subsystem has in place of the others.
    """
    if (nodes / "dxg").exists():
        return ""
    needed = nodes / "nvidiactl"
    return "" if os.access(needed, os.R_OK | os.W_OK) else str(needed)


def _device(reading: nvml.Reading) -> Device:
    return Device(
        index=reading.index,
        uuid=reading.uuid,
        name=reading.name,
        kind=DeviceKind.SIMULATED if reading.name.endswith(_SIMULATED) else DeviceKind.REAL,
        vram=Bytes(reading.memory_total),
        vram_used=Bytes(reading.memory_used),
        utilisation=reading.utilisation,
    )
