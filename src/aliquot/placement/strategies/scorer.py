"""Chooses by a strategy's score, in the slow, obvious form: the oracle of the compiled scorer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aliquot.placement.demand import Demand
from aliquot.placement.packing.shapes import Choice, NodeShape, Placement
from aliquot.placement.packing.state import Packing, taken
from aliquot.placement.strategies.mix import LearnedMix, Mix
from aliquot.placement.strategies.outlook import Outlook, holds, outlook_of
from aliquot.placement.strategies.strategy import DEFAULT, Strategy, strategy
from aliquot.placement.strategies.terms import Candidate, Terms, kind_of, scrambled

_WORD = 2**64 - 1


class Scorer:
    """Weighs every option on every node at every call; keeps no score."""

    def __init__(
        self,
        packing: Packing,
        by: Strategy | str = DEFAULT,
        *,
        mix: Mix | None = None,
        seed: int = 0,
    ) -> None:
        """`mix` is what is likely to come; without one it is learned from what `observe` is told."""
        self.strategy = strategy(by) if isinstance(by, str) else by
        self._packing = packing
        self._seed = seed
        self._decisions = 0
        self._learned = LearnedMix() if mix is None and self.strategy.looks_ahead else None
        self._outlook = Outlook()
        if mix is not None:
            self.set_mix(mix)

    def set_mix(self, mix: Mix) -> None:
        """From now on this mix is what is likely to come."""
        if self.strategy.looks_ahead:
            shapes = Counter(map(self._packing.capacity, range(self._packing.node_count)))
            self._outlook = outlook_of(mix, shapes, self.strategy.outlook, self._seed)

    def observe(self, demand: Demand) -> None:
        """A claim arrived. Counts where no mix was given; no difference otherwise."""
        if self._learned is not None:
            self._learned.observe(demand)
            if (mix := self._learned.refreshed()) is not None:
                self.set_mix(mix)

    def choose(
        self, demand: Demand, node_mask: bytes | None = None, device_mask: bytes | None = None
    ) -> Choice | None:
        """The best choice among nodes and devices whose byte is not 0; None where the demand fits nowhere."""
        return next(iter(self.choices(demand, node_mask, device_mask, most=1)), None)

    def choices(
        self,
        demand: Demand,
        node_mask: bytes | None = None,
        device_mask: bytes | None = None,
        most: int | None = None,
    ) -> list[Choice]:
        """The best choice on each node that has one: the best first, ties by node; at most `most`."""
        self._decisions += 1
        terms = self._terms()
        found: list[Choice] = []
        for node in self._packing.feasible(demand, node_mask, device_mask):
            options = [self._scored(terms, option) for option in self._options(demand, node, device_mask)]
            found.append(max(options, key=lambda choice: choice.score))  # the first of equals
        found.sort(key=lambda choice: (-choice.score, choice.placement.node))
        return found[:most]

    def evaluate(self, placement: Placement) -> Choice:
        """The score of a placement that somebody else chose. Raises `DoesNotFitError`."""
        taken(self._packing.free(placement.node), placement)
        return self._scored(self._terms(), placement)

    def fragmentation(self) -> float:
        """Free thousandths of devices that a typical claim cannot use, on average; 0 with no mix."""
        terms = self._terms()
        rooms = (_sorted(self._packing.free(node)) for node in range(self._packing.node_count))
        total = 0.0
        for room in rooms:
            total += terms.fragmentation(room)
        return total

    def on(self, copy: Packing) -> Scorer:
        """The same scorer for a copy of its packing: for asking what would happen."""
        other = Scorer(copy, self.strategy, seed=self._seed)
        other._learned, other._outlook, other._decisions = None, self._outlook, self._decisions
        return other

    def _terms(self) -> Terms:
        vram: dict[int, int] = {}
        for node in range(self._packing.node_count):
            for device in self._packing.capacity(node).devices:
                vram[device.model] = max(vram.get(device.model, 0), device.vram_mib)
        return Terms(self._outlook, vram)

    def _options(self, demand: Demand, node: int, mask: bytes | None) -> Iterator[Placement]:
        """What is worth weighing on one node: each distinct gap, or for several devices both ends."""
        if not demand.count:
            yield Placement(demand, node)
            return
        if self.strategy.devices == "random":
            yield self._random_option(demand, node, mask)
            return
        for chosen in self._device_sets(demand, node, mask):
            yield Placement(demand, node, tuple(sorted(chosen)))
            if self.strategy.devices == "smallest":
                return

    def _device_sets(self, demand: Demand, node: int, mask: bytes | None) -> Iterator[list[int]]:
        devices = self._packing.free(node).devices
        for share in demand.shares:
            fitting = self._packing.fitting_devices(demand, node, share.model, mask)
            fitting.sort(key=lambda index: (devices[index], index))
            if len(fitting) < demand.count:
                continue
            if demand.count == 1:
                for at, index in enumerate(fitting):
                    if at == 0 or devices[fitting[at - 1]] != devices[index]:
                        yield [index]
                continue
            yield fitting[: demand.count]
            if devices[fitting[0]] != devices[fitting[-1]]:
                yield fitting[-demand.count :]

    def _random_option(self, demand: Demand, node: int, mask: bytes | None) -> Placement:
        if demand.count > 1:
            return Placement(demand, node, tuple(sorted(next(self._device_sets(demand, node, mask)))))
        devices = self._packing.free(node).devices
        order = sorted(range(len(devices)), key=lambda index: (devices[index], index))
        seed = scrambled(self._decision_seed() ^ node ^ (1 << 32))
        allowed = self._packing.first_device(node)
        fitting = [
            (scrambled((seed + at) & _WORD) | 1, -at, index)
            for at, index in enumerate(order)
            if any(holds(devices[index], share) for share in demand.shares)
            and (mask is None or mask[allowed + index])
        ]
        return Placement(demand, node, (max(fitting)[2],))

    def _decision_seed(self) -> int:
        return scrambled((self._seed + self._decisions) & _WORD)

    def _scored(self, terms: Terms, placement: Placement) -> Choice:
        free = self._packing.free(placement.node)
        order = sorted(range(len(free.devices)), key=lambda index: (free.devices[index], index))
        candidate = Candidate(
            demand=placement.demand,
            before=_sorted(free),
            after=_sorted(taken(free, placement)),
            chosen=tuple(at for at, index in enumerate(order) if index in placement.devices),
            node=placement.node,
            kinds=self._kinds(placement.node),
            seed=self._decision_seed(),
        )
        values = [(name, weight * terms.value(name, candidate)) for name, weight in self.strategy.weights]
        score = 0.0
        for _, value in values:
            score += value
        return Choice(placement, score, tuple(values))

    def _kinds(self, node: int) -> Counter[int]:
        held = (each.placement for each in self._packing.reservations().values())
        kinds = Counter(kind_of(placement.demand) for placement in held if placement.node == node)
        kinds.pop(-1, None)
        return kinds


def _sorted(room: NodeShape) -> NodeShape:
    return NodeShape(room.cpu_milli, room.memory_mib, tuple(sorted(room.devices)))
