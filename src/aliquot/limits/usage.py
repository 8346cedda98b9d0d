"""What a slice may use and what it uses: data, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.model import UNSTATED, Ppm


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLimit:
    """What a slice may use of one device."""

    vram_bytes: int
    """The most that all processes of the slice hold together."""
    device: int | str = 0
    """The card: its UUID as the driver and NVML spell it (`GPU-...`), or its number on this machine."""
    compute_request_ppm: Ppm = UNSTATED
    """The part of the card that is guaranteed while others want it; 0 asks for none, and shares evenly with
    its like what nobody asked for."""
    compute_limit_ppm: Ppm = UNSTATED
    """The most that it gets, even of an idle card; 0 is no ceiling."""


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
    held_ns: int
    """For so long the card was at the slice's disposal, gaps included: the arbiter's count."""
    waited_ns: int
    """For so long it wanted the card and had no turn: the neighbours worked, or its ceiling was reached."""
    turns: int
    """How many turns of the card it had."""
    share_ppm: Ppm
    """Its part of the card as long as all who want it now go on."""
    has_turn: bool
    """It may begin work at this moment."""
    contended: bool
    """Others want the card at this moment."""
    gpu_ns: int
    """For so long the device worked for its processes, by their own account; the dead included until another
    process takes their place."""
    held_back_ns: int
    """For so long calls of its processes were held back, summed over threads: their own account, too."""


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
    gpu_ns: tuple[int, ...]
    """For so long each device worked for it, overlaps counted once."""
    held_back_ns: tuple[int, ...]
    """For so long its calls were held back, summed over threads."""
    in_flight_ns: tuple[int, ...]
    """Work that it sent to each device and that is not known to have ended, in predicted device time."""
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Arbiter:
    """Who lends the slice its cards."""

    epoch: int
    """Grows when an arbiter begins; 0 says that there was none yet."""
    alive: bool
    """It gave a sign of life within the last half second. Without one, programs go on under the last
    grant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceUsage:
    """A slice at one moment. `work` includes what processes that have ended did."""

    devices: tuple[DeviceUsage, ...]
    processes: tuple[ProcessUsage, ...]
    work: Work
    arbiter: Arbiter

    @property
    def vram_used_bytes(self) -> int:
        """What the living processes hold, over all devices."""
        return sum(device.vram_used_bytes for device in self.devices)

    @property
    def vram_peak_bytes(self) -> int:
        """The sum of the devices' peaks; for a slice of one device, its peak."""
        return sum(device.vram_peak_bytes for device in self.devices)
