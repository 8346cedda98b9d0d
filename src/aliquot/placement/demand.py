"""What a claim asks of a node, in numbers only: no names, no labels, no rules.

Equal demands are one *type*: scores are computed once per type and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from aliquot.errors import InvalidValueError

WHOLE_MILLI: Final = 1000
"""A whole device's compute, in thousandths of a device."""
MAXIMUM: Final = 2**31 - 1
"""The largest amount of anything: the compiled core keeps amounts in signed 32-bit fields."""
MAXIMUM_COUNT: Final = 64
"""The most devices that one claim may ask of one node."""


class Share(NamedTuple):
    """What a demand asks of each device of one model."""

    model: int
    """The model's number; who gives numbers to models keeps them."""
    compute_milli: int
    """Thousandths of the device's compute; a whole device is 1000."""
    vram_mib: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """What one claim asks of one node. Raises `InvalidValueError` where it makes no sense.

    `count` devices are asked for, each of a model among `shares` (one share per acceptable model, ascending
    by model; a model that is not there is not acceptable). A claim may cost more of a small model than of a
    large one, since compute may be asked for in TFLOPS. All devices of one placement have the same model.
    """

    cpu_milli: int = 0
    """Thousandths of a host core."""
    memory_mib: int = 0
    """Host memory."""
    count: int = 0
    shares: tuple[Share, ...] = ()

    def __post_init__(self) -> None:
        _check("cpu_milli", self.cpu_milli, MAXIMUM)
        _check("memory_mib", self.memory_mib, MAXIMUM)
        _check("count", self.count, MAXIMUM_COUNT)
        if bool(self.count) != bool(self.shares):
            raise InvalidValueError("devices are asked for with their shares, and shares with a count")
        for share in self.shares:
            _check("model", share.model, MAXIMUM)
            _check("compute_milli", share.compute_milli, MAXIMUM)
            _check("vram_mib", share.vram_mib, MAXIMUM)
        models = [share.model for share in self.shares]
        if models != sorted(set(models)):
            raise InvalidValueError("a demand has one share per model, ascending by model")

    def share_of(self, model: int) -> Share | None:
        """What is asked of a device of that model; None where the model is not acceptable."""
        return next((share for share in self.shares if share.model == model), None)

    def size_milli(self, model: int) -> int:
        """Compute that a placement on that model takes, in thousandths of a device; 0 if not acceptable."""
        share = self.share_of(model)
        return self.count * share.compute_milli if share else 0


def on_models(
    models: Iterable[int] | Mapping[int, int],
    *,
    compute_milli: int = 0,
    vram_mib: int = 0,
    count: int = 1,
    cpu_milli: int = 0,
    memory_mib: int = 0,
) -> Demand:
    """A demand that asks the same of every acceptable model; a mapping gives each model its own milli."""
    milli: dict[int, int] = (
        {**models} if isinstance(models, Mapping) else dict.fromkeys(models, compute_milli)
    )
    shares = tuple(Share(model, milli[model], vram_mib) for model in sorted(milli))
    return Demand(cpu_milli, memory_mib, count if shares else 0, shares)


def _check(name: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise InvalidValueError(f"{name} is 0 to {most}, not {value}")
