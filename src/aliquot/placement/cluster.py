"""The state of a cluster by name: who holds what, on top of the numeric core.

    cluster = Cluster(inventory)
    decision = decide(cluster, claim)
    cluster.reserve(claim, decision.grant)     # takes the room
    cluster.commit(claim.name)                 # the grant is durable
    cluster.release(claim.name)

Every change is small and leaves everything consistent, or raises and changes nothing. What would happen if
is asked inside `with cluster.trial():`, after which everything is as before; `copy()` is independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from aliquot.model.claims import Claim
from aliquot.model.grants import Grant, GrantedDevice
from aliquot.model.sharing import Mechanism
from aliquot.placement import mig
from aliquot.placement.amounts import Offer, offer
from aliquot.placement.core import Scorer
from aliquot.placement.demand import Demand, Share
from aliquot.placement.eligibility import Options, mechanisms_for, offers_mechanism
from aliquot.placement.errors import (
    CannotResizeError,
    ClaimExistsError,
    IllegalGrantError,
    UnknownClaimError,
)
from aliquot.placement.inventory import Inventory, PlacedDevice
from aliquot.placement.live import Live, Touched
from aliquot.placement.occupancy import Holding, instances, joining
from aliquot.placement.packing import DoesNotFitError, NodeShape, Packing, Placement
from aliquot.placement.preferences import Preferences
from aliquot.placement.reasons import Reason
from aliquot.placement.strategies import Strategy


@dataclass(frozen=True, slots=True)
class Held:
    """A claim that holds something."""

    claim: Claim
    grant: Grant
    handle: int
    """Of its reservation in the core."""
    committed: bool = False
    gang: str = ""


class Cluster:
    """Who holds what on which device of which node."""

    def __init__(
        self,
        inventory: Inventory,
        *,
        make_packing: Callable[..., Packing] = Packing,
        strategies: Mapping[str, Strategy] | None = None,
    ) -> None:
        """`strategies` are some of one's own by name; they go before those that come with Aliquot."""
        self.inventory = inventory
        self.strategies = dict(strategies or {})
        self.options = Options(inventory)
        self.preferences = Preferences(inventory)
        self.packing = make_packing(inventory.shapes())
        self.touched = Touched(len(inventory.devices))
        self._held: dict[str, Held] = {}
        self._holdings: list[tuple[Holding, ...]] = [()] * len(inventory.devices)
        self._workloads: dict[str, Counter[int]] = {}
        self._on_node: dict[int, tuple[str, ...]] = {}
        self._guarded: dict[str, Held] = {}
        self._journal: list[Callable[[], object]] | None = None
        self._live: dict[Hashable, Live] = {}
        self._free: dict[int, NodeShape] = {}
        self._scorers: dict[str, Scorer] = {}

    # --- looking

    @property
    def claims(self) -> dict[str, Held]:
        """All that hold something, by name (a copy)."""
        return dict(self._held)

    def held(self, name: str) -> Held:
        """What a claim holds. Raises `UnknownClaimError`."""
        if name not in self._held:
            raise UnknownClaimError(name)
        return self._held[name]

    def holds(self, name: str) -> bool:
        """Whether a claim of that name holds anything."""
        return name in self._held

    def holdings(self, flat: int) -> tuple[Holding, ...]:
        """The slices of a device."""
        return self._holdings[flat]

    def on_node(self, node: int) -> tuple[str, ...]:
        """Names of the claims on a node, in the order in which they came."""
        return self._on_node.get(node, ())

    def nodes_of(self, workload: str) -> Counter[int]:
        """How many claims of a workload are on each node."""
        return Counter(self._workloads.get(workload, ()))

    @property
    def guarded(self) -> Sequence[Held]:
        """Claims that keep others away (required anti-affinity)."""
        return tuple(self._guarded.values())

    def free(self, node: int) -> NodeShape:
        """What the core has free on a node, kept until something changes there."""
        shape = self._free.get(node)
        if shape is None:
            shape = self._free[node] = self.packing.free(node)
        return shape

    def is_free(self, flat: int) -> bool:
        """Whether nobody is on the device, and somebody may come."""
        placed = self.inventory.devices[flat]
        cordoned = placed.device.cordoned or self.inventory.nodes[placed.node].cordoned
        return not self._holdings[flat] and not cordoned

    def joining(self, flat: int, mechanism: Mechanism, profile: str = "") -> Reason:
        """Why a slice by that mechanism may not join those on the device."""
        placed = self.inventory.devices[flat]
        return joining(
            self._holdings[flat],
            mechanism,
            layout=placed.kind.facts.mig,
            profile=profile,
            replicas=self.inventory.nodes[placed.node].timeslice_replicas,
        )

    def live(
        self,
        key: Hashable,
        value: Callable[[int], int],
        *,
        also: Callable[[int], Iterable[int]] | None = None,
    ) -> bytes:
        """A value for each device by a function of its state: kept, and asked again on changes."""
        if key not in self._live:
            self._live[key] = Live(self.touched, len(self.inventory.devices), value, also=also)
        return self._live[key].values()

    def scorer(self, strategy: str) -> Scorer:
        """What chooses by a strategy on this state; its scores are kept."""
        if strategy not in self._scorers:
            self._scorers[strategy] = self.packing.scorer(self.strategies.get(strategy, strategy))
            for held in self._held.values():
                self._observe(held.claim, self._scorers[strategy])
        return self._scorers[strategy]

    def arrived(self, claim: Claim) -> None:
        """Tells strategies that look ahead what is asked for, so that they learn what is likely to come."""
        for scorer in self._scorers.values():
            self._observe(claim, scorer)

    def _observe(self, claim: Claim, scorer: Scorer) -> None:
        demand = self.options.of(claim)[0].demand
        if demand is not None:
            scorer.observe(demand)

    # --- changing

    def grant_for(self, claim: Claim, placement: Placement, mechanism: Mechanism, profile: str = "") -> Grant:
        """The grant that a placement stands for; MIG instances begin where they cost others least."""
        node = self.inventory.nodes[placement.node]
        granted = tuple(
            self._granted(placement.demand, self.inventory.flat(placement.node, index), mechanism, profile)
            for index in placement.devices
        )
        return Grant(
            claim=claim.name,
            node=node.name,
            mechanism=mechanism,
            devices=granted,
            cpu_milli=placement.demand.cpu_milli,
            memory_mib=placement.demand.memory_mib,
        )

    def _granted(self, demand: Demand, flat: int, mechanism: Mechanism, profile: str) -> GrantedDevice:
        placed = self.inventory.devices[flat]
        share = demand.share_of(placed.kind.number)
        if share is None:
            raise IllegalGrantError(f"{self.inventory.name(flat)} is not of a model that the claim accepts")
        start = -1
        layout = placed.kind.facts.mig
        wanted = mig.profile_of(layout, profile) if layout and mechanism is Mechanism.MIG else None
        if layout and wanted:
            best = mig.best_start(layout, instances(self._holdings[flat]), wanted)
            start = -1 if best is None else best
        return GrantedDevice(
            index=placed.index,
            compute_milli=share.compute_milli,
            vram_mib=share.vram_mib,
            mig_profile=profile if wanted else "",
            mig_start=start,
        )

    def reserve(self, claim: Claim, grant: Grant, *, gang: str = "") -> Held:
        """Takes what the grant says.

        Raises `ClaimExistsError`, `IllegalGrantError` and `DoesNotFitError`; then nothing has changed.
        """
        if claim.name in self._held:
            raise ClaimExistsError(claim.name)
        node = self.inventory.node(grant.node)
        for each in grant.devices:
            self._check_may_join(node, each, grant)
        handle = self.packing.reserve(self._placement(node, grant))
        held = Held(claim, grant, handle, gang=gang)
        self._enter(held, node)
        self._note(lambda: self.release(claim.name))
        return held

    def commit(self, name: str) -> None:
        """Notes that the grant is durable. Idempotent. Raises `UnknownClaimError`."""
        held = self.held(name)
        if held.committed:
            return
        self.packing.commit(held.handle)
        self._held[name] = replace(held, committed=True)

    def release(self, name: str) -> Held:
        """Gives back what a claim holds; returns what it was. Raises `UnknownClaimError`."""
        held = self.held(name)
        self.packing.release(held.handle)
        self._leave(held, self.inventory.node(held.grant.node))
        self._note(lambda: self._restore(held))
        return held

    def resize(self, claim: Claim) -> Grant:
        """Lets a claim hold what it asks for now, on the devices where it stands.

        Raises `CannotResizeError` where the mechanism or the devices cannot serve it so, `DoesNotFitError`
        where there is no room; then nothing has changed.
        """
        held = self.held(claim.name)
        grant = self._resized(claim, held.grant)
        node = self.inventory.node(grant.node)
        self.packing.resize(held.handle, self._placement(node, grant).demand)
        self._leave(held, node)
        self._enter(replace(held, claim=claim, grant=grant), node)
        self._note(lambda: self._resize_back(held))
        return grant

    # --- what if

    @contextmanager
    def trial(self) -> Generator[None]:
        """Inside, changes are tried; afterwards all is as it was. What it costs is the changes themselves."""
        outer, self._journal = self._journal, []
        try:
            yield
        finally:
            undo, self._journal = self._journal, None
            for step in reversed(undo):
                step()
            self._journal = outer

    def copy(self) -> Cluster:
        """The same state, independent of this one."""
        other = object.__new__(Cluster)
        other.inventory, other.options, other.preferences = self.inventory, self.options, self.preferences
        other.strategies = self.strategies
        other.packing, other.touched = self.packing.copy(), Touched(len(self.inventory.devices))
        other._held, other._holdings = dict(self._held), list(self._holdings)
        other._workloads = {name: Counter(nodes) for name, nodes in self._workloads.items()}
        other._on_node, other._guarded = dict(self._on_node), dict(self._guarded)
        other._journal, other._live, other._scorers, other._free = None, {}, {}, dict(self._free)
        return other

    # --- inside

    def _note(self, undo: Callable[[], object]) -> None:
        if self._journal is not None:
            self._journal.append(undo)

    def _restore(self, held: Held) -> None:
        again = self.reserve(held.claim, held.grant, gang=held.gang)
        if held.committed:
            self.commit(again.claim.name)

    def _resize_back(self, held: Held) -> None:
        node, now = self.inventory.node(held.grant.node), self._held[held.claim.name]
        self.packing.resize(now.handle, self._placement(node, held.grant).demand)
        self._leave(now, node)
        self._enter(replace(held, handle=now.handle), node)

    def _check_may_join(self, node: int, each: GrantedDevice, grant: Grant) -> None:
        if not 0 <= each.index < len(self.inventory.nodes[node].devices):
            raise IllegalGrantError(f"node {grant.node} has no device {each.index}")
        flat = self.inventory.flat(node, each.index)
        placed = self.inventory.devices[flat]
        if not offers_mechanism(self.inventory.nodes[node], placed, grant.mechanism):
            raise IllegalGrantError(f"{self.inventory.name(flat)} does not offer {grant.mechanism}")
        if (reason := self.joining(flat, grant.mechanism, each.mig_profile)) is not Reason.ELIGIBLE:
            raise IllegalGrantError(
                f"{grant.claim} cannot join {self.inventory.name(flat)} by {grant.mechanism}: {reason.text}"
            )
        if grant.mechanism is Mechanism.MIG:
            self._check_instance(flat, each, grant.claim)

    def _check_instance(self, flat: int, each: GrantedDevice, claim: str) -> None:
        layout = self.inventory.devices[flat].kind.facts.mig
        there = (*instances(self._holdings[flat]), mig.Instance(each.mig_profile, each.mig_start))
        if layout is None or not mig.is_legal(layout, there):
            raise IllegalGrantError(
                f"{claim} cannot have a MIG instance {each.mig_profile!r} at memory slice {each.mig_start} "
                f"of {self.inventory.name(flat)}"
            )

    def _placement(self, node: int, grant: Grant) -> Placement:
        """The grant in the core's words: its devices are of one kind and have equal shares."""
        devices = sorted(grant.devices, key=lambda each: each.index)
        shares = {
            Share(
                self.inventory.devices[self.inventory.flat(node, each.index)].kind.number,
                each.compute_milli,
                each.vram_mib,
            )
            for each in devices
        }
        if len(shares) > 1:
            raise IllegalGrantError(f"{grant.claim} has unequal shares; a claim's devices are alike")
        demand = Demand(grant.cpu_milli, grant.memory_mib, len(devices), tuple(shares))
        return Placement(demand, node, tuple(each.index for each in devices))

    def _resized(self, claim: Claim, grant: Grant) -> Grant:
        if grant.devices and grant.mechanism not in mechanisms_for(claim):
            raise CannotResizeError(
                f"{claim.name} is served by {grant.mechanism}, and does not accept it any more",
                hint="release it and place it again",
            )
        if claim.devices.count != len(grant.devices):
            raise CannotResizeError(
                f"{claim.name} has {len(grant.devices)} devices and asks for {claim.devices.count}",
                hint="release it and place it again",
            )
        node = self.inventory.node(grant.node)
        devices = tuple(self._resized_device(claim, grant, node, each) for each in grant.devices)
        return replace(
            grant, devices=devices, cpu_milli=claim.host.cpu_milli, memory_mib=claim.host.memory_mib
        )

    def _resized_device(self, claim: Claim, grant: Grant, node: int, each: GrantedDevice) -> GrantedDevice:
        placed = self.inventory.devices[self.inventory.flat(node, each.index)]
        offered = offer(claim, placed.kind, grant.mechanism)
        if not isinstance(offered, Offer) or offered.mig_profile != each.mig_profile:
            why = "another MIG profile" if isinstance(offered, Offer) else offered.text
            raise CannotResizeError(
                f"{claim.name} cannot be resized on {grant.node}/{each.index}: {why}",
                hint="release it and place it again",
            )
        return replace(each, compute_milli=offered.share.compute_milli, vram_mib=offered.share.vram_mib)

    def _enter(self, held: Held, node: int) -> None:
        claim = held.claim
        self._free.pop(node, None)
        self._held[claim.name] = held
        for each in held.grant.devices:
            flat = self.inventory.flat(node, each.index)
            self._holdings[flat] = (*self._holdings[flat], _holding(claim, held.grant.mechanism, each))
            self.touched.add(flat)
        self._on_node[node] = (*self.on_node(node), claim.name)
        if claim.workload:
            self._workloads.setdefault(claim.workload, Counter())[node] += 1
        if any(each.required for each in claim.apart):
            self._guarded[claim.name] = held

    def _leave(self, held: Held, node: int) -> None:
        claim = held.claim
        self._free.pop(node, None)
        del self._held[claim.name]
        for each in held.grant.devices:
            flat = self.inventory.flat(node, each.index)
            self._holdings[flat] = tuple(h for h in self._holdings[flat] if h.claim != claim.name)
            self.touched.add(flat)
        self._on_node[node] = tuple(name for name in self.on_node(node) if name != claim.name)
        if held.claim.workload:
            counts = self._workloads[claim.workload]
            counts[node] -= 1
            if not counts[node]:
                del counts[node]
        self._guarded.pop(claim.name, None)


def _holding(claim: Claim, mechanism: Mechanism, each: GrantedDevice) -> Holding:
    instance = mig.Instance(each.mig_profile, each.mig_start) if mechanism is Mechanism.MIG else None
    return Holding(
        claim.name, claim.workload, mechanism, not each.compute_milli and not each.vram_mib, instance
    )


__all__ = ["Cluster", "DoesNotFitError", "Held", "PlacedDevice"]
