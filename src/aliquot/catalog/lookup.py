"""Finding a model by what a person, a setting or a driver calls it."""

from __future__ import annotations

import difflib
from typing import Final

from aliquot.catalog.loading import catalog
from aliquot.catalog.models import Model
from aliquot.errors import InvalidValueError

_SIMULATED: Final = " (simulated)"


class UnknownModelError(InvalidValueError):
    """The catalogue has no such model. `near` are the keys that look most like what was asked for."""

    code = "unknown-model"

    def __init__(self, asked: str, near: tuple[str, ...]) -> None:
        known = ", ".join(catalog())
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"unknown model {asked!r}", hint=f"{guess}Known: {known}")
        self.asked = asked
        self.near = near


def by_key(name: str) -> Model:
    """The model of a key or an alias, in any letter case. Raises `UnknownModelError`."""
    wanted = name.strip().lower()
    for model in catalog().values():
        if wanted == model.key or wanted in model.aliases:
            return model
    raise UnknownModelError(name, _near(wanted))


def by_product_name(name: str) -> Model:
    """The model that a driver names so (`NVIDIA H100 80GB HBM3`), simulated or not.

    Raises `UnknownModelError`.
    """
    wanted = _normal(name.removesuffix(_SIMULATED))
    for model in catalog().values():
        if wanted == _normal(model.name):
            return model
    names = {_normal(model.name): model.key for model in catalog().values()}
    close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.7)
    raise UnknownModelError(name, tuple(names[match] for match in close))


def _near(wanted: str) -> tuple[str, ...]:
    names = {name: model.key for model in catalog().values() for name in (model.key, *model.aliases)}
    starts = [key for name, key in names.items() if wanted and name.startswith(wanted)]
    close = [names[match] for match in difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)]
    return tuple(dict.fromkeys([*starts, *close]))[:3]


def _normal(name: str) -> str:
    return " ".join(name.lower().split())
