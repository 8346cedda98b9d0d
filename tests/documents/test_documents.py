"""Documents: what people may write, and what they are told where it is wrong."""

from __future__ import annotations

from fractions import Fraction

import pytest

from aliquot.catalog import UnknownModelError, catalog
from aliquot.documents import DocumentError, Vocabulary, read_claims, read_state
from aliquot.errors import AliquotError, InvalidValueError
from aliquot.model import (
    Claim,
    ComputeRequest,
    DisruptionBudget,
    Gang,
    LabelOperator,
    LabelRule,
    Mechanism,
    MigMode,
    Nearness,
    VramRequest,
    percent,
)
from aliquot.model.quantities import MIB

WORDS = Vocabulary()


def claim(text: str) -> Claim:
    (found,) = read_claims(text, "claim.yaml", WORDS)
    assert isinstance(found, Claim)
    return found


def refused(text: str) -> AliquotError:
    with pytest.raises(InvalidValueError) as caught:
        read_claims(text, "claim.yaml", WORDS)
    return caught.value


def test_a_claim_with_everything() -> None:
    found = claim("""
name: training
devices: H100,A100:80GB:2
compute: {request: 20%, limit: 50%}
vram: {request: 24GB, limit: 32Gi}
cpu: 1500m
memory: 64Gi
generations: [Hopper, ampere]
pools: research
nodes: [a, b]
named: [a/0, GPU-1]
node_labels: {disk: ssd, zone: [x, y]}
device_labels: [{key: burnt-in, operator: Exists}]
isolation: software
mechanisms: limiter
topology: {nearness: link, required: true}
workload: train
spread: rack
apart: [{workloads: search, level: device, required: false}]
qos: High
priority: 7
protected: true
runs_on: desk
remote: true
""")
    assert found.devices.count == 2
    assert found.devices.compute == ComputeRequest(part=percent(20))
    assert found.devices.compute_limit == ComputeRequest(part=percent(50))
    assert found.devices.vram == VramRequest(mib=22889), "24 * 10^9 bytes, rounded up to a MiB"
    assert found.devices.vram_limit == VramRequest(mib=32768)
    assert (found.host.cpu_milli, found.host.memory_mib) == (1500, 65536)
    wanted = found.constraints
    assert wanted.models == (("h100", "h100-pcie"), ("a100-80", "a100-40"))
    assert wanted.card_memory.accepts(81920)
    assert wanted.card_memory.accepts(81559)
    assert not wanted.card_memory.accepts(40960)
    assert wanted.generations == ("hopper", "ampere")
    assert (wanted.pools, wanted.nodes, wanted.devices) == (("research",), ("a", "b"), ("a/0", "GPU-1"))
    assert wanted.node_labels == (
        LabelRule(key="disk", values=("ssd",)),
        LabelRule(key="zone", values=("x", "y")),
    )
    assert wanted.device_labels == (LabelRule(key="burnt-in", operator=LabelOperator.EXISTS),)
    assert found.sharing.mechanisms == (Mechanism.LIMITER,)
    assert (found.topology.nearness, found.topology.required) == (Nearness.LINK, True)
    assert found.spread
    assert found.spread.level == "rack"
    assert (found.apart[0].workloads, found.apart[0].level, found.apart[0].required) == (
        ("search",),
        "device",
        False,
    )
    assert (found.qos, found.priority, found.protected) == ("high", 7, True)
    assert (found.runs_on, found.remote) == ("desk", True)


@pytest.mark.parametrize(
    ("line", "count", "compute", "models", "vendors", "sizes"),
    [
        ("H100:2", 2, ComputeRequest(), (("h100", "h100-pcie"),), (), (0, 0)),
        ("24GB..", 1, ComputeRequest(), (), (), (22888, 0)),
        ("20TFLOPS", 1, ComputeRequest(tflops=20.0), (), (), (0, 0)),
        ("30%", 1, ComputeRequest(part=percent(30)), (), (), (0, 0)),
        ("4", 4, ComputeRequest(), (), (), (0, 0)),
        ("nvidia:16GB..24GB:2", 2, ComputeRequest(), (), ("nvidia",), (15258, 24719)),
        ("..16GB", 1, ComputeRequest(), (), (), (0, 16479)),
        ("A100-40 : 12.5%", 1, ComputeRequest(part=percent(12.5)), (("a100-40",),), (), (0, 0)),
        ("v100", 1, ComputeRequest(), (("v100-16", "v100-32"),), (), (0, 0)),
        ("H100-SXM", 1, ComputeRequest(), (("h100",),), (), (0, 0)),
    ],
)
def test_devices_in_one_line(
    line: str,
    count: int,
    compute: ComputeRequest,
    models: tuple[tuple[str, ...], ...],
    vendors: tuple[str, ...],
    sizes: tuple[int, int],
) -> None:
    found = claim(f"name: c\ndevices: '{line}'")
    wanted = found.constraints
    assert (found.devices.count, found.devices.compute) == (count, compute)
    assert (wanted.models, wanted.vendors) == (models, vendors)
    assert (wanted.card_memory.at_least_mib, wanted.card_memory.at_most_mib) == sizes


def test_every_card_of_the_catalogue_is_of_the_size_that_it_is_sold_with() -> None:
    for model in catalog().values():
        name, vram = model.memory.nominal_gb, model.memory.vram // MIB
        for size, fits in ((name, True), (name * 7 // 8, False), (name * 9 // 8, False)):
            wanted = claim(f"name: c\ndevices: {size}GB").constraints.card_memory
            assert wanted.accepts(vram) == fits, (model.key, size)


@pytest.mark.parametrize(("qos", "rank"), [("low", 0), ("", 1), ("critical", 3)])
def test_a_level_of_service_is_a_priority_where_none_is_said(qos: str, rank: int) -> None:
    said = f"name: c\nqos: {qos}" if qos else "name: c"
    assert claim(said).priority == rank
    assert claim(f"{said}\npriority: -5").priority == -5


def test_gangs_and_several_documents() -> None:
    text = "name: g\ncount: 2\ngang: {members: 3, min_members: 2, within: rack}\n---\nname: other\n---\n"
    gang, other = read_claims(text, "claim.yaml", WORDS)
    assert isinstance(gang, Gang)
    assert [member.name for member in gang.members] == ["g-0", "g-1", "g-2"]
    assert {member.workload for member in gang.members} == {"g"}
    assert (gang.min_members, gang.within, gang.required) == (2, "rack", True)
    assert isinstance(other, Claim)


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("", "there is no claim in it", "at least a name"),
        ("- a\n- b", "a mapping is expected here, not list", ""),
        ("name: [", "line 1", "YAML"),
        ("name: c\nname: d", "line 2: the key 'name' stands here twice", ""),
        ("count: 1", "name: field required", ""),
        ("name: c\nvarm: 8Gi", "varm: there is no such key", "known keys: name, devices"),
        ("name: c\nvram: 8", "vram.request: 8 has no unit", "16Gi"),
        ("name: c\nvram: lots", "vram.request: 'lots' is not a size", "2Gi"),
        ("name: c\nvram: 0Gi", "no VRAM at all", "leave vram out"),
        ("name: c\ncompute: 30", "'30' is not an amount of compute", "30% or 20TFLOPS"),
        ("name: c\ncompute: 130%", "more than 0% and at most 100%", ""),
        ("name: c\ncpu: four", "cpu: 'four' is not a number of CPU cores", "500m"),
        ("name: c\ncpu: yes", "cpu: True is not a number of CPU cores", ""),
        ("name: c\ncpu: 0.00001", "is not a number of CPU cores", ""),
        ("name: c\ndevices: 'H100:2:3'", "says the number of devices twice", "H100:2"),
        ("name: c\ndevices: 'H100:?'", "'?' is neither a name, a number", "H100:2"),
        ("name: c\ndevices: '24GB..16GB'", "at least 22888 MiB and at most", "smaller size first"),
        ("name: c\ndevices: 'H100:2'\ncount: 3", "said twice", "leave out count"),
        ("name: c\ndevices: '30%'\ncompute: 20%", "compute is said twice", ""),
        ("name: c\ncount: 65", "65 is not a number of devices of one host", "a gang"),
        ("name: c\nisolation: hardware\nmechanisms: limiter", "limiter gives software isolation", "mig or"),
        ("name: c\nspread: rack", "spreading counts the claims of a workload", "workload: NAME"),
        ("name: c\nqos: gold", "there is no QoS level 'gold'", "low, medium, high, critical"),
        ("name: c\npriority: 2000000000", "is not a priority", ""),
        ("name: c\nmechanisms: magic", "mechanisms[0]: input should be", ""),
        ("name: c\nnode_labels: [{key: a, operator: In}]", "a rule on label 'a'", "need values"),
        ("name: c\ngang: {members: 2, min_members: 3}", "wants at least 3", "1 to the number"),
        ("name: c\ntopology: {nearness: warm}", "nearness: input should be 'link'", ""),
        ("!!python/object/apply:os.system [true]", "could not determine a constructor", "YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_what_to_do(text: str, reason: str, hint: str) -> None:
    error = refused(text)
    assert error.reason.startswith("claim.yaml")
    assert reason in error.reason
    assert hint in error.hint
    assert error.code in ("invalid-document", "invalid-value")


def test_an_unknown_model_is_told_with_those_that_look_like_it() -> None:
    error = refused("name: c\nmodels: [h1oo]")
    assert isinstance(error, UnknownModelError)
    assert error.code == "unknown-model"
    assert "h100" in error.hint


STATE = """
models: [{key: Edge, vendor: NVIDIA, tflops: 8, vram: 8GB}]
pools: [{name: dense, oversubscription: {compute: 1.5, vram: 120%}, strategy: binpack, keep_groups: false}]
nodes:
  - name: a
    pool: dense
    cpu: 8
    memory: 32Gi
    devices: [h100:2, {model: edge, uuid: GPU-7, labels: {x: y}, mig: "off", cordoned: Xid 79}]
    islands: [[0, 1]]
    pcie: [[0], [1, 2]]
    numa: [[0, 1], [2]]
    network: {zone: z, rack: r}
    timeslice_replicas: 4
  - {name: b, count: 2, cpu: 4, memory: 8Gi}
claims:
  - {name: held, compute: 10%, at: {node: a, devices: [2]}, committed: false}
budgets: [{workload: w, min_available: 1}]
strategies: [{name: mine, weights: {best_fit: 2, free_after: 0.5}}]
"""


def test_a_state_with_everything() -> None:
    state = read_state(STATE, "state.yaml")
    a, b0, b1 = state.nodes
    assert (b0.name, b1.name, b0.devices) == ("b-0", "b-1", ())
    assert [device.model for device in a.devices] == ["h100", "h100", "edge"]
    assert [device.island for device in a.devices] == ["island0", "island0", ""]
    assert [device.pcie_root for device in a.devices] == ["root0", "root1", "root1"]
    assert [device.numa for device in a.devices] == [0, 0, 1]
    assert a.devices[2].mig_mode is MigMode.OFF
    assert a.devices[2].cordoned == "Xid 79"
    assert list(a.network) == ["zone", "rack"]
    (pool,) = state.pools
    assert (pool.oversubscription.compute, pool.oversubscription.vram) == (Fraction(3, 2), Fraction(6, 5))
    assert (pool.strategy, pool.keep_groups) == ("binpack", False)
    assert state.vocabulary.models["edge"].vram_mib == 7630
    (held,) = state.standing
    assert (held.node, held.devices, held.mechanism, held.committed) == ("a", (2,), None, False)
    assert state.strategies["mine"].weights == (("best_fit", 2.0), ("free_after", 0.5))
    assert state.budgets == (DisruptionBudget(workload="w", min_available=1),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "one document is expected, not 0"),
        ("nodes: []\n---\nnodes: []", "one document is expected, not 2"),
        ("pools: []", "nodes: field required"),
        ("nodes: [{name: a, cpu: 1, memory: 1Gi, devices: [h100x]}]", "unknown model 'h100x'"),
        ("nodes: [{name: a, cpu: 1, memory: 1Gi, devices: ['30%']}]", "does not name the devices"),
        ("nodes: [{name: a, cpu: 1, memory: 1Gi, devices: [t4], islands: [[0, 1]]}]", "do not divide"),
        ("nodes: [{name: a, cpu: 1, memory: 1Gi, devices: [t4], numa: [[0], [0]]}]", "do not divide"),
        (
            "nodes: [{name: a, cpu: 1, memory: 1Gi, devices: [{model: t4, count: 2, uuid: u}]}]",
            "the same UUID",
        ),
        (
            "nodes: [{name: a, cpu: 1, memory: 1}]",
            "nodes[0].memory: 1 has no unit",
        ),
        (
            "nodes: [{name: a, cpu: 1, memory: 1Gi}]\nclaims: [{name: c, at: {node: a}}]",
            "claim c has 0 devices and asks for 1",
        ),
        ("nodes: []\npools: [{name: p, oversubscription: {vram: 0.5}}]", "at least 1 and at most 100"),
        ("nodes: []\nstrategies: [{name: s, weights: {luck: 1}}]", "'luck' is not a term"),
        ("nodes: []\nbudgets: [{workload: w}]", "max_disrupted, min_available or both"),
    ],
)
def test_a_wrong_state_is_told_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        read_state(text, "state.yaml")
    assert caught.value.reason.startswith("state.yaml")
    assert reason in caught.value.reason


def test_what_is_documented_as_an_error_type() -> None:
    with pytest.raises(DocumentError):
        read_state("nodes: 3", "state.yaml")
