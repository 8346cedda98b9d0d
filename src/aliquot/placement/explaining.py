"""Why a claim went where it went, or why it fits nowhere: in counts, with what would make it fit.

Every device is counted once, under the first rule that refuses it (in the order of `Reason`). What would make
the claim fit is searched for by asking again with a smaller claim, so it takes all rules into account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from aliquot.model.claims import Claim
from aliquot.model.compute import ComputeRequest
from aliquot.model.constraints import Constraints
from aliquot.model.quantities import Ppm
from aliquot.model.topology import TopologyWish
from aliquot.placement import masks
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import Chosen, fits
from aliquot.placement.demand import Demand
from aliquot.placement.eligibility import Option
from aliquot.placement.packing import Choice
from aliquot.placement.preferences import Candidates
from aliquot.placement.reasons import Reason
from aliquot.placement.separation import excluded

_EVERYTHING: Final = Candidates()
_PPM_STEP: Final = 1000
"""Compute is placed in thousandths of a card."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """A smaller claim that would fit now."""

    what: str
    """Stable, for programs: `vram`, `compute`, `cpu`, `memory`, `count`, `constraint`, `topology`."""
    text: str
    """For people, after "would fit"."""
    claim: Claim


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a claim fits nowhere."""

    claim: Claim
    devices: Mapping[Reason, int]
    """How many devices each reason refuses; together they are all that there are. A claim without devices is
    counted in nodes."""
    nodes: Mapping[str, Mapping[Reason, int]]
    """The same for each node."""
    remedies: tuple[Remedy, ...]

    @property
    def text(self) -> str:
        """In one line: `412 cards: VRAM; 61: model; would fit if 3 GiB less VRAM`."""
        return "; ".join([*_counted(self.devices, self.claim), *_would_fit(self.remedies)])


def explain_refusal(cluster: Cluster, claim: Claim, *, within: Candidates = _EVERYTHING) -> Refusal:
    """Why the claim fits nowhere (which `decide` has found)."""
    reasons = _reasons(cluster, claim, within)
    nodes: dict[str, Mapping[Reason, int]] = {}
    for number, node in enumerate(cluster.inventory.nodes):
        nodes[node.name] = _in_order(Counter(_of_node(cluster, claim, reasons, number)))
    total: Counter[Reason] = Counter()
    for counts in nodes.values():
        total.update(counts)
    return Refusal(claim, _in_order(total), nodes, tuple(_remedies(cluster, claim, within)))


def alternatives(cluster: Cluster, chosen: Chosen, most: int = 3) -> list[Choice]:
    """The best placements on other nodes, as the same score ranks them."""
    scorer = cluster.scorer(chosen.strategy)
    node = cluster.inventory.node(chosen.grant.node)
    candidates = chosen.candidates
    found = scorer.choices(chosen.demand, candidates.nodes, candidates.devices, most + 1)
    return [each for each in found if each.placement.node != node][:most]


# --- reasons


def _reasons(cluster: Cluster, claim: Claim, within: Candidates) -> list[Reason]:
    """A reason for each device (of a claim without devices: for each node).

    A claim that accepts several mechanisms is told what came closest: the latest reason of any.
    """
    columns = [_reasons_of(cluster, claim, option, within) for option in cluster.options.of(claim)]
    return [max(column) for column in zip(*columns, strict=True)]


def _reasons_of(cluster: Cluster, claim: Claim, option: Option, within: Candidates) -> list[Reason]:
    apart = excluded(cluster, claim, option, required=True)
    node_reasons = _first_reasons(
        option.node_reasons,
        masks.refused_as(within.nodes, Reason.DOMAIN),
        apart.nodes,
    )
    if not claim.devices.count:
        return [
            Reason(reason) or _host_reason(cluster, option.demand, number)
            for number, reason in enumerate(node_reasons)
        ]
    rules = _first_reasons(
        cluster.inventory.per_device(node_reasons),
        option.device_reasons,
        bytes(_joining(cluster, option, flat) for flat in range(len(cluster.inventory.devices))),
        masks.refused_as(within.devices, Reason.DOMAIN),
        apart.devices,
    )
    return _with_room(cluster, option, [Reason(each) for each in rules])


def _first_reasons(first: bytes, *others: bytes | None) -> bytes:
    return masks.first_of(first, *(each for each in others if each is not None))


def _joining(cluster: Cluster, option: Option, flat: int) -> Reason:
    profile = option.profile(cluster.inventory.devices[flat].kind.number)
    return cluster.joining(flat, option.mechanism, profile)


def _with_room(cluster: Cluster, option: Option, rules: list[Reason]) -> list[Reason]:
    """The rules' reasons, and where no rule refuses, what there is too little of."""
    if option.demand is None:
        return rules
    found: list[Reason] = []
    for number in range(len(cluster.inventory.nodes)):
        first = cluster.inventory.first[number]
        here = rules[first : first + len(cluster.inventory.nodes[number].devices)]
        found.extend(_node_with_room(cluster, option.demand, number, here))
    return found


def _node_with_room(cluster: Cluster, demand: Demand, node: int, rules: list[Reason]) -> Iterator[Reason]:
    free = [reason or _device_reason(cluster, demand, node, index) for index, reason in enumerate(rules)]
    host = _host_reason(cluster, demand, node)
    kinds = Counter(
        placed.kind.number
        for placed, reason in zip(cluster.inventory.devices_of(node), free, strict=True)
        if not reason
    )
    enough = max(kinds.values(), default=0) >= demand.count
    for reason in free:
        yield reason or host or (Reason.TOPOLOGY if enough else Reason.TOGETHER)


def _device_reason(cluster: Cluster, demand: Demand, node: int, index: int) -> Reason:
    free = cluster.free(node).devices[index]
    share = demand.share_of(free.model)
    if share is None or free.compute_milli < share.compute_milli:
        return Reason.COMPUTE
    return Reason.VRAM if free.vram_mib < share.vram_mib else Reason.ELIGIBLE


def _host_reason(cluster: Cluster, demand: Demand | None, node: int) -> Reason:
    free = cluster.free(node)
    if demand is None or free.cpu_milli < demand.cpu_milli:
        return Reason.HOST_CPU
    return Reason.HOST_MEMORY if free.memory_mib < demand.memory_mib else Reason.ELIGIBLE


def _of_node(cluster: Cluster, claim: Claim, reasons: list[Reason], node: int) -> list[Reason]:
    if not claim.devices.count:
        return [reasons[node]]
    first = cluster.inventory.first[node]
    return reasons[first : first + len(cluster.inventory.nodes[node].devices)]


def _in_order(counts: Counter[Reason]) -> dict[Reason, int]:
    """The most frequent first; of equals, the rule that is asked first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counted(counts: Mapping[Reason, int], claim: Claim) -> Iterator[str]:
    unit = "card" if claim.devices.count else "host"
    for place, (reason, count) in enumerate(counts.items()):
        name = f" {unit}{'s' if count > 1 else ''}" if not place else ""
        yield f"{count}{name}: {reason.text}"
    if not counts:
        yield "there are no devices"


def _would_fit(remedies: Iterable[Remedy]) -> Iterator[str]:
    told = [remedy.text for remedy in remedies]
    if told:
        yield f"would fit {' or '.join(told)}"


# --- what would make it fit


def _remedies(cluster: Cluster, claim: Claim, within: Candidates) -> Iterator[Remedy]:
    """One resource less, one rule less: each alone."""
    for less in (_less_vram, _less_compute, _less_cpu, _less_memory, _fewer):
        if remedy := less(claim, lambda smaller: fits(cluster, smaller, within=within)):
            yield remedy
    yield from _without_rules(cluster, claim, within)


Fits = Callable[[Claim], bool]


def _largest(amount: int, smallest: int, claim_with: Callable[[int], Claim], ask: Fits) -> int | None:
    """The largest amount below `amount`, down to `smallest`, with which the claim fits."""
    if amount <= smallest or not ask(claim_with(smallest)):
        return None
    low, high = smallest, amount
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ask(claim_with(middle)) else (low, middle)
    return low


def _less_vram(claim: Claim, ask: Fits) -> Remedy | None:
    needs = claim.devices
    if not needs.vram.mib:
        return None

    def with_mib(mib: int) -> Claim:
        return replace(claim, devices=replace(needs, vram=replace(needs.vram, mib=mib)))

    mib = _largest(needs.vram.mib, 1, with_mib, ask)
    if mib is None:
        return None
    return Remedy("vram", f"if {mib_text(needs.vram.mib - mib)} less VRAM", with_mib(mib))


def _less_compute(claim: Claim, ask: Fits) -> Remedy | None:
    needs = claim.devices
    if not needs.compute.stated:
        return None
    if needs.compute.tflops:
        return _fewer_tflops(claim, ask)

    def with_steps(steps: int) -> Claim:
        asked = ComputeRequest(part=Ppm(steps * _PPM_STEP))
        return replace(claim, devices=replace(needs, compute=asked))

    steps = _largest(-(-needs.compute.part // _PPM_STEP), 1, with_steps, ask)
    if steps is None:
        return None
    less = needs.compute.part - steps * _PPM_STEP
    return Remedy("compute", f"if {less / 10_000:g} points less compute", with_steps(steps))


def _fewer_tflops(claim: Claim, ask: Fits) -> Remedy | None:
    needs = claim.devices

    def with_tenths(tenths: int) -> Claim:
        return replace(claim, devices=replace(needs, compute=ComputeRequest(tflops=tenths / 10)))

    tenths = _largest(-int(-needs.compute.tflops * 10 // 1), 1, with_tenths, ask)
    if tenths is None:
        return None
    less = needs.compute.tflops - tenths / 10
    return Remedy("compute", f"if {less:.1f} TFLOPS less", with_tenths(tenths))


def _less_cpu(claim: Claim, ask: Fits) -> Remedy | None:
    def with_milli(milli: int) -> Claim:
        return replace(claim, host=replace(claim.host, cpu_milli=milli))

    milli = _largest(claim.host.cpu_milli, 0, with_milli, ask)
    if milli is None:
        return None
    less = (claim.host.cpu_milli - milli) / 1000
    return Remedy("cpu", f"if {less:g} CPU cores less", with_milli(milli))


def _less_memory(claim: Claim, ask: Fits) -> Remedy | None:
    def with_mib(mib: int) -> Claim:
        return replace(claim, host=replace(claim.host, memory_mib=mib))

    mib = _largest(claim.host.memory_mib, 0, with_mib, ask)
    if mib is None:
        return None
    return Remedy("memory", f"if {mib_text(claim.host.memory_mib - mib)} less host memory", with_mib(mib))


def _fewer(claim: Claim, ask: Fits) -> Remedy | None:
    def with_count(count: int) -> Claim:
        return replace(claim, devices=replace(claim.devices, count=count))

    count = _largest(claim.devices.count, 1, with_count, ask)
    if count is None:
        return None
    return Remedy("count", f"with {count} device{'s' if count > 1 else ''}", with_count(count))


_RULES: Final = {
    "models": "on another model",
    "vendors": "of another vendor",
    "generations": "of another generation",
    "pools": "in another pool",
    "nodes": "on another node",
    "devices": "on another device",
    "node_labels": "without its rules on nodes' labels",
    "device_labels": "without its rules on devices' labels",
    "card_memory": "on a card of another size",
}


def _without_rules(cluster: Cluster, claim: Claim, within: Candidates) -> Iterator[Remedy]:
    anything = Constraints()
    for name, text in _RULES.items():
        if getattr(claim.constraints, name) == getattr(anything, name):
            continue
        freer = replace(claim.constraints, **{name: getattr(anything, name)})
        if fits(cluster, wider := replace(claim, constraints=freer), within=within):
            yield Remedy("constraint", text, wider)
    if claim.topology.required:
        wider = replace(claim, topology=TopologyWish(nearness=claim.topology.nearness))
        if fits(cluster, wider, within=within):
            yield Remedy("topology", "with its devices farther from each other", wider)


def mib_text(mib: int) -> str:
    """A size for people, rounded up so that it suffices: `512 MiB`, `2.4 GiB`, `3 GiB`."""
    if mib < 1024:
        return f"{mib} MiB"
    return f"{-(-mib * 10 // 1024) / 10:g} GiB"
