"""A program's stay on a slice: made before it starts, measured while it runs, removed after it.

What a tenancy leaves behind when its maker is killed is found by the next one: its name says whose it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aliquot.errors import AliquotError
from aliquot.limits import Slice
from aliquot.mechanisms import limiter
from aliquot.model import Bytes, Device, DeviceKind, Share
from aliquot.node import arbiter, shares, simulation
from aliquot.vendors import nvidia, simgpu

_NAME = re.compile(r"run-(?P<pid>[0-9]+)-(?P<start>[0-9]+)(-[0-9]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What the programs of a slice used so far. Sizes in bytes."""

    vram_limit: Bytes
    vram_used: Bytes
    vram_peak: Bytes
    gpu_time_ns: int | None
    """Time for which they held the card with work running, by the device's own record; None without one."""
    held_back_ns: int
    """Time for which their calls were held back, summed over threads: what sharing the card cost them."""
    waited_ns: int
    """Time for which they wanted the card and had no turn, as the arbiter counts it."""
    launches: int
    copied_to_device: Bytes
    copied_to_host: Bytes
    copied_on_device: Bytes
    refused_allocations: int
    """Allocations that failed because of the limit."""


class Tenancy:
    """A slice of one device, and how a program gets it. A context manager, which removes it at the end."""

    def __init__(self, device: Device, slice_: Slice) -> None:
        """Use `prepare`."""
        self.device = device
        self.slice = slice_
        self.arbiter = arbiter.Watch(slice_)

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` changed so that a program, and what it starts, runs on this slice."""
        if self.device.kind is DeviceKind.SIMULATED:
            driver, _ = nvidia.simulated_driver()
            base = simulation.environment(base, driver=driver)
        return limiter.environment(self.slice, base)

    def look_after(self) -> None:
        """Has an arbiter started where the slice has lost its own; never fails. Called now and then."""
        with suppress(AliquotError):
            self.arbiter.look()

    def use(self) -> Use:
        """What has been used so far. Safe while programs run."""
        usage = self.slice.usage()
        simulated = self.device.kind is DeviceKind.SIMULATED
        return Use(
            vram_limit=Bytes(usage.devices[0].limit.vram_bytes),
            vram_used=Bytes(usage.vram_used_bytes),
            vram_peak=Bytes(usage.vram_peak_bytes),
            gpu_time_ns=simgpu.gpu_time_ns(self.slice.name) if simulated else None,
            held_back_ns=usage.devices[0].held_back_ns,
            waited_ns=usage.devices[0].waited_ns,
            launches=usage.work.launches + usage.work.graph_launches,
            copied_to_device=Bytes(usage.work.copied_to_device_bytes),
            copied_to_host=Bytes(usage.work.copied_to_host_bytes),
            copied_on_device=Bytes(usage.work.copied_on_device_bytes),
            refused_allocations=usage.work.refused_allocations,
        )

    def __enter__(self) -> Tenancy:
        return self

    def __exit__(self, *_: object) -> None:
        self.slice.remove()


def prepare(device: Device, share: Share, *, number: int = 0) -> Tenancy:
    """Makes the slice of `device` for a program of this process; `number` tells several of them apart.

    Raises `InvalidValueError` for a share that does not fit, and what `Slice.create` raises.
    """
    share.check_fits(device)
    remove_abandoned()
    driver, nvml = nvidia.simulated_driver() if device.kind is DeviceKind.SIMULATED else (None, None)
    part = shares.part_of(device, share.compute)
    slice_ = Slice.create(
        vram_bytes=share.vram,
        device=device.uuid,
        compute=part,
        compute_limit=shares.ceiling(part, hard=share.hard),
        qos=share.qos,
        driver=driver,
        nvml=nvml,
        name=f"run-{os.getpid()}-{_start_ticks(os.getpid())}" + (f"-{number}" if number else ""),
    )
    return Tenancy(device, slice_)


def remove_abandoned() -> None:
    """Removes slices of ours whose maker is dead and on which nothing runs any more."""
    for slice_ in Slice.all():
        if _is_abandoned(slice_.name):
            # Another one may be removing it at the same time, and a damaged one is not ours to judge.
            with suppress(AliquotError):
                if not slice_.usage().processes:
                    slice_.remove()


def _is_abandoned(name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and _start_ticks(int(match["pid"])) != int(match["start"])


def _start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); -1 where it is gone."""
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
        return int(content.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1
