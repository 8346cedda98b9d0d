"""The rules against an obvious oracle: what fits is found, what is found is legal, all else refused."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.model import Claim, Node
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import decide, fits
from aliquot.placement.errors import CannotResizeError
from aliquot.placement.explaining import explain_refusal
from aliquot.placement.inventory import Inventory
from aliquot.placement.packing import DoesNotFitError

from .obvious import World, broken, possible
from .worlds import MODELS, POOLS, Situation, any_claims, any_clusters, situations


def both(nodes: list[Node]) -> tuple[Cluster, World]:
    return (
        Cluster(Inventory(nodes, POOLS.values(), models=MODELS)),
        World(nodes, dict(POOLS), MODELS),
    )


def filled(nodes: list[Node], arriving: list[Claim]) -> tuple[Cluster, World]:
    """A cluster on which those that fit stand, each where the oracle allows it."""
    cluster, world = both(nodes)
    for number, claim in enumerate(arriving):
        legal = list(possible(world, claim))
        if legal:
            grant = legal[7 * number % len(legal)]  # scattered, as no strategy would
            cluster.reserve(claim, grant)
            world.held[claim.name] = claim, grant
    return cluster, world


@settings(max_examples=200, deadline=None)
@given(situation=situations())
def test_a_claim_is_placed_where_it_is_legal_and_refused_only_where_nothing_is(situation: Situation) -> None:
    nodes, arriving, claim = situation
    cluster, world = filled(nodes, arriving)
    legal = list(possible(world, claim))
    chosen = decide(cluster, claim)
    assert fits(cluster, claim) == bool(legal)
    assert (chosen is not None) == bool(legal)
    if chosen:
        assert chosen.grant in legal
    else:
        check_refusal(cluster, world, claim)


def check_refusal(cluster: Cluster, world: World, claim: Claim) -> None:
    """Every device is counted once, and what is said to fit does."""
    refusal = explain_refusal(cluster, claim)
    counted = sum(refusal.devices.values())
    assert counted == (len(cluster.inventory.devices) if claim.devices.count else len(world.nodes))
    assert sum(sum(each.values()) for each in refusal.nodes.values()) == counted
    assert all(reason for reason in refusal.devices), "a device that is eligible is no reason"
    for remedy in refusal.remedies:
        assert list(possible(world, remedy.claim)), remedy.text


@settings(max_examples=80, deadline=None)
@given(nodes=any_clusters(), data=st.data())
def test_no_sequence_of_changes_breaks_an_invariant(nodes: list[Node], data: st.DataObject) -> None:
    cluster, world = both(nodes)
    for step in range(data.draw(st.integers(1, 14))):
        names = sorted(world.held)
        what = data.draw(st.sampled_from(["place", "place", "place", "release", "resize", "commit", "try"]))
        if what == "place":
            _place(cluster, world, data.draw(any_claims(name=f"c{step}")))
        elif what == "release" and names:
            name = data.draw(st.sampled_from(names))
            cluster.release(name)
            del world.held[name]
        elif what == "resize" and names:
            name = data.draw(st.sampled_from(names))
            _resize(cluster, world, data.draw(any_claims(name=name)))
        elif what == "commit" and names:
            cluster.commit(name := data.draw(st.sampled_from(names)))
            assert cluster.held(name).committed
        elif what == "try":
            _try(cluster, data)
        assert not broken(world)
        check_same(cluster, world)


def _place(cluster: Cluster, world: World, claim: Claim) -> None:
    chosen = decide(cluster, claim)
    assert (chosen is not None) == any(True for _ in possible(world, claim))
    if chosen:
        cluster.reserve(claim, chosen.grant)
        world.held[claim.name] = claim, chosen.grant


def _resize(cluster: Cluster, world: World, claim: Claim) -> None:
    try:
        grant = cluster.resize(claim)
    except (CannotResizeError, DoesNotFitError):
        return
    world.held[claim.name] = claim, grant


def _try(cluster: Cluster, data: st.DataObject) -> None:
    """Whatever is done in a trial leaves no trace."""
    before = snapshot(cluster)
    with cluster.trial():
        for number in range(data.draw(st.integers(0, 4))):
            names = sorted(cluster.claims)
            what = data.draw(st.sampled_from(["place", "release", "resize"]))
            if what == "release" and names:
                cluster.release(data.draw(st.sampled_from(names)))
            elif what == "resize" and names:
                with suppress(CannotResizeError, DoesNotFitError):
                    cluster.resize(data.draw(any_claims(name=data.draw(st.sampled_from(names)))))
            elif chosen := decide(cluster, claim := data.draw(any_claims(name=f"trial{number}"))):
                cluster.reserve(claim, chosen.grant)
    assert snapshot(cluster) == before


def snapshot(cluster: Cluster) -> object:
    inventory = cluster.inventory
    return (
        [cluster.packing.free(node) for node in range(len(inventory.nodes))],
        [frozenset(cluster.holdings(flat)) for flat in range(len(inventory.devices))],
        {name: (held.claim, held.grant, held.committed) for name, held in cluster.claims.items()},
        [frozenset(cluster.on_node(node)) for node in range(len(inventory.nodes))],
        {workload: cluster.nodes_of(workload) for workload in ("web", "batch")},
        frozenset(held.claim.name for held in cluster.guarded),
    )


def check_same(cluster: Cluster, world: World) -> None:
    """The state's numbers are what the held grants say."""
    assert {name: held.grant for name, held in cluster.claims.items()} == {
        name: grant for name, (_, grant) in world.held.items()
    }
    for number, node in enumerate(world.nodes):
        free, full = cluster.packing.free(number), cluster.packing.capacity(number)
        there = [grant for _, grant in world.held.values() if grant.node == node.name]
        assert full.cpu_milli - free.cpu_milli == sum(grant.cpu_milli for grant in there)
        for index in range(len(node.devices)):
            slices = world.on(node.name, index)
            used = full.devices[index].compute_milli - free.devices[index].compute_milli
            assert used == sum(each.compute_milli for _, _, each in slices)
            assert {each.claim for each in cluster.holdings(cluster.inventory.flat(number, index))} == {
                claim.name for claim, _, _ in slices
            }


@settings(max_examples=60, deadline=None)
@given(situation=situations())
def test_a_copy_answers_alike_and_is_independent(situation: Situation) -> None:
    nodes, arriving, claim = situation
    cluster, _ = filled(nodes, arriving)
    before = snapshot(cluster)
    copy = cluster.copy()
    assert snapshot(copy) == before
    chosen = decide(copy, claim)
    assert chosen == decide(cluster, claim)
    if chosen:
        copy.reserve(claim, chosen.grant)
    for name in sorted(cluster.claims):
        copy.release(name)
    assert snapshot(cluster) == before
