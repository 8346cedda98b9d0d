"""A share of one device, and what was used of it."""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.errors import InvalidValueError
from aliquot.model.devices import Device
from aliquot.model.quantities import Bytes, format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a slice may use of its device."""

    vram: Bytes
    """The most that all its processes together may hold, in bytes; more than 0."""

    def __post_init__(self) -> None:
        if self.vram <= 0:
            raise InvalidValueError("a share of no memory is none", hint="ask for at least a few MiB, e.g. 512Mi")

    def check_fits(self, device: Device) -> None:
        """Raises `InvalidValueError` where the share is more than the whole device."""
        if self.vram > device.vram:
            raise InvalidValueError(
                f"{format_bytes(self.vram)} was asked for, and {device.name} has {format_bytes(device.vram)}",
                hint="ask for less, or choose another card with --device",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceUse:
    """What the programs of a slice used, from its beginning to the time of looking."""

    vram_limit: Bytes
    vram_peak: Bytes
    gpu_time_ns: int
    """Time for which a program of the slice held the engine with work running."""
    launches: int
    copied_to_device: Bytes
    copied_to_host: Bytes
    copied_on_device: Bytes

    def __post_init__(self) -> None:
        counters = (self.vram_peak, self.gpu_time_ns, self.launches, self.copied_to_device, self.copied_to_host)
        if self.vram_limit <= 0 or min(*counters, self.copied_on_device) < 0:
            raise InvalidValueError(f"use cannot be negative: {self!r}")
