"""Small clusters and claims, drawn at random: as much variety as a brute-force oracle can follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from hypothesis import strategies as st

from aliquot.catalog import by_key
from aliquot.model import (
    Apart,
    CardMemory,
    Claim,
    ComputeRequest,
    Constraints,
    DeviceNeeds,
    HostNeeds,
    Isolation,
    LabelOperator,
    LabelRule,
    Mechanism,
    MigMode,
    Nearness,
    Node,
    NodeDevice,
    Oversubscription,
    Pool,
    SharingWish,
    Spread,
    TopologyWish,
    VramRequest,
    percent,
)
from aliquot.placement.hardware import ModelFacts, facts_of

MODELS: Mapping[str, ModelFacts] = {key: facts_of(by_key(key)) for key in ("t4", "a30", "a100-40", "mi300x")}
WORKLOADS = ("", "web", "batch")
LEVELS = ("node", "rack", "zone")

POOLS: Mapping[str, Pool] = {
    "plain": Pool(name="plain"),
    "dense": Pool(
        name="dense",
        oversubscription=Oversubscription(
            compute=Fraction(3, 2), vram=Fraction(5, 4), cpu=Fraction(2), memory=Fraction(1)
        ),
    ),
}


@st.composite
def devices(draw: st.DrawFn) -> NodeDevice:
    return NodeDevice(
        model=draw(st.sampled_from(sorted(MODELS))),
        island=draw(st.sampled_from(["", "x", "y"])),
        pcie_root=draw(st.sampled_from(["", "p", "q"])),
        numa=draw(st.sampled_from([-1, 0, 1])),
        labels={"disk": draw(st.sampled_from(["ssd", "none"]))},
        mig_mode=draw(st.sampled_from([MigMode.DYNAMIC, MigMode.DYNAMIC, MigMode.ON, MigMode.OFF])),
        cordoned=draw(st.sampled_from(["", "", "", "", "Xid 79"])),
    )


@st.composite
def clusters(draw: st.DrawFn) -> list[Node]:
    return [
        Node(
            name=f"n{number}",
            cpu_milli=draw(st.sampled_from([4000, 16000])),
            memory_mib=draw(st.sampled_from([8192, 65536])),
            devices=tuple(draw(st.lists(devices(), max_size=4))),
            pool=draw(st.sampled_from(sorted(POOLS))),
            labels={"disk": draw(st.sampled_from(["ssd", "none"]))},
            network=draw(
                st.sampled_from(
                    [
                        {},
                        {"zone": "a"},
                        {"zone": "a", "rack": "1"},
                        {"zone": "a", "rack": "2"},
                        {"zone": "b", "rack": "1"},
                    ]
                )
            ),
            timeslice_replicas=draw(st.sampled_from([0, 0, 2])),
            serves_remote=draw(st.booleans()),
            cordoned=draw(st.sampled_from(["", "", "", "", "maintenance"])),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


KEEPING_AWAY = [(Apart(workloads=("web",), level=level),) for level in ("device", "node", "rack")]


@st.composite
def uniform_clusters(draw: st.DrawFn) -> list[Node]:
    """Room for many shares: what packing, preemption and moves are about."""
    model = draw(st.sampled_from(["t4", "a30"]))
    count = draw(st.integers(1, 3))
    racks = draw(st.booleans())
    islands = draw(st.sampled_from(["xxx", "xyx", "xyy"]))
    return [
        Node(
            name=f"n{number}",
            cpu_milli=32000,
            memory_mib=65536,
            devices=tuple(
                NodeDevice(model=model, island=islands[index], numa=index % 2) for index in range(count)
            ),
            pool="plain",
            labels={"disk": "ssd"},
            network={"zone": "a", "rack": str(number % 2)} if racks else {},
        )
        for number in range(draw(st.integers(1, 3)))
    ]


@st.composite
def plain_claims(draw: st.DrawFn, name: str = "claim") -> Claim:
    """Shares of one or two cards without many wishes."""
    return Claim(
        name=name,
        devices=DeviceNeeds(
            count=draw(st.sampled_from([1, 1, 1, 2])),
            compute=ComputeRequest(part=percent(draw(st.sampled_from([20, 33.3333, 50, 60, 70, 100])))),
        ),
        host=HostNeeds(cpu_milli=draw(st.sampled_from([0, 0, 4000, 12000]))),
        topology=draw(st.sampled_from([TopologyWish(), TopologyWish(required=True)])),
        workload=draw(st.sampled_from(WORKLOADS)),
        apart=draw(st.sampled_from([(), (), (), *KEEPING_AWAY])),
        priority=draw(st.integers(0, 4)),
        protected=draw(st.sampled_from([False] * 6 + [True])),
    )


Situation = tuple[list[Node], list[Claim], Claim]
"""A cluster, claims that come to it, and one more."""


@st.composite
def crowded(draw: st.DrawFn) -> Situation:
    """Many shares on few cards, and somebody who matters more than most."""
    nodes = draw(uniform_clusters())
    arriving = [draw(plain_claims(name=f"c{number}")) for number in range(draw(st.integers(3, 9)))]
    return nodes, arriving, replace(draw(plain_claims()), priority=draw(st.integers(2, 6)))


@st.composite
def varied(draw: st.DrawFn) -> Situation:
    """Anything."""
    count = draw(st.integers(0, 9))
    arriving = [draw(any_claims(name=f"c{number}")) for number in range(count)]
    return draw(any_clusters()), arriving, draw(any_claims())


def situations() -> st.SearchStrategy[Situation]:
    return st.one_of(crowded(), crowded(), varied())


def any_clusters() -> st.SearchStrategy[list[Node]]:
    return st.one_of(uniform_clusters(), clusters())


def any_claims(name: str = "claim") -> st.SearchStrategy[Claim]:
    return st.one_of(plain_claims(name=name), claims(name=name))


COMPUTE = st.one_of(
    st.just(ComputeRequest()),
    st.builds(lambda part: ComputeRequest(part=percent(part)), st.sampled_from([0.01, 12.55, 30, 50, 100])),
    st.builds(lambda speed: ComputeRequest(tflops=speed), st.sampled_from([1.0, 20.0, 65.0, 200.0, 5000.0])),
)
VRAM = st.one_of(
    st.just(VramRequest()),
    st.builds(lambda mib: VramRequest(mib=mib), st.sampled_from([1, 4000, 9000, 15000, 20000, 90000])),
    st.builds(lambda part: VramRequest(part=percent(part)), st.sampled_from([10, 50])),
)


@st.composite
def constraints(draw: st.DrawFn) -> Constraints:
    return Constraints(
        models=tuple(draw(st.lists(st.sampled_from([("a30",), ("t4",), ("a100-40", "t4")]), max_size=2))),
        vendors=draw(st.sampled_from([(), (), ("nvidia",), ("amd", "nvidia")])),
        generations=draw(st.sampled_from([(), (), (), ("ampere",), ("turing", "ampere")])),
        pools=draw(st.sampled_from([(), (), ("dense",), ("dense", "plain")])),
        nodes=draw(st.sampled_from([(), (), (), ("n0", "n1"), ("n1",)])),
        devices=draw(st.sampled_from([(), (), (), ("n0/0", "n1/1"), ("n0/1", "n0/0", "n2/0")])),
        node_labels=draw(
            st.sampled_from(
                [
                    (),
                    (),
                    (LabelRule(key="disk", values=("ssd",)),),
                    (LabelRule(key="disk", values=("none", "ssd")),),
                ]
            )
        ),
        device_labels=draw(
            st.sampled_from(
                [(), (), (LabelRule(key="disk", operator=LabelOperator.NOT_IN, values=("ssd",)),)]
            )
        ),
        card_memory=draw(st.sampled_from([CardMemory(), CardMemory(), CardMemory(at_least_mib=20000)])),
    )


@st.composite
def sharing(draw: st.DrawFn) -> SharingWish:
    return draw(
        st.sampled_from(
            [
                SharingWish(),
                SharingWish(),
                SharingWish(isolation=Isolation.HARDWARE),
                SharingWish(isolation=Isolation.SOFTWARE),
                SharingWish(mig_profile="1g.5gb"),
                SharingWish(mig_profile="2g.12gb"),
                SharingWish(mechanisms=(Mechanism.MIG, Mechanism.LIMITER)),
                SharingWish(mechanisms=(Mechanism.TIMESLICE,)),
                SharingWish(mechanisms=(Mechanism.MPS, Mechanism.WHOLE)),
            ]
        )
    )


@st.composite
def claims(draw: st.DrawFn, name: str = "claim") -> Claim:
    workload = draw(st.sampled_from(WORKLOADS))
    return Claim(
        name=name,
        devices=DeviceNeeds(
            count=draw(st.sampled_from([0, 1, 1, 1, 2, 3])), compute=draw(COMPUTE), vram=draw(VRAM)
        ),
        host=HostNeeds(
            cpu_milli=draw(st.sampled_from([0, 1000, 6000])),
            memory_mib=draw(st.sampled_from([0, 1024, 30000])),
        ),
        constraints=draw(st.one_of(st.just(Constraints()), constraints())),
        sharing=draw(sharing()),
        topology=TopologyWish(nearness=draw(st.sampled_from(list(Nearness))), required=draw(st.booleans())),
        workload=workload,
        spread=draw(
            st.sampled_from(
                [None, None, Spread(level=draw(st.sampled_from(LEVELS)), required=draw(st.booleans()))]
            )
        )
        if workload
        else None,
        apart=draw(
            st.sampled_from(
                [
                    (),
                    (),
                    (Apart(workloads=("web",), level=draw(st.sampled_from(["device", *LEVELS]))),),
                    (Apart(workloads=("batch", "web"), required=False),),
                ]
            )
        ),
        priority=draw(st.integers(0, 3)),
        protected=draw(st.sampled_from([False, False, False, True])),
        runs_on=draw(st.sampled_from(["", "", "", "n0", "elsewhere"])),
        remote=draw(st.booleans()),
    )
