"""Plans of moves: each move is legal when its turn comes, and the plan does what it says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.model import Claim, DeviceNeeds, DisruptionBudget
from aliquot.placement.cluster import Cluster
from aliquot.placement.defragmenting import (
    RESTART_MIB,
    MoveBudget,
    Plan,
    consolidate,
    free_cards,
    make_room,
    move_cost,
)

from .obvious import World, possible
from .test_preempting import BUDGETS, cards, share
from .test_rules import filled, snapshot
from .worlds import Situation, situations


def stand(cluster: Cluster, *where: tuple[Claim, str, int]) -> None:
    from aliquot.placement.standing import grant_at

    for claim, node, device in where:
        cluster.reserve(claim, grant_at(cluster, claim, node, [device]))


def carry_out(world: World, plan: Plan) -> None:
    """Makes the moves one by one; each must be legal in its turn."""
    for move in plan.moves:
        claim, source = world.held.pop(move.claim.name)
        assert source == move.source
        assert not claim.protected
        assert move.target in list(possible(world, claim))
        world.held[claim.name] = claim, move.target


def check_budgets(world: World, plan: Plan, budgets: list[DisruptionBudget]) -> None:
    for budget in budgets:
        moved = {move.claim.name for move in plan.moves if move.claim.workload == budget.workload}
        standing = sum(claim.workload == budget.workload for claim, _ in world.held.values())
        assert not moved or budget.max_disrupted is None or len(moved) <= budget.max_disrupted
        assert not moved or budget.min_available is None or standing - len(moved) >= budget.min_available


def free_in(world: World) -> set[str]:
    return {
        f"{node.name}/{index}"
        for node in world.nodes
        for index in range(len(node.devices))
        if not world.on(node.name, index)
    }


LIMITS = st.builds(MoveBudget, moves=st.integers(0, 4), cost_mib=st.sampled_from([0, 20_000, 2**40]))


@settings(max_examples=80, deadline=None)
@given(situation=situations(), budgets=BUDGETS, limit=LIMITS, count=st.integers(0, 3))
def test_cards_are_freed_by_legal_moves_within_the_budgets(
    situation: Situation,
    budgets: list[DisruptionBudget],
    limit: MoveBudget,
    count: int,
) -> None:
    nodes, arriving, _ = situation
    cluster, world = filled(nodes, arriving)
    before, was_free = snapshot(cluster), free_in(world)
    plan = free_cards(cluster, count, budget=limit, budgets=budgets)
    assert snapshot(cluster) == before
    assert limit.allows(plan.moves)
    check_budgets(world, plan, budgets)
    carry_out(world, plan)
    assert len(plan.freed) <= count
    assert bool(plan.freed) == bool(plan.moves)
    assert free_in(world) >= was_free | set(plan.freed)
    assert not was_free & set(plan.freed)


@settings(max_examples=80, deadline=None)
@given(situation=situations(), budgets=BUDGETS, limit=LIMITS)
def test_hosts_are_emptied_by_legal_moves_to_hosts_in_use(
    situation: Situation, budgets: list[DisruptionBudget], limit: MoveBudget
) -> None:
    nodes, arriving, _ = situation
    cluster, world = filled(nodes, arriving)
    before = snapshot(cluster)
    busy = {grant.node for _, grant in world.held.values()}
    plan = consolidate(cluster, budget=limit, budgets=budgets)
    assert snapshot(cluster) == before
    assert limit.allows(plan.moves)
    check_budgets(world, plan, budgets)
    carry_out(world, plan)
    assert {grant.node for _, grant in world.held.values()} == busy - set(plan.freed)


@settings(max_examples=80, deadline=None)
@given(situation=situations(), budgets=BUDGETS, limit=LIMITS)
def test_room_for_a_waiting_claim_is_made_by_legal_moves(
    situation: Situation,
    budgets: list[DisruptionBudget],
    limit: MoveBudget,
) -> None:
    nodes, arriving, claim = situation
    cluster, world = filled(nodes, arriving)
    before = snapshot(cluster)
    plan = make_room(cluster, claim, budget=limit, budgets=budgets)
    assert snapshot(cluster) == before
    if plan is None:
        assert not list(possible(world, claim))
        return
    assert limit.allows(plan.moves)
    check_budgets(world, plan, budgets)
    carry_out(world, plan)
    assert plan.placed
    assert plan.placed.grant in list(possible(world, claim))


def test_the_cheapest_card_is_freed_first() -> None:
    cluster = cards(3)
    stand(cluster, (share("a", 50), "n0", 0), (share("b", 20), "n0", 1), (share("c", 30), "n0", 2))
    plan = free_cards(cluster, 1)
    assert [(move.claim.name, move.target.devices[0].index) for move in plan.moves] == [("b", 0)]
    assert plan.freed == ("n0/1",)
    assert len(free_cards(cluster, 5).freed) == 2, "three shares of 100% need one card"


def test_moves_stay_within_the_cost() -> None:
    cluster = cards(2)
    stand(cluster, (share("a", 50), "n0", 0), (share("b", 20), "n0", 1))
    cost = move_cost(cluster.held("b"))
    assert cost == 15360 * 20 // 100
    assert free_cards(cluster, 1, budget=MoveBudget(cost_mib=cost)).moves
    assert not free_cards(cluster, 1, budget=MoveBudget(cost_mib=cost - 1)).moves
    assert not free_cards(cluster, 1, budget=MoveBudget(moves=0)).moves


def test_a_waiting_claim_for_two_whole_cards_is_made_room_for() -> None:
    cluster = cards(2, nodes=2)
    stand(cluster, (share("a", 50), "n0", 0), (share("b", 30), "n1", 0))
    waiting = Claim(name="pair", devices=DeviceNeeds(count=2))
    plan = make_room(cluster, waiting)
    assert plan is not None
    assert plan.placed is not None
    assert [move.claim.name for move in plan.moves] == ["b"]
    assert plan.placed.grant.node == "n1"


def test_the_protected_and_gangs_are_not_moved() -> None:
    cluster = cards(2, nodes=2)
    stand(cluster, (share("kept", 50, protected=True), "n0", 0))
    chosen = share("g-0", 30)
    from aliquot.placement.standing import grant_at

    cluster.reserve(chosen, grant_at(cluster, chosen, "n1", [0]), gang="g")
    assert make_room(cluster, Claim(name="pair", devices=DeviceNeeds(count=2))) is None
    assert not consolidate(cluster).moves


@pytest.mark.parametrize("whole", [True, False])
def test_what_has_to_restart_costs_more(whole: bool) -> None:
    cluster = cards(1)
    claim = Claim(name="c") if whole else share("c", 100)
    stand(cluster, (claim, "n0", 0))
    assert move_cost(cluster.held("c")) == 15360 + (RESTART_MIB if whole else 0)
