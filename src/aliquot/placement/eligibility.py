"""Which nodes and devices a claim may use at all, whoever is on them: rules that only change with the hosts.

Each rule names its reason. The answers are arrays of reasons, one byte for each node or device, kept per
shape of claim by `Options`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aliquot.model.claims import Claim
from aliquot.model.constraints import Constraints
from aliquot.model.nodes import MigMode, Node
from aliquot.model.sharing import Isolation, Mechanism
from aliquot.placement import masks
from aliquot.placement.amounts import Offer, offer
from aliquot.placement.demand import Demand
from aliquot.placement.inventory import Inventory, PlacedDevice
from aliquot.placement.reasons import Reason

_MOST_KEPT: Final = 4096

NodeRule = Callable[[Claim, Node], bool]
DeviceRule = Callable[[Constraints, PlacedDevice, str], bool]


def _on_program_host(claim: Claim, node: Node) -> bool:
    return claim.runs_on in ("", node.name) or (claim.remote and node.serves_remote)


_NODE_RULES: Final[tuple[tuple[Reason, NodeRule], ...]] = (
    (Reason.POOL, lambda claim, node: _in(node.pool, claim.constraints.pools)),
    (Reason.NODE_NAME, lambda claim, node: _in(node.name, claim.constraints.nodes)),
    (Reason.NODE_LABEL, lambda claim, node: all(r.holds(node.labels) for r in claim.constraints.node_labels)),
    (Reason.PROGRAM_HOST, _on_program_host),
    (Reason.NODE_CORDONED, lambda _, node: not node.cordoned),
)


def _named(wanted: Constraints, placed: PlacedDevice, name: str) -> bool:
    return not wanted.devices or name in wanted.devices or placed.device.uuid in wanted.devices


def _generation(wanted: Constraints, placed: PlacedDevice, _: str) -> bool:
    """`ada` is meant for `ada lovelace` too."""
    has = placed.kind.facts.generation
    return not wanted.generations or any(has == g or has.startswith(f"{g} ") for g in wanted.generations)


def _model(wanted: Constraints, placed: PlacedDevice, _: str) -> bool:
    return not wanted.models or any(placed.device.model in group for group in wanted.models)


_DEVICE_RULES: Final[tuple[tuple[Reason, DeviceRule], ...]] = (
    (Reason.DEVICE_NAME, _named),
    (Reason.VENDOR, lambda wanted, placed, _: _in(placed.kind.facts.vendor, wanted.vendors)),
    (Reason.GENERATION, _generation),
    (Reason.MODEL, _model),
    (
        Reason.CARD_MEMORY,
        lambda wanted, placed, _: wanted.card_memory.accepts(placed.kind.facts.vram_mib),
    ),
    (
        Reason.DEVICE_LABEL,
        lambda wanted, placed, _: all(r.holds(placed.device.labels) for r in wanted.device_labels),
    ),
    (Reason.DEVICE_CORDONED, lambda _, placed, __: not placed.device.cordoned),
)


@dataclass(frozen=True, slots=True)
class Option:
    """One way to serve a claim: a mechanism, what it takes of each kind, and where it may stand."""

    mechanism: Mechanism
    demand: Demand | None
    """None where no kind that there is can serve it so."""
    profiles: tuple[tuple[int, str], ...]
    """Of MIG: the profile for each kind of device."""
    node_reasons: bytes
    device_reasons: bytes
    """Rules about the device, its model and the mechanism; those of its node are not repeated."""
    nodes: masks.Mask
    devices: masks.Mask

    def profile(self, kind: int) -> str:
        """The MIG profile on a kind of device; empty for other mechanisms."""
        return next((name for number, name in self.profiles if number == kind), "")


def mechanisms_for(claim: Claim) -> tuple[Mechanism, ...]:
    """Those that the claim accepts, the preferred first."""
    if claim.sharing.mechanisms:
        return claim.sharing.mechanisms
    if claim.sharing.mig_profile:
        return (Mechanism.MIG,)
    if claim.devices.whole:
        return (Mechanism.WHOLE,)
    return (Mechanism.MIG,) if claim.sharing.isolation is Isolation.HARDWARE else (Mechanism.LIMITER,)


class Options:
    """The ways to serve each shape of claim, kept for as long as the inventory stands."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._kept: dict[object, tuple[Option, ...]] = {}
        self._constrained: dict[object, tuple[bytes, bytes]] = {}

    def of(self, claim: Claim) -> tuple[Option, ...]:
        """In the order of preference; at least one, even if nothing can serve it."""
        shape = (
            claim.devices,
            claim.host,
            claim.constraints,
            claim.sharing,
            claim.runs_on,
            claim.remote,
        )
        if shape not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[shape] = self._made(claim)
        return self._kept[shape]

    def _made(self, claim: Claim) -> tuple[Option, ...]:
        node_reasons, device_reasons = self._reasons(claim)
        if not claim.devices.count:
            demand = Demand(claim.host.cpu_milli, claim.host.memory_mib)
            nodes = _mask(node_reasons)
            return (Option(Mechanism.WHOLE, demand, (), node_reasons, device_reasons, nodes, None),)
        return tuple(
            self._option(claim, mechanism, node_reasons, device_reasons)
            for mechanism in mechanisms_for(claim)
        )

    def _option(self, claim: Claim, mechanism: Mechanism, node_reasons: bytes, constrained: bytes) -> Option:
        offers = [offer(claim, kind, mechanism) for kind in self._inventory.kinds]
        given = [each for each in offers if isinstance(each, Offer)]
        shares = tuple(each.share for each in given)
        demand = Demand(
            claim.host.cpu_milli, claim.host.memory_mib, claim.devices.count if given else 0, shares
        )
        by_mechanism = self._by_class(
            lambda node, placed: _mechanism_reason(node, placed, mechanism, offers[placed.kind.number])
        )
        reasons = masks.first_of(constrained, by_mechanism)
        return Option(
            mechanism,
            demand if given else None,
            tuple((each.share.model, each.mig_profile) for each in given if each.mig_profile),
            node_reasons,
            reasons,
            _mask(node_reasons),
            _mask(reasons),
        )

    def _reasons(self, claim: Claim) -> tuple[bytes, bytes]:
        key = (claim.constraints, claim.runs_on, claim.remote)
        if key not in self._constrained:
            if len(self._constrained) >= _MOST_KEPT:
                self._constrained.clear()
            rules = _node_rules(claim)
            nodes = bytes(_node_reason(rules, claim, node) for node in self._inventory.nodes)
            self._constrained[key] = nodes, self._device_reasons(claim.constraints)
        return self._constrained[key]

    def _device_reasons(self, wanted: Constraints) -> bytes:
        if not wanted.devices:
            return self._by_class(lambda _, placed: _device_reason(wanted, placed, ""))
        return bytes(
            _device_reason(wanted, placed, self._inventory.name(flat))
            for flat, placed in enumerate(self._inventory.devices)
        )

    def _by_class(self, reason: Callable[[Node, PlacedDevice], Reason]) -> bytes:
        """A reason for each device, asked once for those that are alike."""
        inventory = self._inventory
        representatives = (inventory.devices[flat] for flat in inventory.alike.representatives)
        reasons = [reason(inventory.nodes[placed.node], placed) for placed in representatives]
        return inventory.alike.spread(reasons)


def _node_rules(claim: Claim) -> list[tuple[Reason, NodeRule]]:
    """Those that the claim brings into play."""
    wanted = claim.constraints
    idle = {
        Reason.POOL: not wanted.pools,
        Reason.NODE_NAME: not wanted.nodes,
        Reason.NODE_LABEL: not wanted.node_labels,
        Reason.PROGRAM_HOST: not claim.runs_on,
    }
    return [(reason, holds) for reason, holds in _NODE_RULES if not idle.get(reason)]


def _node_reason(rules: list[tuple[Reason, NodeRule]], claim: Claim, node: Node) -> Reason:
    return next((reason for reason, holds in rules if not holds(claim, node)), Reason.ELIGIBLE)


def _device_reason(wanted: Constraints, placed: PlacedDevice, name: str) -> Reason:
    return next(
        (reason for reason, holds in _DEVICE_RULES if not holds(wanted, placed, name)), Reason.ELIGIBLE
    )


def _mechanism_reason(
    node: Node, placed: PlacedDevice, mechanism: Mechanism, offered: Offer | Reason
) -> Reason:
    if not offers_mechanism(node, placed, mechanism):
        return Reason.MECHANISM
    return offered if isinstance(offered, Reason) else Reason.ELIGIBLE


def offers_mechanism(node: Node, placed: PlacedDevice, mechanism: Mechanism) -> bool:
    """Whether the node's agent can do it on that device."""
    facts, mode = placed.kind.facts, placed.device.mig_mode
    if mode is MigMode.ON and mechanism is not Mechanism.MIG:
        return False
    match mechanism:
        case Mechanism.TIMESLICE:
            return node.timeslice_replicas > 0
        case Mechanism.MIG:
            capable = facts.mig is not None and mode is not MigMode.OFF
        case Mechanism.MPS:
            capable = facts.vendor in ("", "nvidia")
        case _:
            capable = True
    return capable and mechanism in node.mechanisms


def _in(value: str, accepted: tuple[str, ...]) -> bool:
    return not accepted or value in accepted


def _mask(reasons: bytes) -> masks.Mask:
    return masks.eligible(reasons) if any(reasons) else None
