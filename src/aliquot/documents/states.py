"""The state of a cluster as people write it: models, pools, nodes, and the claims that hold something.

    pools: [{name: research, oversubscription: {compute: 1.5}}]
    nodes:
      - {name: gpu-a, pool: research, cpu: 64, memory: 512Gi, devices: [h100:4], islands: [[0, 1], [2, 3]]}
    claims:
      - {name: chat, compute: 30%, vram: 20Gi, at: {node: gpu-a, devices: [0]}}

`docs/placement-rules.md` lists all keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from aliquot.documents.claims import ClaimDocument
from aliquot.documents.fields import CpuMilli, Mib, Ratio
from aliquot.documents.reading import DocumentError, Strict, checked, in_place, load_all
from aliquot.documents.vocabulary import Vocabulary
from aliquot.errors import InvalidValueError
from aliquot.model import (
    Claim,
    DisruptionBudget,
    Mechanism,
    MigMode,
    Node,
    NodeDevice,
    Oversubscription,
    Pool,
    parse_device_specification,
)
from aliquot.placement.hardware import ModelFacts
from aliquot.placement.strategies import Strategy

Groups = tuple[tuple[int, ...], ...]


class ModelDocument(Strict):
    """A model that the catalogue lacks."""

    key: str
    vendor: str = ""
    generation: str = ""
    tflops: float = Field(0.0, ge=0)
    vram: Mib = 0

    def facts(self) -> ModelFacts:
        """As placing sees it."""
        return ModelFacts(
            key=self.key.lower(),
            vendor=self.vendor.lower(),
            generation=self.generation.lower(),
            tflops=self.tflops,
            vram_mib=self.vram,
        )


class OversubscriptionDocument(Strict):
    """`{compute: 1.5, vram: 1.2}`."""

    compute: Ratio = Oversubscription().compute
    vram: Ratio = Oversubscription().vram
    cpu: Ratio = Oversubscription().cpu
    memory: Ratio = Oversubscription().memory


class PoolDocument(Strict):
    """A pool of nodes."""

    name: str
    oversubscription: OversubscriptionDocument = OversubscriptionDocument()
    strategy: str = ""
    keep_groups: bool = True

    def pool(self) -> Pool:
        """As placing sees it."""
        ratios = Oversubscription(**dict(self.oversubscription))
        return Pool(
            name=self.name, oversubscription=ratios, strategy=self.strategy, keep_groups=self.keep_groups
        )


class DeviceDocument(Strict):
    """One device, or `count` alike; `h100:8` is short for the model and the count."""

    model: str
    count: int = Field(1, ge=1, le=64)
    uuid: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    mig: MigMode = MigMode.DYNAMIC
    cordoned: str = ""

    def devices(self, vocabulary: Vocabulary) -> list[NodeDevice]:
        """Raises `UnknownModelError`, and `InvalidValueError` where several would have one UUID."""
        if self.uuid and self.count > 1:
            raise InvalidValueError(f"{self.count} devices cannot have the same UUID {self.uuid}")
        one = NodeDevice(
            model=vocabulary.model(self.model),
            uuid=self.uuid,
            labels=self.labels,
            mig_mode=self.mig,
            cordoned=self.cordoned,
        )
        return [one] * self.count


def _devices(value: Any) -> Any:
    return [_device(each) for each in value] if isinstance(value, list) else value


def _device(value: Any) -> Any:
    """A device that is written as one line."""
    if not isinstance(value, str):
        return value
    line = parse_device_specification(value)
    plain = replace(line, names=(), count=1) == parse_device_specification("1")
    if len(line.names) != 1 or not plain:
        raise InvalidValueError(
            f"{value!r} does not name the devices of a node", hint="one model and how many: h100:8"
        )
    return {"model": line.names[0], "count": line.count}


class NodeDocument(Strict):
    """A host; with `count`, so many alike, whose names are numbered."""

    name: str
    count: int = Field(0, ge=0, le=100_000)
    cpu: CpuMilli
    memory: Mib
    devices: Annotated[tuple[DeviceDocument, ...], BeforeValidator(_devices)] = ()
    islands: Groups = ()
    pcie: Groups = ()
    numa: Groups = ()
    pool: str = "default"
    labels: dict[str, str] = Field(default_factory=dict)
    network: dict[str, str] = Field(default_factory=dict)
    mechanisms: tuple[Mechanism, ...] = Node(name="any", cpu_milli=0, memory_mib=0).mechanisms
    timeslice_replicas: int = Field(0, ge=0)
    serves_remote: bool = True
    cordoned: str = ""

    def nodes(self, vocabulary: Vocabulary) -> Iterator[Node]:
        """As placing sees them. Raises `InvalidValueError`."""
        devices = [each for part in self.devices for each in part.devices(vocabulary)]
        one = Node(
            name=self.name,
            cpu_milli=self.cpu,
            memory_mib=self.memory,
            devices=tuple(self._connected(devices)),
            pool=self.pool,
            labels=self.labels,
            network=self.network,
            mechanisms=self.mechanisms,
            timeslice_replicas=self.timeslice_replicas,
            serves_remote=self.serves_remote,
            cordoned=self.cordoned,
        )
        if not self.count:
            yield one
        yield from (replace(one, name=f"{self.name}-{number}") for number in range(self.count))

    def _connected(self, devices: Sequence[NodeDevice]) -> Iterator[NodeDevice]:
        islands, roots, numa = (
            self._membership(name, groups, len(devices))
            for name, groups in (("islands", self.islands), ("pcie", self.pcie), ("numa", self.numa))
        )
        for index, device in enumerate(devices):
            yield replace(
                device,
                island=f"island{islands[index]}" if index in islands else "",
                pcie_root=f"root{roots[index]}" if index in roots else "",
                numa=numa.get(index, -1),
            )

    def _membership(self, name: str, groups: Groups, devices: int) -> dict[int, int]:
        """The number of each device's group. Raises `InvalidValueError` for devices that are not there."""
        members = [(index, number) for number, group in enumerate(groups) for index in group]
        found = dict(members)
        if len(found) != len(members) or any(not 0 <= index < devices for index in found):
            raise InvalidValueError(
                f"node {self.name}: {name} {groups} do not divide devices 0 to {devices - 1}",
                hint="each group lists indices of the node's devices, none twice: [[0, 1], [2, 3]]",
            )
        return found


class HeldAt(Strict):
    """Where a claim stands."""

    node: str
    devices: tuple[int, ...] = ()
    mechanism: Mechanism | None = None
    mig_start: tuple[int, ...] = ()


class HeldDocument(ClaimDocument):
    """A claim that holds something."""

    at: HeldAt
    committed: bool = True


class BudgetDocument(Strict):
    """How many claims of a workload may be disturbed at once."""

    workload: str
    max_disrupted: int | None = Field(None, ge=0)
    min_available: int | None = Field(None, ge=0)


class StrategyDocument(Strict):
    """A strategy of one's own: how much each term of the score weighs."""

    name: str
    weights: dict[str, float]

    def strategy(self) -> Strategy:
        """Raises `InvalidValueError` for a term that does not exist."""
        return Strategy.of(self.weights, name=self.name)


class StateDocument(Strict):
    """Everything that a state may say."""

    strategies: tuple[StrategyDocument, ...] = ()
    models: tuple[ModelDocument, ...] = ()
    pools: tuple[PoolDocument, ...] = ()
    nodes: tuple[NodeDocument, ...]
    claims: tuple[HeldDocument, ...] = ()
    budgets: tuple[BudgetDocument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A claim and where it stands."""

    claim: Claim
    node: str
    devices: tuple[int, ...]
    mechanism: Mechanism | None
    """None for the first that the claim accepts."""
    mig_starts: tuple[int, ...]
    """Of its MIG instances; empty for the places that cost others least."""
    committed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A cluster as a document describes it."""

    vocabulary: Vocabulary
    pools: tuple[Pool, ...]
    nodes: tuple[Node, ...]
    standing: tuple[Standing, ...]
    budgets: tuple[DisruptionBudget, ...]
    strategies: Mapping[str, Strategy]


def read_state(text: str, source: str) -> State:
    """The state that a text describes. Raises `DocumentError`, `UnknownModelError`."""
    values = load_all(text, source)
    if len(values) != 1:
        raise DocumentError(f"{source}: one document is expected, not {len(values)}")
    document = checked(StateDocument, values[0], source)
    vocabulary = Vocabulary(each.facts() for each in document.models)

    def made() -> State:
        return State(
            vocabulary=vocabulary,
            pools=tuple(each.pool() for each in document.pools),
            nodes=tuple(node for each in document.nodes for node in each.nodes(vocabulary)),
            standing=tuple(_standing(each, vocabulary) for each in document.claims),
            strategies={each.name: each.strategy() for each in document.strategies},
            budgets=tuple(DisruptionBudget(**each.model_dump()) for each in document.budgets),
        )

    return in_place(source, made)


def _standing(document: HeldDocument, vocabulary: Vocabulary) -> Standing:
    claim = document.claim(vocabulary)
    if len(document.at.devices) != claim.devices.count:
        raise InvalidValueError(
            f"claim {claim.name} has {len(document.at.devices)} devices and asks for {claim.devices.count}",
            hint="at: {node: NAME, devices: [0, 1]}",
        )
    return Standing(
        claim=claim,
        node=document.at.node,
        devices=document.at.devices,
        mechanism=document.at.mechanism,
        mig_starts=document.at.mig_start,
        committed=document.committed,
    )
