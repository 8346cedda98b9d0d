"""Defragmentation: plans of moves that free whole cards, make a waiting claim fit, or empty hosts.

A plan is a list of moves that can be carried out in its order: each finds room where it goes while everybody
else stands as the moves before have left them, and never on the devices it comes from. Protected claims and
members of gangs are not moved; disruption budgets and the plan's own budget hold. Plans are made greedily,
the cheapest source first, so a plan within the budget may exist that is not found; what is found is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from aliquot.model.budgets import DisruptionBudget
from aliquot.model.claims import Claim, HostNeeds
from aliquot.model.grants import Grant
from aliquot.model.sharing import Mechanism
from aliquot.placement.cluster import Cluster, Held
from aliquot.placement.deciding import Chosen, decide, fits
from aliquot.placement.disturbing import Budgets, Unit, units_on
from aliquot.placement.masks import Mask, of
from aliquot.placement.preferences import Candidates

RESTART_MIB: Final = 16 * 1024
"""What a claim is charged beside its memory where it has to restart: MIG instances and whole cards cannot be
moved while they run. About what is copied in the seconds that a restart takes (10 s at 1.6 GB/s)."""
_LIVE: Final = (Mechanism.LIMITER, Mechanism.MPS)


@dataclass(frozen=True, slots=True)
class Move:
    """One claim from where it stands to somewhere else."""

    claim: Claim
    source: Grant
    target: Grant
    cost_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveBudget:
    """How much a plan may move."""

    moves: int = 10
    cost_mib: int = 2**40

    def allows(self, moves: Sequence[Move]) -> bool:
        """Whether the plan is within it."""
        return len(moves) <= self.moves and sum(each.cost_mib for each in moves) <= self.cost_mib


@dataclass(frozen=True, slots=True)
class Plan:
    """Moves in the order in which they can be made, and what they are good for."""

    moves: tuple[Move, ...] = ()
    freed: tuple[str, ...] = ()
    """Devices (`NODE/INDEX`), or nodes of a consolidation, on which nobody is left."""
    placed: Chosen | None = None
    """Where the waiting claim goes after them."""

    @property
    def cost_mib(self) -> int:
        """Of all moves."""
        return sum(move.cost_mib for move in self.moves)


@dataclass
class _Draft:
    """A plan in the making; the cluster is in a trial in which its moves have been made."""

    cluster: Cluster
    budget: MoveBudget
    budgets: Budgets
    strategy: str
    moves: list[Move] = field(default_factory=list[Move])
    closed_devices: set[int] = field(default_factory=set[int])
    closed_nodes: set[int] = field(default_factory=set[int])
    room: dict[Claim, bool] = field(default_factory=dict[Claim, bool])
    """Of claims on shared cards, by shape, whether any has room for one, as of `asked_at` moves."""
    asked_at: int = 0


def move_cost(held: Held) -> int:
    """What a move costs, in MiB: the memory that it may have to copy, and the restart where there is one."""
    memory = sum(each.vram_mib for each in held.grant.devices)
    return memory + (0 if held.grant.mechanism in _LIVE else RESTART_MIB)


def free_cards(
    cluster: Cluster,
    count: int,
    *,
    budget: MoveBudget | None = None,
    budgets: Iterable[DisruptionBudget] = (),
    strategy: str = "",
) -> Plan:
    """Moves after which up to `count` more cards are free: claims go to cards that are shared already."""
    draft = _Draft(cluster, budget or MoveBudget(), Budgets(cluster, budgets), strategy)
    freed: list[int] = []
    with cluster.trial():
        for flat in _sources(cluster):
            if len(freed) == count or len(draft.moves) == draft.budget.moves:
                break
            if _could_go(draft, flat) and _empty(draft, [flat], _names_on(cluster, flat), shared_only=True):
                freed.append(flat)
    return Plan(tuple(draft.moves), tuple(cluster.inventory.name(flat) for flat in sorted(freed)))


def consolidate(
    cluster: Cluster,
    *,
    budget: MoveBudget | None = None,
    budgets: Iterable[DisruptionBudget] = (),
    strategy: str = "",
) -> Plan:
    """Moves after which more hosts hold nothing at all: claims go to hosts that hold something already."""
    draft = _Draft(cluster, budget or MoveBudget(), Budgets(cluster, budgets), strategy)
    nodes = [number for number in range(len(cluster.inventory.nodes)) if cluster.on_node(number)]
    freed: list[str] = []
    with cluster.trial():
        for node in sorted(nodes, key=lambda each: (_cost_of(cluster, cluster.on_node(each)), each)):
            if len(draft.moves) == draft.budget.moves:
                break
            devices = [
                cluster.inventory.flat(node, placed.index) for placed in cluster.inventory.devices_of(node)
            ]
            draft.closed_nodes.add(node)
            if _empty(draft, devices, cluster.on_node(node), busy_nodes=True):
                freed.append(cluster.inventory.nodes[node].name)
            else:
                draft.closed_nodes.discard(node)
    return Plan(tuple(draft.moves), tuple(freed))


def make_room(
    cluster: Cluster,
    claim: Claim,
    *,
    budget: MoveBudget | None = None,
    budgets: Iterable[DisruptionBudget] = (),
    strategy: str = "",
) -> Plan | None:
    """The cheapest plan found after which the waiting claim fits; None where there is none.

    On each node as few claims as necessary are moved away; those that cost most stay if they can.
    """
    limit = budget or MoveBudget()
    if chosen := decide(cluster, claim, strategy=strategy):
        return Plan((), (), chosen)
    best: Plan | None = None
    for node in range(len(cluster.inventory.nodes)):
        draft = _Draft(cluster, limit, Budgets(cluster, budgets), strategy)
        plan = _room_on(draft, claim, node, best)
        best = plan or best
    return best


# --- one waiting claim


def _room_on(draft: _Draft, claim: Claim, node: int, best: Plan | None) -> Plan | None:
    """A plan with room on that node, where it is cheaper than the best so far."""
    cluster = draft.cluster
    within = Candidates(nodes=of(len(cluster.inventory.nodes), [node]))
    away = _who_goes(draft, claim, node, within)
    if away is None or len(away) > draft.budget.moves:
        return None
    if best and (_cost_of(cluster, away), len(away)) >= (best.cost_mib, len(best.moves)):
        return None
    with cluster.trial():
        draft.closed_nodes.add(node)
        if not _move_all(draft, away, candidates=_open(draft)):
            return None
        chosen = decide(cluster, claim, strategy=draft.strategy, within=within)
        return Plan(tuple(draft.moves), (), chosen) if chosen else None


def _who_goes(draft: _Draft, claim: Claim, node: int, within: Candidates) -> list[str] | None:
    """An irreducible set of claims without which the waiting one fits; the costliest stay if they can."""
    cluster = draft.cluster
    candidates = [unit for unit in units_on(cluster, node, lambda _: True) if len(unit.members) == 1]
    movable = sorted(candidates, key=lambda unit: (-_cost_of(cluster, unit.names), unit.names))

    def fits_without(units: Sequence[Unit]) -> bool:
        with cluster.trial():
            for unit in units:
                cluster.release(unit.names[0])
            return fits(cluster, claim, within=within)

    if not movable or not fits_without(movable):
        return None
    away = list(movable)
    for unit in movable:
        fewer = [each for each in away if each is not unit]
        if fits_without(fewer):
            away = fewer
    return [unit.names[0] for unit in away]


# --- emptying


def _could_go(draft: _Draft, flat: int) -> bool:
    """Whether each claim on a card would find room on some shared card, whatever its host has left: if not,
    nothing needs to be tried. Asked once for claims that are alike, until something moves."""
    cluster = draft.cluster
    if draft.asked_at != len(draft.moves):
        draft.room.clear()
        draft.asked_at = len(draft.moves)
    for name in _names_on(cluster, flat):
        claim = replace(cluster.held(name).claim, name="any", host=HostNeeds(), runs_on="", spread=None)
        key = replace(claim, priority=0, workload="", apart=())
        if key not in draft.room:
            draft.room[key] = fits(cluster, key, within=_open(draft, shared_only=True))
        if not draft.room[key]:
            return False
    return True


def _sources(cluster: Cluster) -> list[int]:
    """Shared cards, the cheapest to empty first. Who has a whole card needs another one."""
    shared = [
        flat
        for flat in range(len(cluster.inventory.devices))
        if cluster.holdings(flat) and cluster.holdings(flat)[0].mechanism is not Mechanism.WHOLE
    ]
    return sorted(shared, key=lambda flat: (_cost_of(cluster, _names_on(cluster, flat)), flat))


def _names_on(cluster: Cluster, flat: int) -> list[str]:
    return sorted(each.claim for each in cluster.holdings(flat))


def _cost_of(cluster: Cluster, names: Iterable[str]) -> int:
    return sum(move_cost(cluster.held(name)) for name in names)


def _empty(
    draft: _Draft,
    devices: Sequence[int],
    names: Sequence[str],
    *,
    shared_only: bool = False,
    busy_nodes: bool = False,
) -> bool:
    """Moves everybody away from the devices, or leaves everything as it was."""
    draft.closed_devices.update(devices)
    if names and _move_all(
        draft, sorted(names), candidates=_open(draft, shared_only=shared_only, busy_nodes=busy_nodes)
    ):
        return True
    draft.closed_devices.difference_update(devices)
    return False


def _open(draft: _Draft, *, shared_only: bool = False, busy_nodes: bool = False) -> Candidates:
    """Where claims may be moved to."""
    inventory = draft.cluster.inventory
    cluster = draft.cluster
    devices = bytearray(b"\1") * len(inventory.devices)
    if shared_only:
        devices = bytearray(cluster.live("shared", lambda flat: bool(cluster.holdings(flat))))
    for flat in draft.closed_devices:
        devices[flat] = 0
    nodes: Mask = None
    if draft.closed_nodes or busy_nodes:
        nodes = bytes(
            number not in draft.closed_nodes and (not busy_nodes or bool(cluster.on_node(number)))
            for number in range(len(inventory.nodes))
        )
    return Candidates(nodes, bytes(devices))


def _move_all(draft: _Draft, names: Sequence[str], *, candidates: Candidates) -> bool:
    """Moves each claim into the candidates, or none. The moves join the draft."""
    units = [Unit((draft.cluster.held(name),)) for name in names]
    made: list[Move] = []
    if all(_may_move(unit.members[0]) for unit in units) and draft.budgets.allow(units):
        for unit in units:
            move = _moved(draft, unit.members[0], candidates)
            if move is None:
                break
            made.append(move)
            if not draft.budget.allows([*draft.moves, *made]):
                break
        else:
            draft.moves.extend(made)
            draft.budgets.take(units)
            return True
    _take_back(draft.cluster, made)
    return False


def _may_move(held: Held) -> bool:
    return not held.claim.protected and not held.gang


def _moved(draft: _Draft, held: Held, candidates: Candidates) -> Move | None:
    cluster = draft.cluster
    cluster.release(held.claim.name)
    chosen = decide(cluster, held.claim, strategy=draft.strategy, within=candidates)
    cluster.reserve(held.claim, chosen.grant if chosen else held.grant)
    if held.committed:
        cluster.commit(held.claim.name)
    return Move(held.claim, held.grant, chosen.grant, move_cost(held)) if chosen else None


def _take_back(cluster: Cluster, moves: Sequence[Move]) -> None:
    for move in _backwards(moves):
        cluster.release(move.claim.name)
        cluster.reserve(move.claim, move.source)


def _backwards(moves: Sequence[Move]) -> Iterator[Move]:
    yield from reversed(moves)
