"""The levels of service, read once from `qos.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from aliquot.errors import InvalidValueError
from aliquot.model import QosLevel

_PATH: Final = Path(__file__).with_name("qos.toml")


def qos_levels() -> Mapping[str, QosLevel]:
    """All levels by name, the lowest rank first."""
    levels = [QosLevel(**entry) for entry in _document()["level"]]
    return MappingProxyType({level.name: level for level in sorted(levels, key=lambda each: each.rank)})


def default_qos_level() -> QosLevel:
    """The level of a slice that asks for none."""
    return qos_levels()[_document()["default"]]


def qos_level(name: str) -> QosLevel:
    """The level of that name, in any letter case. Raises `InvalidValueError`, which lists them."""
    known = qos_levels()
    if (level := known.get(name.strip().lower())) is None:
        raise InvalidValueError(f"there is no QoS level {name!r}", hint=f"there are: {', '.join(known)}")
    return level


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(_PATH.read_text("utf-8"))
