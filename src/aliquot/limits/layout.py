"""Offsets within the shared memory of a slice, computed from `layout.toml`.

Pure: it reads one data file that ships with the package. The native build runs it too, on a Python without
any package, so it imports the standard library alone.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SCALAR_BYTES = {"u8": 1, "u32": 4, "u64": 8, "atomic_u64": 8}
_PATH = Path(__file__).with_name("layout.toml")


class LayoutError(ValueError):
    """The layout file contradicts itself; the message names the field."""


@dataclass(frozen=True, slots=True)
class Field:
    """One member: where it lies in its structure, and what it is made of."""

    name: str
    type: str
    count: int | None
    offset: int
    element_bytes: int
    doc: str

    @property
    def size(self) -> int:
        """Bytes that the whole member takes."""
        return self.element_bytes * (1 if self.count is None else self.count)


@dataclass(frozen=True, slots=True)
class Structure:
    """One structure: its members in order, and its size in bytes with the padding behind them."""

    name: str
    size: int
    doc: str
    fields: dict[str, Field]

    def offset(self, name: str, index: int = 0) -> int:
        """Where element `index` of a member begins, in bytes. Raises `IndexError` past the last one."""
        field = self.fields[name]
        if not 0 <= index < (field.count or 1):
            raise IndexError(f"{self.name}.{name} has no element {index}")
        return field.offset + index * field.element_bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything that `layout.toml` states."""

    version: int
    constants: dict[str, int | str]
    structures: dict[str, Structure]

    def number(self, constant: str) -> int:
        """The value of a numeric constant."""
        value = self.constants[constant]
        if not isinstance(value, int):
            raise LayoutError(f"the constant {constant} is not a number")
        return value

    def text(self, constant: str) -> str:
        """The value of a constant that is text."""
        return str(self.constants[constant])


@cache
def load(path: Path = _PATH) -> Layout:
    """The layout that `path` states. Raises `LayoutError` where it contradicts itself."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    constants: dict[str, int | str] = document["constants"]
    structures: dict[str, Structure] = {}
    for entry in document["struct"]:
        structures[entry["name"]] = _structure(entry, constants, structures)
    return Layout(document["version"], constants, structures)


def _structure(entry: dict[str, Any], constants: dict[str, Any], known: dict[str, Structure]) -> Structure:
    fields: dict[str, Field] = {}
    end, widest = 0, 1
    for stated in entry["fields"]:
        element, alignment = _element(stated["type"], known)
        if end % alignment:
            raise LayoutError(f"{entry['name']}.{stated['name']} would lie at {end}, which is not aligned")
        count = stated.get("count")
        count = constants[count] if isinstance(count, str) else count
        field = Field(stated["name"], stated["type"], count, end, element, stated.get("doc", ""))
        fields[field.name] = field
        end, widest = end + field.size, max(widest, alignment)
    if end > entry["size"] or entry["size"] % widest:
        raise LayoutError(f"{entry['name']} takes {end} bytes and is said to be {entry['size']}")
    return Structure(entry["name"], entry["size"], entry["doc"], fields)


def _element(type_name: str, known: dict[str, Structure]) -> tuple[int, int]:
    """Size and alignment of one element. Structures are aligned as their widest scalar, which is 8 bytes."""
    if type_name in SCALAR_BYTES:
        return SCALAR_BYTES[type_name], SCALAR_BYTES[type_name]
    if type_name not in known:
        raise LayoutError(f"the type {type_name} is not known")
    return known[type_name].size, 8
