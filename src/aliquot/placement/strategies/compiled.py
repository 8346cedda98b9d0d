"""Chooses in the compiled core: the same results as `Scorer`, from scores that are kept."""

from __future__ import annotations

from ctypes import byref, c_double, c_int32, c_uint32
from typing import Any

from aliquot.placement.demand import Demand
from aliquot.placement.packing import core
from aliquot.placement.packing.compiled import CompiledPacking, CoreHandle, check
from aliquot.placement.packing.shapes import Choice, Placement
from aliquot.placement.packing.state import Packing, taken
from aliquot.placement.strategies.mix import Mix
from aliquot.placement.strategies.outlook import Outlook
from aliquot.placement.strategies.scorer import Scorer
from aliquot.placement.strategies.strategy import DEFAULT, DEVICES, TERMS, Strategy


class CompiledScorer(Scorer):
    """Scores live in the core. Raises `NotInstalledError` where there is no core."""

    def __init__(
        self,
        packing: CompiledPacking,
        by: Strategy | str = DEFAULT,
        *,
        mix: Mix | None = None,
        seed: int = 0,
    ) -> None:
        """`mix` is what is likely to come; without one it is learned from what `observe` is told."""
        self._library = core.library()
        self._core: CoreHandle | None = None
        self._compiled = packing
        self._found = core.CoreChoice()
        super().__init__(packing, by, mix=mix, seed=seed)
        if self._core is None:
            self._core = self._made()

    def choose(
        self, demand: Demand, node_mask: bytes | None = None, device_mask: bytes | None = None
    ) -> Choice | None:
        """The best choice among nodes and devices whose byte is not 0; None where the demand fits nowhere."""
        self._compiled.check_masks(node_mask, device_mask)
        found = self._found
        number = self._compiled.number_of(demand)
        check(self._library.aliquot_scorer_choose(self._handle, number, node_mask, device_mask, byref(found)))
        return None if found.node == core.NOWHERE else self._choice(demand, number, found)

    def choices(
        self,
        demand: Demand,
        node_mask: bytes | None = None,
        device_mask: bytes | None = None,
        most: int | None = None,
    ) -> list[Choice]:
        """The best choice on each node that has one: the best first, ties by node; at most `most`."""
        self._compiled.check_masks(node_mask, device_mask)
        most = self._compiled.node_count if most is None else min(most, self._compiled.node_count)
        found, count = (core.CoreChoice * max(1, most))(), c_uint32()
        number = self._compiled.number_of(demand)
        status = self._library.aliquot_scorer_choices(
            self._handle, number, node_mask, device_mask, found, most, byref(count)
        )
        check(status)
        return [self._choice(demand, number, each) for each in found[: count.value]]

    def place(self, demand: Demand) -> tuple[int, int] | None:
        """Chooses and takes in one step, with no reservation: node and device bits. For simulations."""
        found = self._found
        check(
            self._library.aliquot_scorer_place(self._handle, self._compiled.number_of(demand), byref(found))
        )
        return None if found.node == core.NOWHERE else (found.node, found.devices)

    def evaluate(self, placement: Placement) -> Choice:
        """The score of a placement that somebody else chose. Raises `DoesNotFitError`."""
        taken(self._compiled.free(placement.node), placement)
        bits = sum(1 << index for index in placement.devices)
        number = self._compiled.number_of(placement.demand)
        values = self._values(number, core.CoreChoice(placement.node, 0, bits, 0.0))
        score = 0.0
        for _, value in values:
            score += value
        return Choice(placement, score, values)

    def on(self, copy: Packing) -> CompiledScorer:
        """The same scorer for a copy of its packing: for asking what would happen."""
        assert isinstance(copy, CompiledPacking), "a copy of a compiled packing is compiled"
        other = CompiledScorer.__new__(CompiledScorer)
        other.strategy, other._packing, other._compiled = self.strategy, copy, copy
        other._seed, other._decisions, other._learned = self._seed, self._decisions, None
        other._outlook, other._library, other._found = self._outlook, self._library, core.CoreChoice()
        other._core = CoreHandle(
            self._library.aliquot_scorer_on(self._handle, copy.core_handle),
            self._library.aliquot_scorer_delete,
        )
        return other

    def fragmentation(self) -> float:
        """Free thousandths of devices that a typical claim cannot use, on average; 0 with no mix."""
        milli = c_double()
        check(self._library.aliquot_scorer_fragmentation(self._handle, byref(milli)))
        return milli.value

    @property
    def runs(self) -> int:
        """How often the outlook's sequences had to be run on a room since the mix was set."""
        return self._library.aliquot_scorer_runs(self._handle)

    def set_mix(self, mix: Mix) -> None:
        """From now on this mix is what is likely to come."""
        super().set_mix(mix)
        if self.strategy.looks_ahead:
            self._pass_on(self._outlook)

    @property
    def _handle(self) -> int:
        if self._core is None:
            self._core = self._made()
        return self._core.value

    def _made(self) -> CoreHandle:
        weights = self.strategy.weights
        terms = (c_int32 * max(1, len(weights)))(*(TERMS.index(name) for name, _ in weights))
        values = (c_double * max(1, len(weights)))(*(weight for _, weight in weights))
        made = self._library.aliquot_scorer_new(
            self._compiled.core_handle,
            terms,
            values,
            len(weights),
            DEVICES.index(self.strategy.devices),
            self._seed,
        )
        return CoreHandle(made, self._library.aliquot_scorer_delete)

    def _pass_on(self, outlook: Outlook) -> None:
        number = self._compiled.number_of
        drawn = [number(demand) for sequence in outlook.sequences for demand in sequence]
        typical = [(number(demand), weight) for demand, weight in outlook.typical]
        hosts = [(number(demand), weight) for demand, weight in outlook.hosts]
        arrays = core.outlook_arrays(drawn, typical, hosts)
        length = len(outlook.sequences[0]) if outlook.sequences else 0
        passed = core.CoreOutlook(
            arrays[0], len(outlook.sequences), length, arrays[1], len(typical), len(hosts), arrays[2]
        )
        check(self._library.aliquot_scorer_outlook(self._handle, byref(passed)))

    def _choice(self, demand: Demand, number: int, found: Any) -> Choice:
        bits: int = found.devices
        devices: list[int] = []
        while bits:
            devices.append((bits & -bits).bit_length() - 1)
            bits &= bits - 1
        placement = Placement(demand, found.node, tuple(devices))
        return Choice(placement, found.score, self._values(number, found))

    def _values(self, number: int, found: Any) -> tuple[tuple[str, float], ...]:
        weights = self.strategy.weights
        values = (c_double * max(1, len(weights)))()
        check(self._library.aliquot_scorer_explain(self._handle, number, byref(found), values))
        return tuple((name, value) for (name, _), value in zip(weights, values, strict=False))
