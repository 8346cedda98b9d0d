"""What a slice may use of its device."""

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
            raise InvalidValueError(
                "a share of no memory is none", hint="ask for at least a few MiB, e.g. 512Mi"
            )

    def check_fits(self, device: Device) -> None:
        """Raises `InvalidValueError` where the share is more than the whole device."""
        if self.vram > device.vram:
            raise InvalidValueError(
                f"{format_bytes(self.vram)} was asked for, and {device.name} has {format_bytes(device.vram)}",
                hint="ask for less, or choose another card with --device",
            )
