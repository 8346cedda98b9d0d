"""What strategies prefer, and that the compiled core decides as the reference does, bit by bit."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.placement.demand import Demand, on_models
from aliquot.placement.packing import DeviceShape, NodeShape, Packing, Placement
from aliquot.placement.packing.compiled import CompiledPacking
from aliquot.placement.strategies import (
    LearnedMix,
    Mix,
    OutlookParameters,
    Scorer,
    Strategy,
    strategies,
    strategy,
)
from aliquot.placement.strategies.compiled import CompiledScorer
from aliquot.placement.strategies.outlook import outlook_of
from aliquot.placement.strategies.terms import Terms

SHORT = OutlookParameters(sequences=20, length=6)


def cards(count: int, model: int = 0, cpu: int = 32_000) -> NodeShape:
    return NodeShape(cpu, 256_000, (DeviceShape(model),) * count)


def share(milli: int, cpu: int = 1000) -> Demand:
    return on_models([0], compute_milli=milli, cpu_milli=cpu)


def node_chosen(name: str, packing: Packing, demand: Demand, mix: Mix | None = None) -> int | None:
    by = replace(strategy(name), outlook=SHORT)
    choice = Scorer(packing, by, mix=mix).choose(demand)
    return choice.placement.node if choice else None


def used(shapes: list[NodeShape], *taken: tuple[int, int, int]) -> Packing:
    packing = Packing(shapes)
    for node, device, milli in taken:
        packing.reserve(Placement(share(milli), node, (device,)))
    return packing


def test_binpack_fills_and_spread_opens() -> None:
    packing = used([cards(2), cards(2)], (1, 0, 300))
    assert node_chosen("binpack", packing, share(300)) == 1
    assert node_chosen("spread", packing, share(300)) == 0


def test_pack_nodes_spread_devices_takes_the_emptiest_device_of_the_fullest_node() -> None:
    packing = used([cards(2), cards(2)], (1, 0, 300))
    choice = Scorer(packing, "pack-nodes-spread-devices").choose(share(300))
    assert choice is not None
    assert choice.placement == Placement(share(300), 1, (1,))


def test_best_fit_takes_the_node_with_the_least_left() -> None:
    packing = used([cards(8), cards(2), cards(4)])
    assert node_chosen("best-fit", packing, share(1000)) == 1


def test_packing_prefers_shared_devices_then_used_nodes() -> None:
    packing = used([cards(2), cards(2), cards(2)], (1, 0, 500), (2, 0, 900))
    assert node_chosen("gpu-packing", packing, share(400)) == 1
    assert node_chosen("gpu-packing", packing, share(600)) == 1
    assert node_chosen("gpu-packing", packing, share(1000)) == 1


def test_clustering_keeps_kinds_together() -> None:
    packing = used([cards(2), cards(2), cards(2)], (1, 0, 1000), (2, 0, 300))
    assert node_chosen("gpu-clustering", packing, share(200)) == 2
    assert node_chosen("gpu-clustering", packing, share(1000)) == 1


def test_fgd_and_default_leave_no_gap_that_nobody_fits() -> None:
    """Claims are 700 or 300: next to 700 the gap is used up, next to nothing it would be broken open."""
    mix = Mix({share(700): 1, share(300): 1})
    packing = used([cards(1), cards(1)], (1, 0, 700))
    for name in ("fgd", "fragmentation-gradient", "default"):
        assert node_chosen(name, packing, share(300), mix) == 1


def test_default_keeps_whole_nodes_for_claims_of_many_devices() -> None:
    eight = on_models([0], compute_milli=1000, count=8, cpu_milli=16_000)
    mix = Mix({eight: 1, share(1000): 6})
    packing = used([cards(8), cards(8)], (1, 0, 1000))
    assert node_chosen("default", packing, share(1000), mix) == 1


def test_nothing_that_fits_is_refused() -> None:
    packing = used([cards(1)], (0, 0, 950))
    mix = Mix({share(700): 1})
    for name in strategies():
        assert node_chosen(name, packing, share(50), mix) == 0, name
        assert node_chosen(name, packing, share(51), mix) is None, name


def test_the_score_is_the_sum_of_its_named_terms() -> None:
    packing = CompiledPacking([cards(2), cards(4)])
    by = Strategy.of({"best_fit": 2.0, "node_fill": -3.0, "cpu_fill": 0.5})
    for choice in packing.scorer(by).choices(share(400)):
        values = dict(choice.terms)
        assert list(values) == ["best_fit", "node_fill", "cpu_fill"]
        assert choice.score == sum(values.values())
        devices = len(packing.free(choice.placement.node).devices)
        assert values["node_fill"] == pytest.approx(-3.0 * 400 / (1000 * devices))


def test_choices_come_best_first_and_evaluate_agrees() -> None:
    packing = CompiledPacking([cards(2), cards(4), cards(1)])
    scorer = packing.scorer("binpack")
    choices = scorer.choices(share(400))
    assert [choice.placement.node for choice in choices] == [2, 0, 1]
    assert choices == [scorer.evaluate(choice.placement) for choice in choices]
    assert scorer.choices(share(400), most=1) == choices[:1]
    assert scorer.choose(share(400)) == choices[0]


def test_what_if_on_a_copy_changes_nothing() -> None:
    packing = CompiledPacking([cards(1), cards(1)])
    scorer = packing.scorer("binpack")
    copy = packing.copy()
    trial = scorer.on(copy)
    first = trial.choose(share(600))
    assert first is not None
    copy.reserve(first.placement)
    second = trial.choose(share(600))
    assert second is not None
    assert (first.placement.node, second.placement.node) == (0, 1)
    assert scorer.choose(share(600)) == first


def test_a_seed_decides_a_random_choice() -> None:
    packing = CompiledPacking([cards(4)] * 20)

    def drawn(seed: int) -> list[Placement]:
        scorer = packing.scorer("random", seed=seed)
        choices = [scorer.choose(share(100)) for _ in range(20)]
        return [choice.placement for choice in choices if choice]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len({placement.node for placement in drawn(1)}) > 5
    assert len({placement.devices for placement in drawn(1)}) == 4


@pytest.mark.parametrize("wrong", [{"loudness": 1.0}, {"": 1.0}])
def test_a_term_that_does_not_exist_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidValueError, match="not a term"):
        Strategy.of(wrong)


def test_a_strategy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="no strategy"):
        strategy("best")


# --- the mix


def test_a_learned_mix_follows_what_comes() -> None:
    learned = LearnedMix()
    one, other = share(100), share(200)
    for _ in range(7):
        learned.observe(one)
    assert learned.refreshed() is None
    learned.observe(one)
    first = learned.refreshed()
    assert first is not None
    assert first.frequencies == {one: 1.0}
    for _ in range(40):
        learned.observe(one)
    assert learned.refreshed() is None, "nothing moved"
    for _ in range(48):
        learned.observe(other)
    second = learned.refreshed()
    assert second is not None
    assert second.frequencies == {one: 0.5, other: 0.5}


def test_an_old_mix_is_forgotten() -> None:
    learned = LearnedMix()
    mixes = []
    for demand, count in ((share(100), 20_000), (share(200), 60_000)):
        for _ in range(count):
            learned.observe(demand)
            if mix := learned.refreshed():
                mixes.append(mix)
    assert mixes[-1].frequencies[share(200)] > 0.9


def test_a_default_scorer_with_no_mix_learns() -> None:
    eight = on_models([0], compute_milli=1000, count=8)
    for packing in (Packing([cards(8)] * 2), CompiledPacking([cards(8)] * 2)):
        scorer = packing.scorer(replace(strategy("default"), outlook=SHORT))
        for _ in range(40):
            scorer.observe(eight)
        choice = scorer.choose(share(300))
        assert choice is not None
        assert dict(choice.terms)["hosts"] < 0, (
            "an empty node that eight cards fit on has become worth something"
        )


def test_sequences_are_drawn_in_proportion() -> None:
    mix = Mix({share(100): 3, share(200): 1, Demand(1000): 4})
    parameters = OutlookParameters(sequences=100, length=10, cpu_only_weight=0.5)
    outlook = outlook_of(mix, {cards(1): 1}, parameters, seed=5)
    drawn = [demand for sequence in outlook.sequences for demand in sequence]
    counts = {demand: drawn.count(demand) for demand in mix.frequencies}
    assert counts == {
        share(100): pytest.approx(500, abs=1),
        share(200): pytest.approx(167, abs=1),
        Demand(1000): pytest.approx(333, abs=1),
    }
    assert outlook == outlook_of(mix, {cards(1): 1}, parameters, seed=5)
    assert outlook != outlook_of(mix, {cards(1): 1}, parameters, seed=6)


def test_the_potential_of_a_worked_example() -> None:
    """700, 300, 1000 onto gaps of 300 and 1000: 700 opens the whole card, 300 fills the small gap."""
    outlook = outlook_of(Mix({share(1): 1}), {}, OutlookParameters(1, 1), 0)
    outlook = replace(outlook, sequences=((share(700), share(300), share(1000)),))
    terms = Terms(outlook, {})
    room = NodeShape(32_000, 1000, (DeviceShape(0, 300), DeviceShape(0, 1000)))
    assert terms.filled(room) == 1000
    assert terms.filled(replace(room, cpu_milli=1000)) == 700
    assert terms.filled(NodeShape(32_000, 1000, (DeviceShape(0, 0),))) == 0


# --- the compiled core against the reference


def _world(generator: random.Random, with_vram: bool) -> tuple[list[NodeShape], list[Demand]]:
    vram = 16_000 if with_vram else 0
    shapes = []
    for _ in range(generator.randint(2, 7)):
        model = generator.randint(0, 2)
        devices = [
            DeviceShape(generator.randint(0, 2) if generator.random() < 0.1 else model, 1000, vram)
            for _ in range(generator.choice((0, 1, 2, 4, 8, 8, 10)))
        ]
        shapes.append(
            NodeShape(
                generator.choice((8000, 32_000, 96_000)), generator.choice((8000, 300_000)), tuple(devices)
            )
        )
    return shapes, [_demand(generator, vram) for _ in range(generator.randint(2, 9))]


def _demand(generator: random.Random, vram: int) -> Demand:
    cpu, memory = generator.choice((500, 2000, 7000)), generator.choice((100, 2000, 7000))
    count = generator.choice((0, 1, 1, 1, 1, 2, 4))
    if not count:
        return Demand(cpu, memory)
    models = generator.choice(([0, 1, 2], [0, 1, 2], [1], [0, 2]))
    milli = generator.choice((0, 50, 190, 300, 500, 810, 1000, 1000)) if count == 1 else 1000
    return on_models(
        {model: min(1000, milli * (model + 2) // 2) for model in models}
        if generator.random() < 0.2
        else models,
        compute_milli=milli,
        vram_mib=generator.choice((0, 1000, 9000)) if vram else 0,
        count=count,
        cpu_milli=cpu,
        memory_mib=memory,
    )


def _mask(generator: random.Random, count: int) -> bytes | None:
    if generator.random() < 0.6:
        return None
    return bytes(generator.random() < 0.7 for _ in range(count))


@pytest.mark.parametrize("name", [*strategies(), "custom"])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_core_decides_as_the_reference_does(name: str, seed: int) -> None:
    generator = random.Random(seed)
    shapes, demands = _world(generator, with_vram=generator.random() < 0.4)
    by = strategy(name) if name != "custom" else Strategy.of({"rollout": 1, "fgd": 0.1, "device_fill": 0.3})
    by = replace(by, outlook=SHORT)
    mix = Mix({demand: generator.random() + 0.01 for demand in demands})
    reference, compiled = Packing(shapes), CompiledPacking(shapes)
    slow = Scorer(reference, by, mix=mix, seed=seed & 0xFF)
    fast = CompiledScorer(compiled, by, mix=mix, seed=seed & 0xFF)
    held: list[int] = []
    for _ in range(14):
        demand = generator.choice(demands)
        masks = _mask(generator, reference.node_count), _mask(generator, reference.device_count)
        wanted = slow.choose(demand, *masks)
        assert fast.choose(demand, *masks) == wanted
        if generator.random() < 0.3:
            assert fast.choices(demand, *masks) == slow.choices(demand, *masks)
        if wanted is not None:
            assert fast.evaluate(wanted.placement).terms == slow.evaluate(wanted.placement).terms
            held.append(reference.reserve(wanted.placement))
            assert compiled.reserve(wanted.placement) == held[-1]
        if held and generator.random() < 0.35:
            handle = held.pop(generator.randrange(len(held)))
            assert reference.release(handle) == compiled.release(handle)
        assert fast.fragmentation() == slow.fragmentation()


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_core_learns_as_the_reference_does(seed: int) -> None:
    generator = random.Random(seed)
    shapes, demands = _world(generator, with_vram=False)
    by = replace(strategy("default"), outlook=SHORT)
    reference, compiled = Packing(shapes), CompiledPacking(shapes)
    slow, fast = Scorer(reference, by, seed=3), CompiledScorer(compiled, by, seed=3)
    for step in range(80):
        demand = generator.choice(demands)
        slow.observe(demand)
        fast.observe(demand)
        if step % 4:
            continue
        wanted = slow.choose(demand)
        assert fast.choose(demand) == wanted
        if wanted is not None:
            reference.reserve(wanted.placement)
            compiled.reserve(wanted.placement)


def test_a_node_that_is_added_later_is_weighed() -> None:
    packing = CompiledPacking([cards(1)])
    scorer = packing.scorer("binpack")
    assert scorer.choose(on_models([0], compute_milli=1000, count=2)) is None
    packing.add_node(cards(2))
    choice = scorer.choose(on_models([0], compute_milli=1000, count=2))
    assert choice is not None
    assert choice.placement == Placement(choice.placement.demand, 1, (0, 1))


def test_many_nodes_tie_to_the_lowest_in_the_core() -> None:
    """More nodes than one block of scores; releases must bring a block's best back."""
    packing = CompiledPacking([cards(2)] * 200)
    scorer = packing.scorer("spread")
    handles = []
    for node in range(200):
        choice = scorer.choose(share(300))
        assert choice is not None
        assert choice.placement.node == node
        handles.append(packing.reserve(choice.placement))
    packing.release(handles[130])
    packing.release(handles[77])
    choice = scorer.choose(share(300))
    assert choice is not None
    assert choice.placement.node == 77
