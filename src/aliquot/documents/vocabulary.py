"""The names of models that documents may use: the catalogue's, and those that a state describes itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aliquot.catalog import UnknownModelError, Vendor, by_key, catalog
from aliquot.placement.hardware import ModelFacts, facts_of


class Vocabulary:
    """Models by name. What a state describes goes before the catalogue."""

    def __init__(self, described: Iterable[ModelFacts] = ()) -> None:
        self.models: Mapping[str, ModelFacts] = {
            **{key: facts_of(model) for key, model in catalog().items()},
            **{facts.key: facts for facts in described},
        }

    def model(self, name: str) -> str:
        """The key of exactly one model. Raises `UnknownModelError`."""
        wanted = name.strip().lower()
        return wanted if wanted in self.models else by_key(wanted).key

    def family(self, name: str) -> tuple[str, ...]:
        """All models that a person means by a name: `a100` is any A100, `a100-40` one of them.

        Raises `UnknownModelError`.
        """
        wanted = name.strip().lower().replace(" ", "-").removeprefix("nvidia-").removeprefix("amd-")
        family = [key for key in self.models if key.startswith(f"{wanted}-")]
        try:
            return tuple(dict.fromkeys([self.model(wanted), *family]))
        except UnknownModelError:
            if family:
                return tuple(family)
            raise

    def is_vendor(self, name: str) -> bool:
        """Whether the name is a vendor's rather than a model's."""
        lower = name.strip().lower()
        return lower in tuple(Vendor) or any(facts.vendor == lower for facts in self.models.values())
