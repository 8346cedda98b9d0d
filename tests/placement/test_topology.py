"""Closeness, gangs, separation and preferences: what is chosen among what is legal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from aliquot.catalog import by_key
from aliquot.model import (
    Apart,
    Claim,
    ComputeRequest,
    Constraints,
    DeviceNeeds,
    Gang,
    Grant,
    HostNeeds,
    LabelRule,
    Nearness,
    Node,
    NodeDevice,
    Oversubscription,
    Pool,
    Spread,
    TopologyWish,
    VramRequest,
    percent,
)
from aliquot.placement.closeness import loss
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import decide
from aliquot.placement.explaining import explain_refusal
from aliquot.placement.gangs import Together, decide_gang
from aliquot.placement.hardware import facts_of
from aliquot.placement.inventory import Inventory
from aliquot.placement.reasons import Reason

MODELS = {key: facts_of(by_key(key)) for key in ("t4", "l4", "h100", "a100-80", "mi300x")}


def node(name: str, *devices: NodeDevice, cpu: int = 64, pool: str = "default", **network: str) -> Node:
    return Node(
        name=name, cpu_milli=cpu * 1000, memory_mib=2**20, devices=devices, pool=pool, network=network
    )


def row(model: str, islands: str = "", roots: str = "", numa: str = "") -> tuple[NodeDevice, ...]:
    """Devices whose connections are written as one letter each."""
    count = max(len(islands), len(roots), len(numa))
    return tuple(
        NodeDevice(
            model=model,
            island=islands[place : place + 1],
            pcie_root=roots[place : place + 1],
            numa=int(numa[place]) if numa else -1,
        )
        for place in range(count)
    )


def cluster_of(*nodes: Node, pools: Sequence[Pool] = ()) -> Cluster:
    return Cluster(Inventory(nodes, pools, models=MODELS))


def whole(name: str, count: int = 1, **more: object) -> Claim:
    return replace(Claim(name=name, devices=DeviceNeeds(count=count)), **more)


def part(name: str, share: float, **more: object) -> Claim:
    return replace(Claim(name=name, devices=DeviceNeeds(compute=ComputeRequest(part=percent(share)))), **more)


def put(cluster: Cluster, claim: Claim) -> Grant:
    chosen = decide(cluster, claim)
    assert chosen, explain_refusal(cluster, claim).text
    cluster.reserve(claim, chosen.grant)
    return chosen.grant


def where(grant: Grant) -> tuple[str, list[int]]:
    return grant.node, [each.index for each in grant.devices]


@pytest.mark.parametrize(
    ("free", "taken", "lost"), [(1, 1, 0), (2, 1, 1), (3, 1, 0), (4, 1, 2), (8, 1, 3), (8, 2, 3), (3, 2, 1)]
)
def test_what_a_group_loses(free: int, taken: int, lost: int) -> None:
    assert loss(free, taken) == lost


def test_single_cards_do_not_break_good_groups() -> None:
    cluster = cluster_of(node("a", *row("h100", "xxxxyyyz")), node("b", *row("h100", "xxxx")))
    singles = [where(put(cluster, whole(f"single-{number}"))) for number in range(2)]
    assert ("a", [7]) in singles, "the device that is linked to nobody"
    assert {node for node, _ in singles} == {"a"}
    assert any(devices[0] in (4, 5, 6) for _, devices in singles), "the odd one of three"
    assert where(put(cluster, part("share", 30)))[1][0] in (4, 5, 6), "a pair goes before a four"
    assert where(put(cluster, whole("four", 4))) in (("a", [0, 1, 2, 3]), ("b", [0, 1, 2, 3]))


def test_several_cards_come_from_one_island_and_the_smallest_that_suffices() -> None:
    cluster = cluster_of(node("big", *row("h100", "xxxxxxxx")), node("small", *row("h100", "xxyyy")))
    assert where(put(cluster, whole("pair", 2))) == ("small", [0, 1])
    assert where(put(cluster, whole("next", 2)))[0] == "small"
    assert where(put(cluster, whole("eight", 8)))[0] == "big"


def test_a_wish_goes_from_links_to_pcie_to_numa_to_the_host() -> None:
    claim = whole("pair", 2)
    scattered = node("scattered", *row("h100", "", "", "01"))
    numa = node("numa", *row("h100", "", "", "0011"))
    pcie = node("pcie", *row("h100", "", "ppqq", "0000"))
    linked = node("linked", *row("h100", "abab", "pqrs", "0123"))
    assert where(put(cluster_of(scattered, numa, pcie, linked), claim))[0] == "linked"
    assert where(put(cluster_of(scattered, numa, pcie), claim))[0] == "pcie"
    assert where(put(cluster_of(scattered, numa), claim))[0] == "numa"
    assert where(put(cluster_of(scattered), claim))[0] == "scattered"


def test_a_condition_refuses_what_is_too_far() -> None:
    cluster = cluster_of(node("a", *row("h100", "", "pq", "00")))
    near = whole("near", 2, topology=TopologyWish(nearness=Nearness.PCIE, required=True))
    assert decide(cluster, near) is None
    refusal = explain_refusal(cluster, near)
    assert refusal.devices == {Reason.TOPOLOGY: 2}
    assert [each.what for each in refusal.remedies] == ["count", "topology"]
    wider = replace(near, topology=TopologyWish(nearness=Nearness.NUMA, required=True))
    assert decide(cluster, wider)


def gang(count: int, least: int, cards: int = 2, **more: object) -> Gang:
    members = tuple(whole(f"m{number}", cards) for number in range(count))
    return replace(Gang(name="g", members=members, min_members=least), **more)


def nodes_of(together: Together) -> set[str]:
    return {each.grant.node for each in together.chosen}


def racks() -> Cluster:
    return cluster_of(
        node("a1", *row("h100", "xx"), zone="a", rack="1"),
        node("a2", *row("h100", "xxxx"), zone="a", rack="2"),
        node("a3", *row("h100", "xx"), zone="a", rack="2"),
        node("b1", *row("h100", "xxxxxxxx"), zone="b", rack="1"),
    )


def test_a_gang_stays_in_the_tightest_rack_that_holds_it() -> None:
    together = decide_gang(racks(), gang(3, 3, within="rack"))
    assert (nodes_of(together), together.place) == ({"a2", "a3"}, "a/2")
    together = decide_gang(racks(), gang(4, 4, within="rack"))
    assert (nodes_of(together), together.place) == ({"b1"}, "b/1"), "rack 1 of zone a is another one"


def test_a_gang_that_prefers_a_rack_goes_wider_and_one_that_needs_it_is_refused() -> None:
    cluster = racks()
    put(cluster, whole("taken", 6, constraints=Constraints(nodes=("b1",))))
    wide = decide_gang(cluster, gang(4, 4, within="rack", required=False))
    assert (nodes_of(wide), wide.place) == ({"a1", "a2", "a3"}, "a")
    refused = decide_gang(cluster, gang(4, 4, within="rack"))
    assert not refused.chosen
    assert refused.reason.startswith("3 of 4 members fit within one rack, 4 are needed; ")
    assert sorted(cluster.claims) == ["taken"]


def test_a_gang_is_placed_with_its_minimum_or_not_at_all() -> None:
    cluster = cluster_of(node("a", *row("h100", "xxxxx")))
    together = decide_gang(cluster, gang(4, 2))
    assert len(together.chosen) == 2
    assert [claim.name for claim in together.waiting] == ["m2", "m3"]
    assert decide_gang(cluster, gang(4, 3)).chosen == ()
    assert not cluster.claims


def test_replicas_are_spread_evenly_over_racks() -> None:
    cluster = racks()
    spread = Spread(level="rack")
    racks_used = [
        put(cluster, part(f"r{number}", 10, workload="web", spread=spread)).node for number in range(6)
    ]
    counts = Counter("a2" if name == "a3" else name for name in racks_used)
    assert counts == {"a1": 2, "a2": 2, "b1": 2}


def test_anti_affinity_holds_both_ways_and_a_preference_gives_way() -> None:
    cluster = cluster_of(node("a", *row("t4", "", "", "00")), node("b", *row("t4", "", "", "00")))
    shy = part("shy", 10, workload="shy", apart=(Apart(workloads=("loud",)),))
    loud = part("loud", 10, workload="loud")
    first = put(cluster, shy).node
    assert put(cluster, loud).node != first
    assert decide(cluster, replace(shy, name="shy-2", constraints=Constraints(nodes=(first,))))
    refused = replace(loud, name="loud-2", constraints=Constraints(nodes=(first,)))
    assert explain_refusal(cluster, refused).devices == {Reason.NODE_NAME: 2, Reason.APART: 2}
    polite = replace(shy, name="polite", apart=(Apart(workloads=("loud",), required=False),))
    assert put(cluster, polite).node == first
    alone = replace(polite, name="alone", constraints=Constraints(nodes=(cluster.held("loud").grant.node,)))
    assert decide(cluster, alone)


def test_anti_affinity_between_cards() -> None:
    cluster = cluster_of(node("a", *row("t4", "", "", "00")))
    apart = (Apart(workloads=("web",), level="device"),)
    used = [put(cluster, part(f"w{n}", 10, workload="web", apart=apart)).devices[0].index for n in range(2)]
    assert sorted(used) == [0, 1]
    third = part("w2", 10, workload="web", apart=apart)
    assert explain_refusal(cluster, third).devices == {Reason.APART: 2}


def test_lists_are_in_the_order_of_preference() -> None:
    cluster = cluster_of(
        node("a", *row("t4", "-"), pool="cheap"),
        node("b", *row("l4", "-"), pool="good"),
        replace(node("c", *row("h100", "-"), pool="good"), labels={"disk": "ssd"}),
    )

    def goes(**constraints: object) -> str:
        chosen = decide(cluster, part("c", 5, constraints=Constraints(**constraints)))  # pyright: ignore[reportArgumentType]
        assert chosen
        return chosen.grant.node

    assert goes(models=(("h100",), ("t4",))) == "c"
    assert goes(models=(("t4", "l4"), ("h100",)), pools=("good", "cheap")) == "b"
    assert goes(pools=("cheap", "good")) == "a"
    assert goes(nodes=("b", "a")) == "b"
    assert goes(devices=("c/0", "b/0")) == "c"
    assert goes(generations=("ada", "turing")) == "b"
    assert goes(node_labels=(LabelRule(key="disk", values=("ssd",)),)) == "c"


def test_a_program_elsewhere_takes_the_nearest_card_if_remote_is_allowed() -> None:
    cluster = cluster_of(
        node("desk", zone="a", rack="1"),
        node("far", *row("t4", "-"), zone="b", rack="1"),
        node("near", *row("t4", "-"), zone="a", rack="2"),
    )
    here = part("c", 10, runs_on="desk")
    assert explain_refusal(cluster, here).devices == {Reason.PROGRAM_HOST: 2}
    assert put(cluster, replace(here, remote=True)).node == "near"


def test_oversubscription_is_used_by_admission_per_resource() -> None:
    ratios = Oversubscription(compute=Fraction(2), cpu=Fraction(3, 2))
    cluster = cluster_of(
        node("a", *row("t4", "-"), cpu=4, pool="dense"), pools=[Pool(name="dense", oversubscription=ratios)]
    )

    def with_vram(name: str, compute: float, mib: int, cpu: int = 0) -> Claim:
        needs = DeviceNeeds(compute=ComputeRequest(part=percent(compute)), vram=VramRequest(mib=mib))
        return Claim(name=name, devices=needs, host=HostNeeds(cpu_milli=cpu))

    put(cluster, with_vram("a", 90, 5000, 3000))
    put(cluster, with_vram("b", 90, 5000, 3000))
    no_cpu, no_compute = with_vram("c", 10, 100, 1), with_vram("d", 30, 100)
    assert explain_refusal(cluster, no_cpu).devices == {Reason.HOST_CPU: 1}
    assert explain_refusal(cluster, no_compute).devices == {Reason.COMPUTE: 1}
    no_vram = with_vram("e", 10, 6000)
    refusal = explain_refusal(cluster, no_vram)
    assert refusal.devices == {Reason.VRAM: 1}
    assert refusal.text == "1 card: VRAM; would fit if 640 MiB less VRAM"
    put(cluster, with_vram("f", 20, 5360))


def test_refusals_are_in_counts_and_say_what_would_fit() -> None:
    cluster = cluster_of(
        *(node(f"h{n}", *row("h100", "xxxx")) for n in range(3)), node("m", *row("mi300x", "--", "", ""))
    )
    for number in range(12):
        needs = DeviceNeeds(compute=ComputeRequest(part=percent(10)), vram=VramRequest(mib=60 * 1024))
        put(
            cluster,
            Claim(name=f"c{number}", devices=needs, constraints=Constraints(models=(("h100",),))),
        )
    wanted = Claim(
        name="x",
        devices=DeviceNeeds(vram=VramRequest(mib=22 * 1024)),
        constraints=Constraints(models=(("h100",),)),
    )
    refusal = explain_refusal(cluster, wanted)
    assert refusal.text == ("12 cards: VRAM; 2: model; would fit if 2.4 GiB less VRAM or on another model")
    assert refusal.remedies[0].claim.devices.vram.mib == 81559 - 60 * 1024
