"""What a slice may use and what it uses: data, no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLimit:
    """What a slice may use of one device."""

    vram_bytes: int
    """The most that all processes of the slice hold together."""
    device: int | str = 0
    """The card: its UUID as the driver and NVML spell it (`GPU-...`), or its number on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What processes did, counted since they attached to the slice."""

    launches: int
    """Kernels launched one by one; a graph's own are in `graph_launches` as one."""
    graph_launches: int
    copies: int
    copied_to_device_bytes: int
    copied_to_host_bytes: int
    copied_on_device_bytes: int
    """Between places on devices, and copies whose direction only the addresses tell (`cuMemcpy` and the
    like)."""
    allocations: int
    refused_allocations: int
    """Allocations that failed because of the slice's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUsage:
    """One device of a slice at one moment."""

    limit: DeviceLimit
    vram_used_bytes: int
    """What the living processes hold, by their own account."""
    vram_peak_bytes: int
    """The most that they held together since the slice was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """One living process of a slice."""

    pid: int
    """Its number in its own pid namespace."""
    start_ticks: int
    """When it started, in clock ticks since boot: tells a reused pid apart."""
    command: str
    vram_used_bytes: tuple[int, ...]
    """For each device of the slice, in the slice's order."""
    vram_peak_bytes: tuple[int, ...]
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceUsage:
    """A slice at one moment. `work` includes what processes that have ended did."""

    devices: tuple[DeviceUsage, ...]
    processes: tuple[ProcessUsage, ...]
    work: Work

    @property
    def vram_used_bytes(self) -> int:
        """What the living processes hold, over all devices."""
        return sum(device.vram_used_bytes for device in self.devices)

    @property
    def vram_peak_bytes(self) -> int:
        """The sum of the devices' peaks; for a slice of one device, its peak."""
        return sum(device.vram_peak_bytes for device in self.devices)
