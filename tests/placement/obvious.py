"""Which grants are legal, written down as plainly as possible: the oracle of the tests of the rules.

It shares no code with `aliquot.placement`: amounts, MIG placements and rules are reckoned here from the model
and the catalogue alone, from scratch at each question.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, product
from math import ceil, floor

from aliquot.model import (
    Claim,
    Grant,
    GrantedDevice,
    Isolation,
    Mechanism,
    MigMode,
    Nearness,
    Node,
    NodeDevice,
    Pool,
)
from aliquot.placement.hardware import ModelFacts


@dataclass
class World:
    """A cluster and who holds what, as plain lists."""

    nodes: list[Node]
    pools: Mapping[str, Pool]
    models: Mapping[str, ModelFacts]
    held: dict[str, tuple[Claim, Grant]] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def on(self, node: str, index: int) -> list[tuple[Claim, Grant, GrantedDevice]]:
        """The slices of a device."""
        return [
            (claim, grant, device)
            for claim, grant in self.held.values()
            if grant.node == node
            for device in grant.devices
            if device.index == index
        ]


# --- amounts


def mechanisms(claim: Claim) -> tuple[Mechanism, ...]:
    if claim.sharing.mechanisms:
        return claim.sharing.mechanisms
    if claim.sharing.mig_profile:
        return (Mechanism.MIG,)
    if not claim.devices.compute.stated and not claim.devices.vram.stated:
        return (Mechanism.WHOLE,)
    if claim.sharing.isolation is Isolation.HARDWARE:
        return (Mechanism.MIG,)
    return (Mechanism.LIMITER,)


def asked(claim: Claim, facts: ModelFacts) -> tuple[int, int] | None:
    """Thousandths and MiB of one card; None where one card has not so much."""
    compute, vram = claim.devices.compute, claim.devices.vram
    if not compute.stated and not vram.stated:
        return 1000, facts.vram_mib
    milli = ceil(Fraction(compute.part, 1000))
    if compute.tflops:
        if compute.tflops > facts.tflops:
            return None
        milli = ceil(compute.tflops / facts.tflops * 1000)
    mib = vram.mib or ceil(Fraction(facts.vram_mib * vram.part, 10**6))
    if not vram.stated:
        mib = ceil(Fraction(facts.vram_mib * milli, 1000))
    return None if mib > facts.vram_mib else (milli, mib)


def capacity(world: World, node: Node, device: NodeDevice) -> tuple[int, int]:
    ratios = world.pools[node.pool].oversubscription
    return floor(1000 * ratios.compute), floor(world.models[device.model].vram_mib * ratios.vram)


def shares(world: World, claim: Claim, node: Node, device: NodeDevice, how: Mechanism) -> list[GrantedDevice]:
    """What the claim may be given of a device by a mechanism: several for MIG, one for each start."""
    facts = world.models[device.model]
    if how is Mechanism.MIG:
        return _instances(claim, facts)
    amounts = asked(claim, facts)
    if amounts is None:
        return []
    if how is Mechanism.WHOLE:
        amounts = capacity(world, node, device)
    elif how is Mechanism.TIMESLICE and not (claim.devices.compute.stated or claim.devices.vram.stated):
        amounts = (0, 0)
    return [GrantedDevice(index=0, compute_milli=amounts[0], vram_mib=amounts[1])]


def _instances(claim: Claim, facts: ModelFacts) -> list[GrantedDevice]:
    if facts.mig is None:
        return []
    amounts = asked(claim, facts)
    nothing_asked = not (claim.devices.compute.stated or claim.devices.vram.stated)
    fitting = []
    for profile in facts.mig.profiles:
        if claim.sharing.mig_profile and profile.name != claim.sharing.mig_profile:
            continue
        if not nothing_asked:
            if amounts is None:
                continue
            has = profile.sm_count * 1000 // facts.sm_count
            wants = amounts[1] if claim.devices.vram.stated else 0
            if has < amounts[0] or profile.memory_mib < wants:
                continue
        elif not claim.sharing.mig_profile:
            continue
        fitting.append(profile)
    if not fitting:
        return []
    chosen = min(fitting, key=lambda each: (each.memory_slices, each.compute_slices, "+" in each.name))
    most = max(each.compute_slices for each in facts.mig.profiles)
    return [
        GrantedDevice(
            index=0,
            compute_milli=chosen.compute_slices * 1000 // most,
            vram_mib=chosen.memory_mib,
            mig_profile=chosen.name,
            mig_start=start,
        )
        for start in chosen.placements
    ]


# --- rules


def node_accepted(world: World, claim: Claim, node: Node) -> bool:
    wanted = claim.constraints
    if wanted.pools and node.pool not in wanted.pools:
        return False
    if wanted.nodes and node.name not in wanted.nodes:
        return False
    if any(not rule.holds(node.labels) for rule in wanted.node_labels):
        return False
    if claim.runs_on and node.name != claim.runs_on and not (claim.remote and node.serves_remote):
        return False
    return not node.cordoned and apart(world, claim, node) and spread(world, claim, node)


def place_of(node: Node, level: str) -> tuple[str, ...]:
    if level == "node":
        return (node.name,)
    if level not in node.network:
        return ()
    names = list(node.network)
    return tuple(node.network[name] for name in names[: names.index(level) + 1])


def apart(world: World, claim: Claim, node: Node) -> bool:
    """Required anti-affinity above the card, both ways."""
    for other, grant in world.held.values():
        there = world.node(grant.node)
        for mine, theirs in ((claim, other), (other, claim)):
            for rule in mine.apart:
                if not rule.required or rule.level == "device" or theirs.workload not in rule.workloads:
                    continue
                place = place_of(there, rule.level)
                if place and place == place_of(node, rule.level):
                    return False
    return True


def spread(world: World, claim: Claim, node: Node) -> bool:
    if claim.spread is None or not claim.spread.required:
        return True
    level = claim.spread.level
    eligible = {place_of(each, level) for each in world.nodes if could_ever(world, claim, each)} - {()}
    count = dict.fromkeys([place_of(each, level) for each in world.nodes], 0)
    for other, grant in world.held.values():
        if other.workload == claim.workload:
            count[place_of(world.node(grant.node), level)] += 1
    here = place_of(node, level)
    least = min((count[place] for place in eligible), default=0)
    return bool(here) and count[here] + 1 - least <= claim.spread.max_skew


def could_ever(world: World, claim: Claim, node: Node) -> bool:
    """Whether the node is eligible with nobody on the cluster. The first mechanism that matters is any."""
    wanted = claim.constraints
    if (wanted.pools and node.pool not in wanted.pools) or (wanted.nodes and node.name not in wanted.nodes):
        return False
    if any(not rule.holds(node.labels) for rule in wanted.node_labels) or node.cordoned:
        return False
    if claim.runs_on and node.name != claim.runs_on and not (claim.remote and node.serves_remote):
        return False
    if not claim.devices.count:
        return True
    return any(
        device_accepted(world, claim, node, index)
        and offered(world, node, device, how)
        and shares(world, claim, node, device, how)
        for index, device in enumerate(node.devices)
        for how in mechanisms(claim)
    )


def device_accepted(world: World, claim: Claim, node: Node, index: int) -> bool:
    wanted, device = claim.constraints, node.devices[index]
    facts = world.models[device.model]
    named = {f"{node.name}/{index}", device.uuid}
    return not (
        device.cordoned
        or (wanted.devices and not named & set(wanted.devices))
        or (wanted.vendors and facts.vendor not in wanted.vendors)
        or (wanted.generations and facts.generation not in wanted.generations)
        or (wanted.models and not any(device.model in group for group in wanted.models))
        or not wanted.card_memory.accepts(facts.vram_mib)
        or any(not rule.holds(device.labels) for rule in wanted.device_labels)
    )


def offered(world: World, node: Node, device: NodeDevice, how: Mechanism) -> bool:
    facts = world.models[device.model]
    if device.mig_mode is MigMode.ON and how is not Mechanism.MIG:
        return False
    if how is Mechanism.TIMESLICE:
        return node.timeslice_replicas > 0
    if how not in node.mechanisms:
        return False
    if how is Mechanism.MIG:
        return facts.mig is not None and device.mig_mode is not MigMode.OFF
    return how is not Mechanism.MPS or facts.vendor in ("", "nvidia")


def device_free(
    world: World, claim: Claim, node: Node, index: int, how: Mechanism, share: GrantedDevice
) -> bool:
    """Whether the slice can join those on the device."""
    there = world.on(node.name, index)
    milli, mib = capacity(world, node, node.devices[index])
    if sum(each.compute_milli for _, _, each in there) + share.compute_milli > milli:
        return False
    if sum(each.vram_mib for _, _, each in there) + share.vram_mib > mib:
        return False
    if any(kept_apart(claim, other) or kept_apart(other, claim) for other, _, _ in there):
        return False
    return may_join(world, node, index, how, share)


def kept_apart(mine: Claim, theirs: Claim) -> bool:
    return any(
        rule.required and rule.level == "device" and theirs.workload in rule.workloads for rule in mine.apart
    )


def may_join(world: World, node: Node, index: int, how: Mechanism, share: GrantedDevice) -> bool:
    """Whether the mechanisms allow it."""
    there = world.on(node.name, index)
    if how is Mechanism.WHOLE and there:
        return False
    if any(grant.mechanism is not how for _, grant, _ in there):
        return False
    if how is Mechanism.TIMESLICE and len(there) >= node.timeslice_replicas:
        return False
    if how is Mechanism.MPS and len(there) >= 48:
        return False
    facts = world.models[node.devices[index].model]
    return how is not Mechanism.MIG or instances_legal(
        facts,
        [*((each.mig_profile, each.mig_start) for _, _, each in there), (share.mig_profile, share.mig_start)],
    )


def instances_legal(facts: ModelFacts, instances: Iterable[tuple[str, int]]) -> bool:
    assert facts.mig is not None
    slices: list[int] = []
    names: list[str] = []
    for name, start in instances:
        profile = next(each for each in facts.mig.profiles if each.name == name)
        if start not in profile.placements:
            return False
        names.append(name)
        if names.count(name) > profile.instances:
            return False
        slices.extend(range(start, start + profile.memory_slices))
    return len(slices) == len(set(slices)) and all(each < facts.mig.memory_slices for each in slices)


def close_enough(claim: Claim, node: Node, devices: tuple[int, ...]) -> bool:
    if not claim.topology.required or len(devices) < 2:
        return True

    def together(near: Nearness) -> bool:
        found = {
            Nearness.LINK: [node.devices[index].island for index in devices],
            Nearness.PCIE: [node.devices[index].pcie_root for index in devices],
            Nearness.NUMA: [node.devices[index].numa for index in devices],
        }[near]
        return len(set(found)) == 1 and found[0] not in ("", -1)

    order = [Nearness.LINK, Nearness.PCIE, Nearness.NUMA]
    if claim.topology.nearness is Nearness.NODE:
        return True
    return any(together(near) for near in order[: order.index(claim.topology.nearness) + 1])


def host_free(world: World, claim: Claim, node: Node) -> bool:
    ratios = world.pools[node.pool].oversubscription
    there = [grant for _, grant in world.held.values() if grant.node == node.name]
    return sum(grant.cpu_milli for grant in there) + claim.host.cpu_milli <= floor(
        node.cpu_milli * ratios.cpu
    ) and sum(grant.memory_mib for grant in there) + claim.host.memory_mib <= floor(
        node.memory_mib * ratios.memory
    )


# --- answers


def possible(world: World, claim: Claim) -> Iterator[Grant]:
    """Every legal grant of the claim."""
    for node in world.nodes:
        if not node_accepted(world, claim, node) or not host_free(world, claim, node):
            continue
        if not claim.devices.count:
            yield _grant(claim, node, Mechanism.WHOLE, ())
            continue
        for how in mechanisms(claim):
            yield from _on_node(world, claim, node, how)


def _on_node(world: World, claim: Claim, node: Node, how: Mechanism) -> Iterator[Grant]:
    for devices in combinations(range(len(node.devices)), claim.devices.count):
        if len({node.devices[index].model for index in devices}) > 1:
            continue
        if not close_enough(claim, node, devices):
            continue
        choices = [
            [
                GrantedDevice(
                    index=index,
                    compute_milli=share.compute_milli,
                    vram_mib=share.vram_mib,
                    mig_profile=share.mig_profile,
                    mig_start=share.mig_start,
                )
                for share in shares(world, claim, node, node.devices[index], how)
                if device_accepted(world, claim, node, index)
                and offered(world, node, node.devices[index], how)
                and device_free(world, claim, node, index, how, share)
            ]
            for index in devices
        ]
        for granted in product(*choices):
            yield _grant(claim, node, how, granted)


def _grant(claim: Claim, node: Node, how: Mechanism, devices: tuple[GrantedDevice, ...]) -> Grant:
    return Grant(
        claim=claim.name,
        node=node.name,
        mechanism=how,
        devices=devices,
        cpu_milli=claim.host.cpu_milli,
        memory_mib=claim.host.memory_mib,
    )


def broken(world: World) -> list[str]:
    """What is wrong with who holds what: nothing, if the rules of sharing hold."""
    wrong: list[str] = []
    for node in world.nodes:
        ratios = world.pools[node.pool].oversubscription
        there = [grant for _, grant in world.held.values() if grant.node == node.name]
        if sum(grant.cpu_milli for grant in there) > node.cpu_milli * ratios.cpu:
            wrong.append(f"{node.name}: CPU")
        if sum(grant.memory_mib for grant in there) > node.memory_mib * ratios.memory:
            wrong.append(f"{node.name}: memory")
        for index, device in enumerate(node.devices):
            wrong.extend(
                f"{node.name}/{index}: {what}" for what in _broken_device(world, node, index, device)
            )
    return wrong


def _broken_device(world: World, node: Node, index: int, device: NodeDevice) -> Iterator[str]:
    there = world.on(node.name, index)
    milli, mib = capacity(world, node, device)
    if sum(each.compute_milli for _, _, each in there) > milli:
        yield "compute"
    if sum(each.vram_mib for _, _, each in there) > mib:
        yield "VRAM"
    if len({grant.mechanism for _, grant, _ in there}) > 1:
        yield "mechanisms mixed"
    if len(there) > 1 and there[0][1].mechanism is Mechanism.WHOLE:
        yield "a whole card shared"
    facts = world.models[device.model]
    instances = [(each.mig_profile, each.mig_start) for _, _, each in there if each.mig_profile]
    if instances and not instances_legal(facts, instances):
        yield "MIG geometry"
