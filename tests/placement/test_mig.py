"""MIG placement: geometry as the catalogue has it, starts that keep large profiles possible."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.catalog import MigLayout, MigProfile, Model, by_key, catalog
from aliquot.model import (
    Claim,
    ComputeRequest,
    DeviceNeeds,
    Isolation,
    Mechanism,
    Node,
    NodeDevice,
    SharingWish,
    VramRequest,
    percent,
)
from aliquot.model.quantities import MIB
from aliquot.placement import mig
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import decide
from aliquot.placement.errors import CannotResizeError, IllegalGrantError
from aliquot.placement.explaining import explain_refusal
from aliquot.placement.hardware import facts_of
from aliquot.placement.inventory import Inventory
from aliquot.placement.reasons import Reason
from aliquot.placement.standing import grant_at

DIVISIBLE = [model for model in catalog().values() if model.mig]


def layout(key: str) -> MigLayout:
    found = by_key(key).mig
    assert found
    return found


def profile(key: str, name: str) -> MigProfile:
    found = mig.profile_of(layout(key), name)
    assert found
    return found


@pytest.mark.parametrize("model", DIVISIBLE, ids=lambda model: model.key)
@given(data=st.data())
def test_whatever_stands_legally_fits_the_card(model: Model, data: st.DataObject) -> None:
    """No legal division takes more memory, compute or multiprocessors than the card has."""
    assert model.mig
    held: list[mig.Instance] = []
    for name in data.draw(st.lists(st.sampled_from([each.name for each in model.mig.profiles]), max_size=9)):
        wanted = mig.profile_of(model.mig, name)
        assert wanted
        starts = mig.legal_starts(model.mig, held, wanted)
        if starts:
            held.append(mig.Instance(name, data.draw(st.sampled_from(starts))))
    profiles = [mig.profile_of(model.mig, each.profile) for each in held]
    assert mig.is_legal(model.mig, held)
    assert sum(each.memory_mib for each in profiles if each) <= model.memory.vram // MIB
    assert sum(mig.compute_milli(model.mig, each) for each in profiles if each) <= 1000
    assert sum(each.sm_count for each in profiles if each) <= (model.compute.sm_count or 0)


def test_instances_may_not_overlap_nor_begin_anywhere() -> None:
    a100 = layout("a100-80")
    assert mig.is_legal(a100, [mig.Instance("4g.40gb", 0), mig.Instance("3g.40gb", 4)])
    assert not mig.is_legal(a100, [mig.Instance("4g.40gb", 4)])
    assert not mig.is_legal(a100, [mig.Instance("2g.20gb", 1)])
    assert not mig.is_legal(a100, [mig.Instance("3g.40gb", 0), mig.Instance("1g.10gb", 3)])
    assert not mig.is_legal(a100, [mig.Instance("1g.10gb+me", 0), mig.Instance("1g.10gb+me", 1)])
    assert not mig.is_legal(a100, [mig.Instance("9g.90gb", 0)])


def test_a_start_keeps_the_most_possible() -> None:
    a100 = layout("a100-80")
    small = profile("a100-80", "1g.10gb")
    assert mig.best_start(a100, [], small) == 6, "4g at 0 stays possible"
    assert mig.best_start(a100, [], profile("a100-80", "3g.40gb")) == 4
    held = [mig.Instance("3g.40gb", 4)]
    assert mig.best_start(a100, held, profile("a100-80", "4g.40gb")) == 0
    assert mig.best_start(a100, [*held, mig.Instance("4g.40gb", 0)], small) is None


def test_filling_a_card_one_by_one_wastes_nothing() -> None:
    for order in product(["1g.5gb", "2g.10gb", "3g.20gb"], repeat=3):
        held: list[mig.Instance] = []
        for name in order:
            start = mig.best_start(layout("a100-40"), held, profile("a100-40", name))
            if start is not None:
                held.append(mig.Instance(name, start))
        slices = {"1g.5gb": 1, "2g.10gb": 2, "3g.20gb": 4}
        wanted = sum(slices[name] for name in order)
        if wanted <= 6:
            assert len(held) == 3, order


def cluster(*models: str) -> Cluster:
    devices = tuple(NodeDevice(model=model) for model in models)
    node = Node(name="n", cpu_milli=64000, memory_mib=2**20, devices=devices)
    return Cluster(Inventory([node], models={key: facts_of(model) for key, model in catalog().items()}))


def hard(name: str = "c", *, part: float = 0, mib: int = 0, profile: str = "") -> Claim:
    needs = DeviceNeeds(
        compute=ComputeRequest(part=percent(part)) if part else ComputeRequest(),
        vram=VramRequest(mib=mib) if mib else VramRequest(),
    )
    return Claim(
        name=name, devices=needs, sharing=SharingWish(isolation=Isolation.HARDWARE, mig_profile=profile)
    )


@pytest.mark.parametrize(
    ("model", "claim", "name"),
    [
        ("a100-80", hard(mib=9000), "1g.10gb"),
        ("a100-80", hard(mib=9000, part=20), "2g.20gb"),
        ("a100-80", hard(mib=18000), "1g.20gb"),
        ("a100-80", hard(part=30), "3g.40gb"),
        ("a100-80", hard(part=45), "4g.40gb"),
        ("a30", hard(mib=12000), "4g.24gb"),
        ("h100", hard(profile="1g.10gb+me"), "1g.10gb+me"),
    ],
)
def test_the_smallest_profile_that_suffices_is_taken(model: str, claim: Claim, name: str) -> None:
    chosen = decide(cluster(model), claim)
    assert chosen
    assert chosen.grant.mechanism is Mechanism.MIG
    assert chosen.grant.devices[0].mig_profile == name


def test_mig_does_not_mix_with_shares_and_refusals_name_the_geometry() -> None:
    both = cluster("a30", "t4")
    first = hard("first", profile="2g.12gb")
    chosen = decide(both, first)
    assert chosen
    both.reserve(first, chosen.grant)
    share = Claim(name="share", devices=DeviceNeeds(compute=ComputeRequest(part=percent(10))))
    elsewhere = decide(both, share)
    assert elsewhere
    assert elsewhere.grant.devices[0].index == 1
    both.reserve(hard("second", profile="1g.6gb"), grant_at(both, hard("second", profile="1g.6gb"), "n", [0]))
    refusal = explain_refusal(both, hard("third", profile="2g.12gb"))
    assert refusal.devices == {Reason.MECHANISM: 1, Reason.MIG_GEOMETRY: 1}
    with pytest.raises(IllegalGrantError, match="shared by another mechanism"):
        both.reserve(share, grant_at(both, share, "n", [0]))
    with pytest.raises(IllegalGrantError, match="cannot have a MIG instance"):
        both.reserve(
            hard("overlap", profile="1g.6gb"),
            grant_at(both, hard("overlap", profile="1g.6gb"), "n", [0], mig_starts=[2]),
        )


def test_an_instance_is_not_resized_into_another_profile() -> None:
    one = cluster("a100-80")
    claim = hard(mib=9000)
    one.reserve(claim, grant_at(one, claim, "n", [0]))
    one.resize(hard(mib=9800))
    with pytest.raises(CannotResizeError, match="another MIG profile"):
        one.resize(hard(mib=12000))
    assert one.held("c").grant.devices[0].mig_profile == "1g.10gb"
