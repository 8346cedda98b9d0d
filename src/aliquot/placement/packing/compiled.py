"""The numeric state in the compiled core: the same methods and results as `Packing`, only much faster."""

from __future__ import annotations

from ctypes import byref, c_int32, c_uint8, c_uint32
from typing import TYPE_CHECKING, Any

from aliquot.errors import AliquotError, InvalidValueError
from aliquot.placement.demand import Demand
from aliquot.placement.packing import core
from aliquot.placement.packing.shapes import DeviceShape, DoesNotFitError, NodeShape, Placement
from aliquot.placement.packing.state import Packing

if TYPE_CHECKING:
    from aliquot.placement.strategies.compiled import CompiledScorer
    from aliquot.placement.strategies.mix import Mix
    from aliquot.placement.strategies.strategy import Strategy


class CoreHandle:
    """Owns one object of the core and deletes it when nobody refers to it any more."""

    __slots__ = ("_delete", "value")

    def __init__(self, value: int | None, delete: Any) -> None:
        if not value:
            raise AliquotError("the placement core ran out of memory, or refused")
        self.value = value
        self._delete = delete

    def __del__(self) -> None:
        if value := getattr(self, "value", None):
            self._delete(value)


class CompiledPacking(Packing):
    """Reservations are kept here, room in the core. Raises `NotInstalledError` where there is no core."""

    def _begin(self) -> None:
        library = core.library()
        self._library = library
        self._handle = CoreHandle(library.aliquot_cluster_new(), library.aliquot_cluster_delete)
        self._numbers: dict[Demand, int] = {}

    @property
    def core_handle(self) -> int:
        """The core's own handle, for its scorers."""
        return self._handle.value

    def number_of(self, demand: Demand) -> int:
        """The core's number of a demand."""
        number = self._numbers.get(demand)
        if number is None:
            shares, made = core.amounts(demand.shares), c_uint32()
            status = self._library.aliquot_cluster_demand(
                self._handle.value,
                demand.cpu_milli,
                demand.memory_mib,
                demand.count,
                shares,
                len(demand.shares),
                byref(made),
            )
            check(status)
            number = self._numbers[demand] = made.value
        return number

    def free(self, node: int) -> NodeShape:
        """What is free on the node now."""
        count = len(self.capacity(node).devices)
        cpu, memory, devices = c_int32(), c_int32(), (core.Amounts * max(1, count))()
        check(
            self._library.aliquot_cluster_free(
                self._handle.value, node, byref(cpu), byref(memory), devices, count
            )
        )
        shapes = (DeviceShape(device.model, device.milli, device.vram) for device in devices[:count])
        return NodeShape(cpu.value, memory.value, tuple(shapes))

    def feasible(
        self, demand: Demand, node_mask: bytes | None = None, device_mask: bytes | None = None
    ) -> list[int]:
        """The nodes that have room, ascending. `node_mask` has one byte per node; 0 leaves it out."""
        self.check_masks(node_mask, device_mask)
        found = (c_uint8 * max(1, self.node_count))()
        check(
            self._library.aliquot_cluster_feasible(
                self._handle.value, self.number_of(demand), node_mask, device_mask, found
            )
        )
        return [node for node, each in enumerate(bytes(found)[: self.node_count]) if each]

    def check_masks(self, node_mask: bytes | None, device_mask: bytes | None) -> None:
        """Raises `InvalidValueError` where a mask has not one byte each."""
        for mask, count in ((node_mask, self.node_count), (device_mask, self.device_count)):
            if mask is not None and len(mask) != count:
                raise InvalidValueError(f"a mask has {count} bytes here, not {len(mask)}")

    def scorer(
        self, by: Strategy | str = "default", *, mix: Mix | None = None, seed: int = 0
    ) -> CompiledScorer:
        """What chooses on this state by a strategy; `mix` is learned where none is given."""
        from aliquot.placement.strategies.compiled import CompiledScorer  # it stands above this package

        return CompiledScorer(self, by, mix=mix, seed=seed)

    def copy(self) -> CompiledPacking:
        """The same state, independent of this one: for asking what would happen."""
        other = CompiledPacking.__new__(CompiledPacking)
        self._copy_into(other)
        other._library, other._numbers = self._library, self._numbers
        other._handle = CoreHandle(
            self._library.aliquot_cluster_copy(self._handle.value), self._library.aliquot_cluster_delete
        )
        return other

    def take_again(self, placement: Placement) -> None:
        """Takes room that no reservation holds. Raises `DoesNotFitError`. For simulations."""
        self._take(placement)

    def give_back(self, demand: Demand, node: int, bits: int) -> None:
        """Undoes what a scorer's `place` took, which no reservation holds. For simulations."""
        check(self._library.aliquot_cluster_give(self._handle.value, self.number_of(demand), node, bits))

    def _add_room(self, shape: NodeShape) -> None:
        check(
            self._library.aliquot_cluster_add_node(
                self._handle.value,
                shape.cpu_milli,
                shape.memory_mib,
                core.amounts(shape.devices),
                len(shape.devices),
            )
        )

    def _take(self, placement: Placement) -> None:
        self._change(self._library.aliquot_cluster_take, placement)

    def _give(self, placement: Placement) -> None:
        self._change(self._library.aliquot_cluster_give, placement)

    def _change(self, function: Any, placement: Placement) -> None:
        bits = 0
        for index in placement.devices:
            bits |= 1 << index
        check(function(self._handle.value, self.number_of(placement.demand), placement.node, bits))


def check(status: int) -> None:
    """Turns the core's status into the package's errors."""
    if status == core.DOES_NOT_FIT:
        raise DoesNotFitError("the node has not enough free, or a device of a model that is not acceptable")
    if status == core.INVALID:
        raise DoesNotFitError("there are no such devices or nodes, or too few or too many were named")
    if status != core.DONE:
        raise AliquotError("the placement core ran out of memory")
