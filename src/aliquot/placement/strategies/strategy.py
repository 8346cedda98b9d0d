"""A strategy: named terms with weights, and which devices of a node are weighed. Data: `strategies.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Final, Literal, get_args

from aliquot.errors import InvalidValueError

TermName = Literal[
    "random",
    "best_fit",
    "dot_product",
    "gpu_packing",
    "gpu_clustering",
    "fgd",
    "fragmentation",
    "rollout",
    "hosts",
    "free_after",
    "node_fill",
    "device_fill",
    "cpu_fill",
]
"""In the order of their numbers in the compiled core (native/placement/terms.hpp)."""
TERMS: Final[tuple[str, ...]] = get_args(TermName)
DEVICES: Final = ("scored", "smallest", "random")
"""In the order of their numbers in the compiled core."""
DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True)
class OutlookParameters:
    """How what is likely to come is looked at: `sequences` lists of `length` claims are drawn."""

    sequences: int = 128
    length: int = 64
    cpu_only_weight: float = 0.3
    """How much claims with no device count when sequences are drawn."""
    host_worth: float = 0.15
    """What it is worth to keep room for all claims of several devices that are expected, in devices each."""
    host_pressure_power: float = 2.5
    """Where CPU or memory runs out before the devices do, that is worth more: by this power of what is asked
    for of it over what there is, once all devices are. Hosts are then lost to claims that take no device."""

    def __post_init__(self) -> None:
        if not (1 <= self.sequences <= 4096 and 1 <= self.length <= 64):
            raise InvalidValueError("an outlook is 1 to 4096 sequences of 1 to 64 claims")


@dataclass(frozen=True, slots=True)
class Strategy:
    """Which terms make the score. Raises `InvalidValueError` for a term that does not exist."""

    name: str
    weights: tuple[tuple[str, float], ...]
    devices: str = "scored"
    summary: str = ""
    outlook: OutlookParameters = field(default_factory=OutlookParameters)

    def __post_init__(self) -> None:
        for name, _ in self.weights:
            if name not in TERMS:
                raise InvalidValueError(f"{name!r} is not a term", hint=f"terms are: {', '.join(TERMS)}")
        if self.devices not in DEVICES:
            raise InvalidValueError(f"{self.devices!r} is not one of {', '.join(DEVICES)}")

    @property
    def looks_ahead(self) -> bool:
        """Whether it needs to know the mix of claims."""
        return any(name in ("rollout", "hosts", "fgd", "fragmentation") for name, _ in self.weights)

    @staticmethod
    def of(weights: Mapping[str, float], *, name: str = "custom", devices: str = "scored") -> Strategy:
        """A strategy of one's own from weights by name of term. Raises `InvalidValueError`."""
        return Strategy(name, tuple(weights.items()), devices)


@cache
def strategies() -> dict[str, Strategy]:
    """The strategies that come with Aliquot, by name."""
    text = resources.files(__package__ or "").joinpath("strategies.toml").read_text(encoding="utf-8")
    return {name: _read(name, entry) for name, entry in tomllib.loads(text).items()}


def strategy(name: str) -> Strategy:
    """The strategy of that name. Raises `InvalidValueError`, which lists what there is."""
    known = strategies()
    if name not in known:
        raise InvalidValueError(f"there is no strategy {name!r}", hint=f"there are: {', '.join(known)}")
    return known[name]


def _read(name: str, entry: dict[str, Any]) -> Strategy:
    return Strategy(
        name=name,
        weights=tuple((term, float(weight)) for term, weight in entry["terms"].items()),
        devices=entry.get("devices", "scored"),
        summary=entry["summary"],
        outlook=OutlookParameters(**entry.get("outlook", {})),
    )
