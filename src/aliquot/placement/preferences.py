"""What a claim likes better among what it accepts: its lists, each with the best first.

Preferences are followed strictly, one list after the other: pools, nodes, labels of nodes, devices, models,
vendors, generations, labels of devices; then nearness of its devices to its program. The score decides among
what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from aliquot.model.claims import Claim
from aliquot.model.constraints import Constraints, LabelOperator, LabelRule
from aliquot.model.nodes import Node
from aliquot.placement import masks
from aliquot.placement.inventory import Inventory, PlacedDevice

_Value = TypeVar("_Value")


class Candidates(NamedTuple):
    """Nodes and devices that may be chosen."""

    nodes: masks.Mask = None
    devices: masks.Mask = None

    def also(self, *, nodes: masks.Mask = None, devices: masks.Mask = None) -> Candidates:
        """Those of them that are in the masks too."""
        return Candidates(masks.both(self.nodes, nodes), masks.both(self.devices, devices))

    @property
    def none(self) -> bool:
        """Whether nothing can be chosen."""
        return masks.empty(self.nodes) or masks.empty(self.devices)


class Preferences:
    """The masks of what is liked best, second best and so on, kept for each shape of claim."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._kept: dict[object, tuple[tuple[Candidates, ...], ...]] = {}

    def narrowed(self, claim: Claim, candidates: Candidates) -> Iterator[Candidates]:
        """The candidates in parts, the most liked part first; parts in which nothing is are left out."""
        yield from _product(self._lists(claim), candidates)

    def _lists(self, claim: Claim) -> tuple[tuple[Candidates, ...], ...]:
        key = (claim.constraints, claim.runs_on, claim.remote, bool(claim.devices.count))
        if key not in self._kept:
            by_device = self._by_device(claim.constraints) if claim.devices.count else ()
            lists = [*self._by_node(claim), *by_device]
            self._kept[key] = tuple(each for each in lists if len(each) > 1)
        return self._kept[key]

    def _by_node(self, claim: Claim) -> Iterator[tuple[Candidates, ...]]:
        wanted = claim.constraints
        yield self._nodes(wanted.pools, lambda node, pool: node.pool == pool)
        yield self._nodes(wanted.nodes, lambda node, name: node.name == name)
        for rule in _ranked(wanted.node_labels):
            yield self._nodes(rule.values, lambda node, value, key=rule.key: node.labels.get(key) == value)
        if claim.runs_on and claim.remote:
            yield self._by_distance(claim.runs_on)

    def _by_device(self, wanted: Constraints) -> Iterator[tuple[Candidates, ...]]:
        names = [self._inventory.name(flat) for flat in range(len(self._inventory.devices))]
        yield self._devices(
            wanted.devices,
            lambda flat, each, name: name in (names[flat], each.device.uuid),
        )
        yield self._devices(wanted.models, lambda _, each, group: each.device.model in group)
        yield self._devices(wanted.vendors, lambda _, each, vendor: each.kind.facts.vendor == vendor)
        yield self._devices(
            wanted.generations, lambda _, each, generation: each.kind.facts.generation.startswith(generation)
        )
        for rule in _ranked(wanted.device_labels):
            yield self._devices(
                rule.values, lambda _, each, value, key=rule.key: each.device.labels.get(key) == value
            )

    def _by_distance(self, home: str) -> tuple[Candidates, ...]:
        numbers = range(len(self._inventory.nodes))
        origin = self._inventory.number_of.get(home)
        if origin is None:
            return ()
        away = [self._inventory.distance(origin, number) for number in numbers]
        return tuple(
            Candidates(nodes=bytes(each == distance for each in away)) for distance in sorted(set(away))
        )

    def _nodes(self, values: Sequence[str], matches: Callable[[Node, str], bool]) -> tuple[Candidates, ...]:
        return tuple(
            Candidates(nodes=bytes(matches(node, value) for node in self._inventory.nodes))
            for value in (values if len(values) > 1 else ())
        )

    def _devices(
        self, values: Sequence[_Value], matches: Callable[[int, PlacedDevice, _Value], bool]
    ) -> tuple[Candidates, ...]:
        return tuple(
            Candidates(devices=bytes(matches(flat, each, value) for flat, each in self._flat()))
            for value in (values if len(values) > 1 else ())
        )

    def _flat(self) -> Iterator[tuple[int, PlacedDevice]]:
        yield from enumerate(self._inventory.devices)


def _ranked(rules: Sequence[LabelRule]) -> Iterator[LabelRule]:
    return (rule for rule in rules if rule.operator is LabelOperator.IN and len(rule.values) > 1)


def _product(lists: tuple[tuple[Candidates, ...], ...], candidates: Candidates) -> Iterator[Candidates]:
    if not lists:
        yield candidates
        return
    for liked in lists[0]:
        narrowed = candidates.also(nodes=liked.nodes, devices=liked.devices)
        if not narrowed.none:
            yield from _product(lists[1:], narrowed)
