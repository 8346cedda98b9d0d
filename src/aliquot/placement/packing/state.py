"""The numeric state in its slow, obvious form: the oracle that the compiled core is held against.

Free amounts only; every change raises the node's version. Nothing here prefers one node to another: that is
`aliquot.placement.strategies`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aliquot.errors import InvalidValueError
from aliquot.placement.demand import Demand
from aliquot.placement.packing.shapes import DeviceShape, DoesNotFitError, NodeShape, Placement

if TYPE_CHECKING:
    from aliquot.placement.strategies.mix import Mix
    from aliquot.placement.strategies.scorer import Scorer
    from aliquot.placement.strategies.strategy import Strategy


@dataclass(frozen=True, slots=True)
class Reservation:
    """A placement that holds its room. `committed` says that the grant behind it is durable."""

    placement: Placement
    committed: bool = False


class Packing:
    """What is free on each node, and the placements that hold the rest."""

    def __init__(self, nodes: Iterable[NodeShape] = ()) -> None:
        self._capacity: list[NodeShape] = []
        self._versions: list[int] = []
        self._first_device: list[int] = [0]
        self._reservations: dict[int, Reservation] = {}
        self._next_handle = 1
        self._begin()
        for node in nodes:
            self.add_node(node)

    # --- what there is

    def add_node(self, shape: NodeShape) -> int:
        """Adds an empty node; returns its number. Numbers ascend from 0 and are never used again."""
        self._add_room(shape)
        self._capacity.append(shape)
        self._versions.append(0)
        self._first_device.append(self._first_device[-1] + len(shape.devices))
        return len(self._capacity) - 1

    @property
    def node_count(self) -> int:
        """How many nodes were added."""
        return len(self._capacity)

    @property
    def device_count(self) -> int:
        """Devices of all nodes: the length of a device mask."""
        return self._first_device[-1]

    def first_device(self, node: int) -> int:
        """Where the node's devices begin in a device mask."""
        return self._first_device[node]

    def capacity(self, node: int) -> NodeShape:
        """What the node has when it is empty."""
        return self._capacity[node]

    def free(self, node: int) -> NodeShape:
        """What is free on the node now."""
        return self._free[node]

    def version(self, node: int) -> int:
        """Rises with each change of the node."""
        return self._versions[node]

    def reservation(self, handle: int) -> Reservation:
        """The reservation behind a handle. Raises `InvalidValueError` for one that is not held."""
        if handle not in self._reservations:
            raise InvalidValueError(f"no reservation has the handle {handle}")
        return self._reservations[handle]

    def reservations(self) -> dict[int, Reservation]:
        """All that is held, by handle (a copy)."""
        return dict(self._reservations)

    # --- whether something fits

    def fits(self, demand: Demand, node: int, device_mask: bytes | None = None) -> bool:
        """Whether the node has room for the demand. `device_mask` has one byte per device of all nodes."""
        free = self.free(node)
        if demand.cpu_milli > free.cpu_milli or demand.memory_mib > free.memory_mib:
            return False
        if not demand.count:
            return True
        return any(
            len(self.fitting_devices(demand, node, share.model, device_mask)) >= demand.count
            for share in demand.shares
        )

    def fitting_devices(
        self, demand: Demand, node: int, model: int, device_mask: bytes | None = None
    ) -> list[int]:
        """Indices of the node's devices of that model that have room for one share each, ascending."""
        share = demand.share_of(model)
        first = self._first_device[node]
        if share is None:
            return []
        return [
            index
            for index, device in enumerate(self.free(node).devices)
            if device.model == model
            and device.compute_milli >= share.compute_milli
            and device.vram_mib >= share.vram_mib
            and (device_mask is None or device_mask[first + index])
        ]

    def feasible(
        self, demand: Demand, node_mask: bytes | None = None, device_mask: bytes | None = None
    ) -> list[int]:
        """The nodes that have room, ascending. `node_mask` has one byte per node; 0 leaves it out."""
        return [
            node
            for node in range(self.node_count)
            if (node_mask is None or node_mask[node]) and self.fits(demand, node, device_mask)
        ]

    # --- taking and giving back

    def reserve(self, placement: Placement) -> int:
        """Takes the room; returns a handle. Raises `DoesNotFitError`, and then nothing changed."""
        self._take(placement)
        self._versions[placement.node] += 1
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self._reservations[handle] = Reservation(placement)
        return handle

    def commit(self, handle: int) -> None:
        """Notes that the grant is durable; nothing in the numbers changes. Idempotent."""
        self._reservations[handle] = replace(self.reservation(handle), committed=True)

    def release(self, handle: int) -> Placement:
        """Gives the room back; returns where it was."""
        placement = self.reservation(handle).placement
        del self._reservations[handle]
        self._give(placement)
        self._versions[placement.node] += 1
        return placement

    def resize(self, handle: int, demand: Demand) -> None:
        """Lets it hold `demand` on the same devices. Raises `DoesNotFitError`, and then nothing changed."""
        held = self.reservation(handle)
        moved = Placement(demand, held.placement.node, held.placement.devices)
        self._give(held.placement)
        try:
            self._take(moved)
        except DoesNotFitError:
            self._take(held.placement)
            raise
        self._versions[moved.node] += 1
        self._reservations[handle] = Reservation(moved, held.committed)

    def scorer(self, by: Strategy | str = "default", *, mix: Mix | None = None, seed: int = 0) -> Scorer:
        """What chooses on this state by a strategy; `mix` is learned where none is given."""
        from aliquot.placement.strategies.scorer import Scorer  # it stands above this package

        return Scorer(self, by, mix=mix, seed=seed)

    def copy(self) -> Packing:
        """The same state, independent of this one: for asking what would happen."""
        other = Packing.__new__(Packing)
        self._copy_into(other)
        other._free = list(self._free)
        return other

    def _copy_into(self, other: Packing) -> None:
        other._capacity, other._versions = list(self._capacity), list(self._versions)
        other._first_device = list(self._first_device)
        other._reservations, other._next_handle = dict(self._reservations), self._next_handle

    # --- where the room itself is kept: the compiled form keeps it elsewhere

    def _begin(self) -> None:
        self._free: list[NodeShape] = []

    def _add_room(self, shape: NodeShape) -> None:
        self._free.append(shape)

    def _take(self, placement: Placement) -> None:
        self._free[placement.node] = taken(self._free[placement.node], placement)

    def _give(self, placement: Placement) -> None:
        self._free[placement.node] = given_back(self._free[placement.node], placement)


def taken(free: NodeShape, placement: Placement) -> NodeShape:
    """What is left on a node after the placement. Raises `DoesNotFitError`."""
    return _changed(free, placement, -1)


def given_back(free: NodeShape, placement: Placement) -> NodeShape:
    """What is free on a node once the placement has gone."""
    return _changed(free, placement, 1)


def _changed(free: NodeShape, placement: Placement, sign: int) -> NodeShape:
    demand, chosen = placement.demand, placement.devices
    if len(set(chosen)) != demand.count or len(chosen) != demand.count:
        raise DoesNotFitError(f"{demand.count} devices are asked for, {len(set(chosen))} were named")
    if any(index not in range(len(free.devices)) for index in chosen):
        raise DoesNotFitError(f"the node has {len(free.devices)} devices")
    devices = list(free.devices)
    for index in chosen:
        device = devices[index]
        share = demand.share_of(device.model)
        if share is None:
            raise DoesNotFitError(f"device {index} is of a model that is not acceptable")
        devices[index] = DeviceShape(
            device.model,
            device.compute_milli + sign * share.compute_milli,
            device.vram_mib + sign * share.vram_mib,
        )
    cpu, memory = free.cpu_milli + sign * demand.cpu_milli, free.memory_mib + sign * demand.memory_mib
    if min(cpu, memory, *(min(device[1:]) for device in devices), 0) < 0:
        raise DoesNotFitError("the node has not enough free")
    return NodeShape(cpu, memory, tuple(devices))
