"""Preemption against every set of victims there is: the cheapest, within budgets, and never in vain."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.model import (
    Claim,
    ComputeRequest,
    DeviceNeeds,
    DisruptionBudget,
    Gang,
    Node,
    NodeDevice,
    percent,
)
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import decide
from aliquot.placement.inventory import Inventory
from aliquot.placement.preempting import Preemption, preempt, preempt_gang

from .obvious import World, possible
from .test_rules import filled, snapshot
from .worlds import MODELS, Situation, situations

BUDGETS = st.lists(
    st.builds(
        DisruptionBudget,
        workload=st.sampled_from(["web", "batch"]),
        max_disrupted=st.sampled_from([0, 1, 2]),
        min_available=st.sampled_from([None, 1]),
    ),
    max_size=2,
)


def share(name: str, part: float, *, priority: int = 0, workload: str = "", protected: bool = False) -> Claim:
    return Claim(
        name=name,
        devices=DeviceNeeds(compute=ComputeRequest(part=percent(part))),
        priority=priority,
        workload=workload,
        protected=protected,
    )


def cards(count: int, nodes: int = 1) -> Cluster:
    devices = (NodeDevice(model="t4"),) * count
    all_nodes = [Node(name=f"n{n}", cpu_milli=64000, memory_mib=65536, devices=devices) for n in range(nodes)]
    return Cluster(Inventory(all_nodes, models=MODELS))


def put(cluster: Cluster, *standing: Claim, gang: str = "") -> None:
    for claim in standing:
        chosen = decide(cluster, claim)
        assert chosen
        cluster.reserve(claim, chosen.grant, gang=gang)


def victims(found: Preemption | None) -> list[str] | None:
    return None if found is None else [held.claim.name for held in found.victims]


def cheapest_by_force(
    world: World, claim: Claim, budgets: list[DisruptionBudget]
) -> tuple[int, int, int] | None:
    """The least cost over all sets on all nodes."""
    best = None
    for node in world.nodes:
        lower = [
            (other, grant)
            for other, grant in world.held.values()
            if grant.node == node.name and other.priority < claim.priority and not other.protected
        ]
        for size in range(1, len(lower) + 1):
            for chosen in combinations(lower, size):
                left = {name: held for name, held in world.held.items() if held not in chosen}
                after = World(world.nodes, world.pools, world.models, left)
                gone = Counter(other.workload for other, _ in chosen)
                standing = Counter(other.workload for other, _ in world.held.values())
                respected = all(
                    (each.max_disrupted is None or gone[each.workload] <= each.max_disrupted)
                    and (
                        each.min_available is None
                        or standing[each.workload] - gone[each.workload] >= each.min_available
                    )
                    for each in budgets
                    if gone[each.workload]
                )
                if not respected or not any(grant.node == node.name for grant in possible(after, claim)):
                    continue
                milli = sum(each.compute_milli for _, grant in chosen for each in grant.devices)
                cost = (max(other.priority for other, _ in chosen), size, milli)
                best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=120, deadline=None)
@given(situation=situations(), budgets=BUDGETS)
def test_the_cheapest_victims_are_found_and_nobody_goes_in_vain(
    situation: Situation, budgets: list[DisruptionBudget]
) -> None:
    nodes, arriving, claim = situation
    cluster, world = filled(nodes, arriving)
    before = snapshot(cluster)
    found = preempt(cluster, claim, budgets=budgets)
    assert snapshot(cluster) == before
    if any(True for _ in possible(world, claim)):
        assert found is not None
        assert not found.victims
        return
    best = cheapest_by_force(world, claim, budgets)
    assert (found is None) == (best is None)
    if found:
        assert found.certain
        milli = sum(each.compute_milli for held in found.victims for each in held.grant.devices)
        priorities = [held.claim.priority for held in found.victims]
        assert (max(priorities), len(priorities), milli) == best
        for held in found.victims:
            del world.held[held.claim.name]
        assert found.chosen.grant in list(possible(world, claim))


def test_a_lower_priority_goes_rather_than_fewer_claims() -> None:
    cluster = cards(2)
    put(
        cluster,
        share("high", 100, priority=5),
        share("low-a", 50, priority=1),
        share("low-b", 50, priority=1),
    )
    found = preempt(cluster, share("urgent", 100, priority=9))
    assert victims(found) == ["low-a", "low-b"]


def test_of_equal_priority_fewer_claims_go_then_the_smaller() -> None:
    cluster = cards(2)
    put(cluster, share("a", 60), share("big", 90), share("b", 40))
    assert victims(preempt(cluster, share("urgent", 80, priority=1))) == ["big"]
    assert victims(preempt(cluster, share("small", 30, priority=1))) == ["b"]


def test_the_protected_and_equals_stay() -> None:
    cluster = cards(1)
    put(cluster, share("kept", 60, protected=True), share("equal", 40, priority=3))
    assert preempt(cluster, share("urgent", 50, priority=3)) is None
    assert preempt(cluster, share("whole", 100, priority=9)) is None
    assert victims(preempt(cluster, share("some", 40, priority=4))) == ["equal"]


def test_a_budget_leads_to_other_victims_or_to_none() -> None:
    cluster = cards(2)
    put(cluster, share("web-0", 70, workload="web"), share("web-1", 70, workload="web", priority=1))
    urgent = share("urgent", 90, priority=9)
    assert victims(preempt(cluster, urgent)) == ["web-0"]
    assert preempt(cluster, urgent, budgets=[DisruptionBudget(workload="web", min_available=2)]) is None
    put(cluster, share("batch", 30, workload="batch"))
    keep_one = [DisruptionBudget(workload="web", max_disrupted=1)]
    both_cards = Claim(name="pair", devices=DeviceNeeds(count=2), priority=9)
    assert preempt(cluster, both_cards, budgets=keep_one) is None
    assert victims(preempt(cluster, both_cards)) == ["batch", "web-0", "web-1"]


def test_a_gang_goes_as_a_whole() -> None:
    cluster = cards(1, nodes=2)
    put(cluster, share("g-0", 60), share("g-1", 60), gang="g")
    assert victims(preempt(cluster, share("urgent", 80, priority=1))) == ["g-0", "g-1"]


def test_a_gang_preempts_for_all_its_members_or_for_none() -> None:
    cluster = cards(1, nodes=2)
    put(cluster, share("a", 60), share("b", 60, priority=4))
    members = (share("m-0", 80, priority=5), share("m-1", 80, priority=5))
    together = preempt_gang(cluster, Gang(name="m", members=members, min_members=2))
    assert together is not None
    assert [victims(each) for each in together] == [["a"], ["b"]]
    weaker = tuple(share(f"w-{n}", 80, priority=3) for n in range(2))
    assert preempt_gang(cluster, Gang(name="w", members=weaker, min_members=2)) is None
    assert sorted(cluster.claims) == ["a", "b"]
