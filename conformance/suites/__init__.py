"""The suites: a module and a TOML file each. The module finds the tests; the TOML file holds what is known.

How to add one: write `NAME.toml` and `name.py` (with `root`, `modules` and, where needed, `environment`)
after their neighbours.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from conformance.suite import Suite, load

NAMES: Final = tuple(sorted(file.stem for file in Path(__file__).parent.glob("*.toml")))


def suite(name: str) -> Suite:
    """The suite of that name. Raises `SuiteError` where its tests are not there or its file is wrong."""
    found = import_module(f"conformance.suites.{name.replace('-', '_')}")
    return load(
        Path(__file__).parent / f"{name}.toml",
        name=name,
        root=found.root(),
        modules=found.modules(),
        environment=found.environment() if hasattr(found, "environment") else {},
    )
