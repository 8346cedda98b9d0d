"""What a slice may use of its device."""

from __future__ import annotations

from dataclasses import dataclass, field

from aliquot.errors import InvalidValueError
from aliquot.model.compute import ComputeRequest
from aliquot.model.devices import Device
from aliquot.model.qos import QosLevel
from aliquot.model.quantities import Bytes, format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a slice may use of its device."""

    vram: Bytes
    """The most that all its processes together may hold, in bytes; more than 0."""
    compute: ComputeRequest = field(default_factory=ComputeRequest)
    """What it is guaranteed of the card's time while others want it; by default an even part of what nobody
    asked for."""
    hard: bool = False
    """What it is guaranteed is also the most that it gets, even of an idle card."""
    qos: QosLevel | None = None
    """Its level of service; by default the catalogue's."""

    def __post_init__(self) -> None:
        if self.vram <= 0:
            raise InvalidValueError(
                "a share of no memory is none", hint="ask for at least a few MiB, e.g. 512Mi"
            )
        if self.hard and not self.compute.stated:
            raise InvalidValueError(
                "a hard share needs to know how much compute it is",
                hint="add --compute 30% or --tflops 20 to --hard",
            )

    def check_fits(self, device: Device) -> None:
        """Raises `InvalidValueError` where the share is more memory than the device has."""
        if self.vram > device.vram:
            raise InvalidValueError(
                f"{format_bytes(self.vram)} was asked for, and {device.name} has {format_bytes(device.vram)}",
                hint="ask for less, or choose another card with --device",
            )
