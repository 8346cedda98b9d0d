"""The hosts and devices that there are, numbered for the core, with what never changes while they stand.

An inventory is a value: a host that comes or goes makes a new one. Devices of all nodes are numbered in one
row ("flat"), node by node, as in the core's masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aliquot.errors import InvalidValueError
from aliquot.model.nodes import Node, NodeDevice, Oversubscription, Pool
from aliquot.model.topology import NODE, Nearness
from aliquot.placement.hardware import Kind, ModelFacts, promised
from aliquot.placement.packing import DeviceShape, NodeShape

Group = tuple[int, ...]
"""Devices, by flat number, that stand close together."""


@dataclass(frozen=True, slots=True)
class PlacedDevice:
    """A device, where it is, and its kind."""

    node: int
    index: int
    """On its node."""
    kind: Kind
    device: NodeDevice


@dataclass(frozen=True, slots=True)
class Alike:
    """A number for each device, equal for devices that are alike, and one device of each number."""

    members: tuple[int, ...]
    representatives: tuple[int, ...]

    def spread(self, values: Sequence[int]) -> bytes:
        """A value for each class, as one byte for each device."""
        return bytes(map(values.__getitem__, self.members))


class Inventory:
    """Nodes, devices and pools by number and by name.

    Raises `InvalidValueError` where names are used twice, or a node has devices of an unknown model.
    """

    def __init__(
        self, nodes: Iterable[Node], pools: Iterable[Pool] = (), *, models: Mapping[str, ModelFacts]
    ) -> None:
        self.nodes: tuple[Node, ...] = tuple(nodes)
        self.pools: dict[str, Pool] = {pool.name: pool for pool in pools}
        self.models = models
        self.number_of: dict[str, int] = {node.name: number for number, node in enumerate(self.nodes)}
        self.kinds: list[Kind] = []
        self.devices: list[PlacedDevice] = []
        self.first: list[int] = []
        self._kind_numbers: dict[tuple[str, int, int], int] = {}
        self._groups: dict[tuple[int, Nearness], tuple[Group, ...]] = {}
        if len(self.number_of) != len(self.nodes):
            raise InvalidValueError("two nodes have the same name", hint="names of nodes differ")
        for number, node in enumerate(self.nodes):
            self._add(number, node)

    def _add(self, number: int, node: Node) -> None:
        if node.pool not in self.pools:
            self.pools[node.pool] = Pool(name=node.pool)
        self.first.append(len(self.devices))
        for index, device in enumerate(node.devices):
            kind = self._kind(device.model, self.pools[node.pool].oversubscription, node.name)
            self.devices.append(PlacedDevice(number, index, kind, device))

    def _kind(self, model: str, ratios: Oversubscription, node: str) -> Kind:
        if model not in self.models:
            raise InvalidValueError(
                f"node {node} has devices of model {model!r}, which is not known",
                hint="describe it under models: {key, vendor, tflops, vram}",
            )
        facts = self.models[model]
        key = (model, *promised(facts, ratios))
        if key not in self._kind_numbers:
            self._kind_numbers[key] = len(self.kinds)
            self.kinds.append(Kind(len(self.kinds), facts, key[1], key[2]))
        return self.kinds[self._kind_numbers[key]]

    # --- by number and by name

    def shapes(self) -> list[NodeShape]:
        """What the core is to know: capacities with the pool's ratios applied."""
        return [self._shape(number) for number in range(len(self.nodes))]

    def _shape(self, number: int) -> NodeShape:
        node = self.nodes[number]
        ratios = self.pools[node.pool].oversubscription
        devices = tuple(
            DeviceShape(each.kind.number, each.kind.compute_milli, each.kind.vram_mib)
            for each in self.devices_of(number)
        )
        return NodeShape(int(node.cpu_milli * ratios.cpu), int(node.memory_mib * ratios.memory), devices)

    def devices_of(self, node: int) -> Sequence[PlacedDevice]:
        """The node's devices in their order."""
        first = self.first[node]
        return self.devices[first : first + len(self.nodes[node].devices)]

    def flat(self, node: int, index: int) -> int:
        """The number of a node's device among those of all nodes."""
        return self.first[node] + index

    def name(self, flat: int) -> str:
        """`NODE/INDEX`."""
        placed = self.devices[flat]
        return f"{self.nodes[placed.node].name}/{placed.index}"

    def node(self, name: str) -> int:
        """A node's number. Raises `InvalidValueError`."""
        if name not in self.number_of:
            raise InvalidValueError(f"there is no node {name!r}")
        return self.number_of[name]

    def per_device(self, node_values: bytes | bytearray) -> bytes:
        """A value for each node, repeated for each of its devices."""
        return b"".join(
            bytes((value,)) * len(node.devices) for value, node in zip(node_values, self.nodes, strict=True)
        )

    @cached_property
    def alike(self) -> Alike:
        """Devices in classes that no rule but one by name can tell apart."""
        numbers: dict[object, int] = {}
        members: list[int] = []
        representatives: list[int] = []
        for flat, placed in enumerate(self.devices):
            node, device = self.nodes[placed.node], placed.device
            key = (
                placed.kind.number,
                device.mig_mode,
                device.cordoned,
                tuple(device.labels.items()),
                node.mechanisms,
                node.timeslice_replicas > 0,
            )
            if key not in numbers:
                numbers[key] = len(numbers)
                representatives.append(flat)
            members.append(numbers[key])
        return Alike(tuple(members), tuple(representatives))

    # --- who stands close to whom

    @cached_property
    def islands(self) -> dict[int, Group]:
        """For each device that is linked to others, all of its island."""
        return self._membership(Nearness.LINK)

    @cached_property
    def roots(self) -> dict[int, Group]:
        """For each device that shares its PCIe root with others, all below it."""
        return self._membership(Nearness.PCIE)

    def _membership(self, nearness: Nearness) -> dict[int, Group]:
        found: dict[int, Group] = {}
        for number in range(len(self.nodes)):
            for group in self.groups(number, nearness):
                found.update((flat, group) for flat in group if len(group) > 1)
        return found

    def groups(self, node: int, nearness: Nearness) -> tuple[Group, ...]:
        """The node's devices by nearness. A device whose place is not known stands near to nobody."""
        key = (node, nearness)
        if key not in self._groups:
            self._groups[key] = self._grouped(node, nearness)
        return self._groups[key]

    def _grouped(self, node: int, nearness: Nearness) -> tuple[Group, ...]:
        if nearness is Nearness.NODE:
            first = self.first[node]
            return (tuple(range(first, first + len(self.nodes[node].devices))),)
        members: dict[str, list[int]] = {}
        for placed in self.devices_of(node):
            members.setdefault(_near(placed, nearness), []).append(self.flat(node, placed.index))
        return tuple(tuple(group) for group in members.values())

    def place(self, node: int, level: str) -> str:
        """The node's place at a level of the network: unique over the cluster; empty where it has none."""
        if level == NODE:
            return self.nodes[node].name
        position = self.nodes[node].network
        if level not in position:
            return ""
        levels = list(position)
        return "/".join(position[each] for each in levels[: levels.index(level) + 1])

    def levels(self) -> list[str]:
        """Levels of the network, the widest first, as the nodes name them."""
        return list(dict.fromkeys(level for node in self.nodes for level in node.network))

    def distance(self, one: int, other: int) -> int:
        """0 on the same node; then how many levels up two nodes meet, counted from 1."""
        if one == other:
            return 0
        first, second = (list(self.nodes[each].network.items()) for each in (one, other))
        shared = 0
        while shared < min(len(first), len(second)) and first[shared] == second[shared]:
            shared += 1
        return 1 + max(len(first), len(second)) - shared


def _near(placed: PlacedDevice, nearness: Nearness) -> str:
    alone = f"alone:{placed.index}"
    match nearness:
        case Nearness.LINK:
            return placed.device.island or alone
        case Nearness.PCIE:
            return placed.device.pcie_root or alone
        case _:
            return str(placed.device.numa) if placed.device.numa >= 0 else alone
