"""What a claim accepts: models, labels, pools, cards and hosts by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from aliquot.errors import InvalidValueError


class LabelOperator(StrEnum):
    """How a label is compared, in Kubernetes' words."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """One condition on the labels of a host or a device."""

    key: str
    operator: LabelOperator = LabelOperator.IN
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        needs_values = self.operator in (LabelOperator.IN, LabelOperator.NOT_IN)
        if not self.key or needs_values != bool(self.values):
            raise InvalidValueError(
                f"a rule on label {self.key!r} cannot be like this",
                hint="In and NotIn need values; Exists and DoesNotExist have none",
            )

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels satisfy it. As in Kubernetes, NotIn holds where the label is missing."""
        value = labels.get(self.key)
        match self.operator:
            case LabelOperator.IN:
                return value in self.values
            case LabelOperator.NOT_IN:
                return value not in self.values
            case LabelOperator.EXISTS:
                return value is not None
            case LabelOperator.DOES_NOT_EXIST:
                return value is None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardMemory:
    """How much memory the card itself must have, in MiB; 0 leaves an end open."""

    at_least_mib: int = 0
    at_most_mib: int = 0

    def __post_init__(self) -> None:
        if self.at_least_mib < 0 or self.at_most_mib < 0 or 0 < self.at_most_mib < self.at_least_mib:
            raise InvalidValueError(
                f"no card holds at least {self.at_least_mib} MiB and at most {self.at_most_mib} MiB",
                hint="write the smaller size first: 16GB..24GB",
            )

    def accepts(self, mib: int) -> bool:
        """Whether a card of that size is meant."""
        return self.at_least_mib <= mib and (not self.at_most_mib or mib <= self.at_most_mib)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What a claim accepts. Empty means anything; where several are named, the first is liked best."""

    models: tuple[tuple[str, ...], ...] = ()
    """Keys of the catalogue in groups; every model of the first group is preferred to the second's."""
    vendors: tuple[str, ...] = ()
    generations: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    """`NODE/INDEX` or the device's UUID. All others are refused."""
    node_labels: tuple[LabelRule, ...] = ()
    device_labels: tuple[LabelRule, ...] = ()
    card_memory: CardMemory = CardMemory()
