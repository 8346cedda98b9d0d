"""What a device is, as far as sharing it needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aliquot.errors import InvalidValueError
from aliquot.model.quantities import Bytes


class DeviceKind(StrEnum):
    """Whether work on the device runs on hardware or on this machine's processors."""

    REAL = "real"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A physical or simulated accelerator of this machine."""

    index: int
    """As the driver numbers it, from 0."""
    uuid: str
    """The vendor's form, e.g. `GPU-6f2c...`; stable over restarts."""
    name: str
    kind: DeviceKind
    vram: Bytes
    """All of its memory, in bytes."""
    vram_used: Bytes
    """Taken by all processes at the time of looking, in bytes."""
    utilisation: int
    """Percent of the last second for which its engine was busy."""

    def __post_init__(self) -> None:
        if self.index < 0 or self.vram <= 0 or self.vram_used < 0 or not 0 <= self.utilisation <= 100:
            raise InvalidValueError(f"a device cannot be like this: {self!r}")

    @property
    def vram_free(self) -> Bytes:
        """Bytes that nobody has taken. A driver may report more used than there is while it frees."""
        return Bytes(max(0, self.vram - self.vram_used))
