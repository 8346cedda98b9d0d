"""Claims as people write them.

    name: training
    devices: H100,A100:80GB:2        # or: count: 2, models: [h100, a100]
    compute: 30%                     # or 20TFLOPS, or {request: 20%, limit: 50%}
    vram: 24GB
    cpu: 8
    memory: 64Gi

`docs/placement-rules.md` lists all keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator

from aliquot.catalog import default_qos_level, qos_level
from aliquot.documents.fields import ComputeField, CpuMilli, Mib, Names, Specification, VramField
from aliquot.documents.reading import DocumentError, Strict, checked, in_place, load_all
from aliquot.documents.vocabulary import Vocabulary
from aliquot.errors import InvalidValueError
from aliquot.model import (
    NODE,
    Apart,
    CardMemory,
    Claim,
    ComputeRequest,
    Constraints,
    DeviceNeeds,
    DeviceSpecification,
    Gang,
    HostNeeds,
    Isolation,
    LabelOperator,
    LabelRule,
    Mechanism,
    Nearness,
    SharingWish,
    Spread,
    TopologyWish,
    VramRequest,
)


class LabelRuleDocument(Strict):
    """A rule in Kubernetes' form."""

    key: str
    operator: LabelOperator = LabelOperator.IN
    values: tuple[str, ...] = ()


def _rules(value: Any) -> Any:
    """`{zone: [a, b], disk: ssd}` is short for rules with In."""
    if not isinstance(value, dict):
        return value
    return [
        {"key": key, "values": [str(each) for each in (wanted if isinstance(wanted, list) else [wanted])]}
        for key, wanted in value.items()
    ]


LabelRules = Annotated[tuple[LabelRuleDocument, ...], BeforeValidator(_rules)]


class TopologyDocument(Strict):
    """`topology: link` is a wish; `{nearness: link, required: true}` a condition."""

    nearness: Nearness
    required: bool = False


class SpreadDocument(Strict):
    """`spread: rack`, or in full."""

    level: str = NODE
    max_skew: int = 1
    required: bool = True


class ApartDocument(Strict):
    """`apart: [{workloads: [search], level: node}]`."""

    workloads: Names
    level: str = NODE
    required: bool = True


class GangDocument(Strict):
    """`gang: {members: 4, min_members: 3, within: rack}`: so many claims like this one, together or none."""

    members: int
    min_members: int | None = None
    within: str = ""
    required: bool = True


class ClaimDocument(Strict):
    """Everything that a claim may say."""

    name: str
    devices: Specification | None = None
    count: int | None = None
    compute: ComputeField | None = None
    vram: VramField | None = None
    cpu: CpuMilli = 0
    memory: Mib = 0
    models: Names = ()
    vendors: Names = ()
    generations: Names = ()
    pools: Names = ()
    nodes: Names = ()
    named: Names = ()
    node_labels: LabelRules = ()
    device_labels: LabelRules = ()
    isolation: Isolation = Isolation.NONE
    mechanisms: Annotated[
        tuple[Mechanism, ...], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)
    ] = ()
    mig_profile: str = ""
    topology: Annotated[
        TopologyDocument | None, BeforeValidator(lambda v: {"nearness": v} if isinstance(v, str) else v)
    ] = None
    workload: str = ""
    spread: Annotated[
        SpreadDocument | None, BeforeValidator(lambda v: {"level": v} if isinstance(v, str) else v)
    ] = None
    apart: tuple[ApartDocument, ...] = ()
    gang: GangDocument | None = None
    qos: str = ""
    priority: int | None = None
    protected: bool = False
    runs_on: str = ""
    remote: bool = False

    def claim(self, vocabulary: Vocabulary) -> Claim:
        """The claim that it describes. Raises `InvalidValueError`."""
        line = self.devices or DeviceSpecification()
        return Claim(
            name=self.name,
            devices=self._needs(line),
            host=HostNeeds(cpu_milli=self.cpu, memory_mib=self.memory),
            constraints=self._constraints(line, vocabulary),
            sharing=SharingWish(
                isolation=self.isolation, mechanisms=self.mechanisms, mig_profile=self.mig_profile
            ),
            topology=_topology(self.topology),
            workload=self.workload,
            spread=Spread(**self.spread.model_dump()) if self.spread else None,
            apart=tuple(Apart(**each.model_dump()) for each in self.apart),
            qos=qos_level(self.qos).name if self.qos else "",
            priority=self._priority(),
            protected=self.protected,
            runs_on=self.runs_on,
            remote=self.remote,
        )

    def _priority(self) -> int:
        """Without one it is the rank of its level of service."""
        if self.priority is not None:
            return self.priority
        return (qos_level(self.qos) if self.qos else default_qos_level()).rank

    def _needs(self, line: DeviceSpecification) -> DeviceNeeds:
        if self.count is not None and self.devices and line.count not in (1, self.count):
            raise InvalidValueError("the number of devices is said twice", hint="leave out count")
        if line.compute.stated and self.compute:
            raise InvalidValueError("compute is said twice", hint="leave it out of devices")
        compute = self.compute.request if self.compute else line.compute
        return DeviceNeeds(
            count=line.count if self.count is None else self.count,
            compute=compute,
            compute_limit=(self.compute.limit if self.compute else None) or ComputeRequest(),
            vram=self.vram.request if self.vram else VramRequest(),
            vram_limit=(self.vram.limit if self.vram else None) or VramRequest(),
        )

    def _constraints(self, line: DeviceSpecification, vocabulary: Vocabulary) -> Constraints:
        vendors = tuple(each.lower() for each in line.names if vocabulary.is_vendor(each))
        models = tuple(each for each in line.names if not vocabulary.is_vendor(each))
        return Constraints(
            models=tuple(vocabulary.family(each) for each in (*models, *self.models)),
            vendors=(*vendors, *(each.lower() for each in self.vendors)),
            generations=tuple(each.lower() for each in self.generations),
            pools=self.pools,
            nodes=self.nodes,
            devices=self.named,
            node_labels=_label_rules(self.node_labels),
            device_labels=_label_rules(self.device_labels),
            card_memory=line.card_memory if self.devices else CardMemory(),
        )

    def gang_of(self, claim: Claim) -> Gang | None:
        """The gang that it asks for, whose members are like `claim` and numbered."""
        if self.gang is None:
            return None
        members = tuple(
            replace(claim, name=f"{claim.name}-{number}", workload=claim.workload or claim.name)
            for number in range(self.gang.members)
        )
        least = self.gang.members if self.gang.min_members is None else self.gang.min_members
        return Gang(
            name=claim.name,
            members=members,
            min_members=least,
            within=self.gang.within,
            required=self.gang.required,
        )


def read_claims(text: str, source: str, vocabulary: Vocabulary) -> list[Claim | Gang]:
    """The claims and gangs of a text, in their order; several are separated by `---`.

    Raises `DocumentError`, and `UnknownModelError` for a model that nobody has described.
    """
    values = load_all(text, source)
    if not values:
        raise DocumentError(f"{source}: there is no claim in it", hint="a claim has at least a name")
    return [
        _read(value, f"{source}#{place}" if len(values) > 1 else source, vocabulary)
        for place, value in enumerate(values, start=1)
    ]


def _read(value: Mapping[str, Any], source: str, vocabulary: Vocabulary) -> Claim | Gang:
    document = checked(ClaimDocument, value, source)
    claim = in_place(source, lambda: document.claim(vocabulary))
    return in_place(source, lambda: document.gang_of(claim)) or claim


def _topology(document: TopologyDocument | None) -> TopologyWish:
    if document is None:
        return TopologyWish()
    return TopologyWish(nearness=document.nearness, required=document.required)


def _label_rules(rules: tuple[LabelRuleDocument, ...]) -> tuple[LabelRule, ...]:
    return tuple(LabelRule(key=each.key, operator=each.operator, values=each.values) for each in rules)
