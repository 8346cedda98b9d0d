"""A program's stay on a slice: made before it starts, measured while it runs, removed after it.

What a tenancy leaves behind when its maker is killed is found by the next one: its name says whose it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from aliquot.errors import AliquotError
from aliquot.limits import Slice, SliceAccessError
from aliquot.mechanisms import limiter
from aliquot.model import Bytes, Device, DeviceKind, Share
from aliquot.node import abandoned, arbiter, shares, simulation
from aliquot.node.broker import client
from aliquot.node.broker.wire import BrokerError, Create
from aliquot.node.cards import NoDeviceError
from aliquot.node.places import Place
from aliquot.vendors import nvidia, simgpu


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

    def __init__(
        self, device: Device, slice_: Slice, place: Place | None = None, *, lasting: bool = False
    ) -> None:
        """Use `prepare` or `join`. A `lasting` slice stays at the end."""
        self.device = device
        self.slice = slice_
        self.lasting = lasting
        self._brokered = isinstance(slice_, client.BrokeredSlice)
        self._settings = place.environment if place else {}
        self.arbiter = arbiter.Watch(slice_, start_one=not self._brokered)

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` changed so that a program, and what it starts, runs on this slice."""
        if self.device.kind is DeviceKind.SIMULATED:
            driver, _ = nvidia.simulated_driver()
            base = simulation.environment(self._with_machine(base), driver=driver)
        return limiter.environment(self.slice, base)

    def _with_machine(self, base: Mapping[str, str]) -> dict[str, str]:
        """The broker's simulated machine instead of the person's own."""
        own = client.PASSED_ON if self._brokered else ()
        return {**{name: value for name, value in base.items() if name not in own}, **self._settings}

    def _gpu_time_ns(self) -> int | None:
        if self.device.kind is not DeviceKind.SIMULATED:
            return None
        try:
            records = simgpu.processes(env=self._with_machine(os.environ))
        except simgpu.SimulationError:
            if not self._brokered:
                raise
            return None  # the machine's record may be closed to this person
        return simgpu.gpu_time_ns(self.slice.name, records)

    def look_after(self) -> None:
        """Has an arbiter started where the slice has lost its own; never fails. Called now and then."""
        with suppress(AliquotError):
            self.arbiter.look()

    def use(self) -> Use:
        """What has been used so far. Safe while programs run."""
        usage = self.slice.usage()
        return Use(
            vram_limit=Bytes(usage.devices[0].limit.vram_bytes),
            vram_used=Bytes(usage.vram_used_bytes),
            vram_peak=Bytes(usage.vram_peak_bytes),
            gpu_time_ns=self._gpu_time_ns(),
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
        if self.lasting:
            return
        with suppress(BrokerError):  # it removes what was left as soon as it is back
            self.slice.remove()


def join(slice_: Slice, place: Place) -> Tenancy:
    """A program on a slice that is there already, and stays. Raises `NoDeviceError` where its card is not."""
    uuid = str(slice_.limits()[0].device)
    for device in place.cards.devices:
        if uuid in (device.uuid, str(device.index)):
            return Tenancy(device, slice_, place, lasting=True)
    raise NoDeviceError(f"the card {uuid} of {slice_.name} is not here")


def prepare(device: Device, share: Share, *, number: int = 0, place: Place | None = None) -> Tenancy:
    """Makes the slice of `device` for a program of this process; `number` tells several of them apart.

    The machine's broker makes it where `place` says so. Raises `InvalidValueError` for a share that does not
    fit, and what `Slice.create` or the broker's `create` raises.
    """
    if place and place.brokered:
        return Tenancy(device, _ask_for(device, share, number=number), place)
    remove_abandoned()
    name = abandoned.name_for(os.getpid(), number) or ""
    return Tenancy(device, _make(device, share, name), place)


def create(device: Device, share: Share, *, place: Place, name: str, owner: int | None = None) -> Slice:
    """Makes a slice that stays until it is removed. `owner` is the uid whose it becomes, by default one's
    own; another's needs root and the machine's broker. Raises as `prepare`, and `SliceAccessError`."""
    if place.brokered:
        return _ask_for(device, share, name=name, owner=owner)
    if owner not in (None, os.getuid()):
        raise SliceAccessError(
            "slices of other people are made by this machine's broker, and it has none",
            hint="start one as root: aliquot broker",
        )
    return _make(device, share, name)


def _make(device: Device, share: Share, name: str) -> Slice:
    share.check_fits(device)
    driver, nvml = nvidia.simulated_driver() if device.kind is DeviceKind.SIMULATED else (None, None)
    part = shares.part_of(device, share.compute)
    return Slice.create(
        vram_bytes=share.vram,
        device=device.uuid,
        compute=part,
        compute_limit=shares.ceiling(part, hard=share.hard),
        qos=share.qos,
        driver=driver,
        nvml=nvml,
        name=name,
    )


def _ask_for(
    device: Device, share: Share, *, name: str = "", owner: int | None = None, number: int = 0
) -> Slice:
    share.check_fits(device)
    part = shares.part_of(device, share.compute)
    return client.create(
        Create(
            device=device.uuid,
            vram_bytes=share.vram,
            compute=part,
            compute_limit=shares.ceiling(part, hard=share.hard),
            qos=share.qos.name if share.qos else "",
            name=name,
            owner=owner,
            number=number,
        )
    )


def remove_abandoned() -> None:
    """Removes slices of ours whose maker is dead and on which nothing runs any more."""
    for slice_ in Slice.all():
        with suppress(AliquotError):  # another one may be removing it at the same time
            if abandoned.is_abandoned(slice_):
                slice_.remove()
