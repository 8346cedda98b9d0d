"""The numeric state: what is taken is given back, nothing is oversold, and copies are independent.

Everything runs on the reference and on the compiled core alike.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.placement.demand import Demand, Share, on_models
from aliquot.placement.packing import (
    DeviceShape,
    DoesNotFitError,
    NodeShape,
    Packing,
    Placement,
    make_packing,
)
from aliquot.placement.packing.compiled import CompiledPacking

KINDS = pytest.mark.parametrize("kind", [Packing, CompiledPacking])
TWO_CARDS = NodeShape(8000, 64_000, (DeviceShape(0, 1000, 16_384), DeviceShape(0, 1000, 16_384)))


def half(cpu: int = 1000, vram: int = 4096) -> Demand:
    return on_models([0], compute_milli=500, vram_mib=vram, cpu_milli=cpu, memory_mib=1024)


@KINDS
def test_what_is_reserved_is_gone_until_released(kind: type[Packing]) -> None:
    packing = kind([TWO_CARDS])
    handle = packing.reserve(Placement(half(), 0, (1,)))
    assert packing.free(0) == NodeShape(
        7000, 62_976, (DeviceShape(0, 1000, 16_384), DeviceShape(0, 500, 12_288))
    )
    assert packing.version(0) == 1
    assert packing.release(handle) == Placement(half(), 0, (1,))
    assert packing.free(0) == packing.capacity(0) == TWO_CARDS


@KINDS
def test_a_commit_changes_no_number(kind: type[Packing]) -> None:
    packing = kind([TWO_CARDS])
    handle = packing.reserve(Placement(half(), 0, (0,)))
    before = packing.free(0)
    packing.commit(handle)
    packing.commit(handle)
    assert packing.reservation(handle).committed
    assert packing.free(0) == before


@KINDS
@pytest.mark.parametrize(
    ("demand", "devices"),
    [
        (half(cpu=9000), (0,)),
        (half(vram=20_000), (0,)),
        (half(), (0, 1)),
        (half(), ()),
        (half(), (2,)),
        (on_models([1], compute_milli=100), (0,)),
        (on_models([0], compute_milli=1001), (0,)),
        (on_models([0], compute_milli=1000, count=2, memory_mib=64_001), (0, 1)),
    ],
)
def test_what_does_not_fit_changes_nothing(
    kind: type[Packing], demand: Demand, devices: tuple[int, ...]
) -> None:
    packing = kind([TWO_CARDS])
    with pytest.raises(DoesNotFitError):
        packing.reserve(Placement(demand, 0, devices))
    assert packing.free(0) == TWO_CARDS
    assert packing.reservations() == {}


@KINDS
def test_resizing_keeps_the_devices_or_changes_nothing(kind: type[Packing]) -> None:
    packing = kind([TWO_CARDS])
    handle = packing.reserve(Placement(half(), 0, (0,)))
    packing.reserve(Placement(half(), 0, (0,)))
    with pytest.raises(DoesNotFitError):
        packing.resize(handle, on_models([0], compute_milli=600))
    assert packing.reservation(handle).placement.demand == half()
    smaller = on_models([0], compute_milli=200, vram_mib=64)
    packing.resize(handle, smaller)
    assert packing.free(0).devices[0] == DeviceShape(0, 300, 16_384 - 4096 - 64)
    packing.release(handle)
    assert packing.free(0).devices[0] == DeviceShape(0, 500, 16_384 - 4096)


@KINDS
def test_a_handle_that_is_not_held_is_an_error(kind: type[Packing]) -> None:
    packing = kind([TWO_CARDS])
    handle = packing.reserve(Placement(half(), 0, (0,)))
    packing.release(handle)
    for call in (packing.release, packing.commit, packing.reservation):
        with pytest.raises(InvalidValueError, match="handle"):
            call(handle)


@KINDS
def test_a_copy_is_independent(kind: type[Packing]) -> None:
    packing = kind([TWO_CARDS])
    packing.reserve(Placement(half(), 0, (0,)))
    copy = packing.copy()
    held = copy.reserve(Placement(half(), 0, (1,)))
    assert packing.free(0).devices[1].compute_milli == 1000
    assert copy.free(0).devices[1].compute_milli == 500
    copy.release(held)
    assert copy.free(0) == packing.free(0)
    assert copy.add_node(TWO_CARDS) == 1
    assert packing.node_count == 1


@KINDS
def test_masks_leave_out_nodes_and_devices(kind: type[Packing]) -> None:
    packing = kind([TWO_CARDS, TWO_CARDS])
    whole = on_models([0], compute_milli=1000)
    assert packing.feasible(whole) == [0, 1]
    assert packing.feasible(whole, node_mask=bytes([0, 1])) == [1]
    assert packing.feasible(whole, device_mask=bytes([0, 1, 0, 0])) == [0]
    two = on_models([0], compute_milli=1000, count=2)
    assert packing.feasible(two, device_mask=bytes([0, 1, 1, 1])) == [1]
    assert packing.feasible(Demand(cpu_milli=8000), device_mask=bytes(4)) == [0, 1]


def test_a_mask_of_the_wrong_length_is_an_error() -> None:
    packing = CompiledPacking([TWO_CARDS])
    with pytest.raises(InvalidValueError, match="mask"):
        packing.feasible(half(), node_mask=b"\1\1")


@KINDS
def test_a_tflops_claim_costs_a_small_model_more(kind: type[Packing]) -> None:
    packing = kind([NodeShape(1000, 1000, (DeviceShape(0), DeviceShape(1)))])
    packing.reserve(Placement(on_models({0: 250, 1: 900}), 0, (1,)))
    assert packing.free(0).devices == (DeviceShape(0, 1000), DeviceShape(1, 100))


@KINDS
def test_an_oversubscribed_device_holds_more_than_a_whole_one(kind: type[Packing]) -> None:
    packing = kind([NodeShape(1000, 1000, (DeviceShape(0, 2000),))])
    whole = on_models([0], compute_milli=1000)
    packing.reserve(Placement(whole, 0, (0,)))
    packing.reserve(Placement(whole, 0, (0,)))
    assert packing.feasible(whole) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Demand(-1),
        lambda: Demand(count=1),
        lambda: Demand(shares=(Share(0, 1),)),
        lambda: Demand(count=1, shares=(Share(1, 1), Share(0, 1))),
        lambda: Demand(count=65, shares=(Share(0, 1),)),
        lambda: Demand(cpu_milli=2**31),
        lambda: NodeShape(0, -1),
        lambda: NodeShape(0, 0, (DeviceShape(0),) * 65),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidValueError):
        wrong()  # type: ignore[operator]


def test_the_compiled_core_is_used_where_it_is_there() -> None:
    assert isinstance(make_packing([TWO_CARDS]), CompiledPacking)


AMOUNTS = st.tuples(st.integers(0, 2000), st.integers(0, 5000), st.integers(0, 1200), st.integers(0, 900))


@given(st.lists(st.tuples(AMOUNTS, st.integers(0, 1), st.integers(0, 3), st.booleans()), max_size=25))
def test_the_core_and_the_reference_agree_on_every_change(
    steps: list[tuple[tuple[int, int, int, int], int, int, bool]],
) -> None:
    shapes = [
        NodeShape(6000, 9000, (DeviceShape(0, 1000, 800), DeviceShape(1, 1000, 1600))),
        NodeShape(3000, 9000, (DeviceShape(0, 1500, 800),) * 3),
    ]
    reference, compiled = Packing(shapes), CompiledPacking(shapes)
    held: list[int] = []
    for (cpu, memory, milli, vram), node, device, releases in steps:
        if releases and held:
            handle = held.pop(device % len(held))
            assert reference.release(handle) == compiled.release(handle)
        demand = Demand(cpu, memory, 1, (Share(device % 2, milli, vram),))
        placement = Placement(demand, node, (device,))
        results = [_reserved(packing, placement) for packing in (reference, compiled)]
        assert results[0] == results[1]
        if results[0] is not None:
            held.append(results[0])
        for each in range(2):
            assert reference.free(each) == compiled.free(each)
        assert reference.feasible(demand) == compiled.feasible(demand)
    for handle in held:
        reference.release(handle)
        compiled.release(handle)
    assert [compiled.free(node) for node in range(2)] == shapes


def _reserved(packing: Packing, placement: Placement) -> int | None:
    try:
        return packing.reserve(placement)
    except DoesNotFitError:
        return None
