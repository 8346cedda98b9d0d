"""What placing knows of a model of device, and what a pool may promise of one device of it."""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.catalog.models import MigLayout, Model
from aliquot.errors import InvalidValueError
from aliquot.model.nodes import Oversubscription
from aliquot.model.quantities import MIB
from aliquot.placement.demand import WHOLE_MILLI


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model of device. One that the catalogue lacks is described by the operator."""

    key: str
    vendor: str = ""
    generation: str = ""
    tflops: float = 0.0
    """Dense half precision; 0 where it is not known, and then no claim in TFLOPS fits."""
    vram_mib: int = 0
    """As the driver reports it; 0 where memory is not accounted for."""
    sm_count: int = 0
    """Multiprocessors of the card, of which a MIG instance has some; 0 where it is not known."""
    mig: MigLayout | None = None

    def __post_init__(self) -> None:
        if not self.key or self.vram_mib < 0 or self.tflops < 0:
            raise InvalidValueError(f"a model of device cannot be like this: {self!r}")


@dataclass(frozen=True, slots=True)
class Kind:
    """Devices that are alike in numbers: of one model, with the same ratios."""

    number: int
    """What the core calls a model."""
    facts: ModelFacts
    compute_milli: int
    """What may be promised of one, in thousandths of the card."""
    vram_mib: int


def facts_of(model: Model) -> ModelFacts:
    """A model of the catalogue. Its generation is the name of its architecture, in lower case."""
    return ModelFacts(
        key=model.key,
        vendor=model.vendor.value,
        generation=model.capability.architecture.lower() if model.capability else "",
        tflops=model.compute.fp16_tflops,
        vram_mib=model.memory.vram // MIB,
        sm_count=model.compute.sm_count or 0,
        mig=model.mig,
    )


def promised(facts: ModelFacts, ratios: Oversubscription) -> tuple[int, int]:
    """Compute (thousandths) and VRAM (MiB) that may be promised of one device, rounded down."""
    return int(WHOLE_MILLI * ratios.compute), int(facts.vram_mib * ratios.vram)
