"""The driver API as ctypes see it, built from the one list of entry points (native/api/cuda).

Types only: which values a call gets is decided in `values`.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "native" / "api"))

from listing import toml_io  # noqa: E402
from listing.model import Param, Record  # noqa: E402

SCALARS: dict[str, Any] = {
    "char": ctypes.c_char,
    "unsigned char": ctypes.c_ubyte,
    "short": ctypes.c_short,
    "unsigned short": ctypes.c_ushort,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "long long": ctypes.c_longlong,
    "unsigned long long": ctypes.c_ulonglong,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "int8_t": ctypes.c_int8,
    "int16_t": ctypes.c_int16,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "uintptr_t": ctypes.c_size_t,
}


@dataclass(frozen=True)
class Call:
    """One exported symbol: what it is called with, and the base name of its function."""

    symbol: str
    base: str
    family: str
    params: tuple[Param, ...]


class DriverApi:
    """Calls and types of the list."""

    def __init__(self) -> None:
        self.list = toml_io.load(ROOT / "native" / "api" / "cuda")
        self._classes: dict[str, Any] = {}
        for name in self.list.records:  # before there are threads: a class made twice is two classes
            self.structure(name)

    @cached_property
    def calls(self) -> list[Call]:
        """Every exported symbol, per-thread variants included, in the order of their names."""
        return [
            Call(symbol, function.name, function.family, abi.params)
            for symbol, (function, abi) in sorted(self.list.symbols().items())
        ]

    def plain(self, type_: str) -> str:
        """The type without const, and with aliases that name scalars, records or enums followed."""
        name = type_.removeprefix("const ").strip()
        while name in self.list.aliases:
            name = self.list.aliases[name]
        return name

    def pointee(self, type_: str) -> str:
        """What a pointer type points to, as the list spells it: "const CUgraphNode *" -> "CUgraphNode"."""
        return type_.removeprefix("const ").strip().removesuffix("*").strip()

    def ctype(self, type_: str) -> Any:
        """The ctypes class of a type. Pointers, handles and callbacks are plain addresses."""
        name = self.plain(type_)
        if name.endswith("*") or name in self.list.handles or name in self.list.callbacks:
            return ctypes.c_void_p
        if name in self.list.enums:
            return ctypes.c_int
        if name in self.list.records:
            return self.structure(name)
        return SCALARS[name]

    def structure(self, name: str) -> Any:
        """The ctypes class of a record; its size is checked against the list's."""
        if name not in self._classes:
            self._classes[name] = self._build(self.list.records[name])
        return self._classes[name]

    def _build(self, record: Record) -> Any:
        base = ctypes.Union if record.kind == "union" else ctypes.Structure
        members: list[Any] = []
        unnamed: list[str] = []
        for index, field in enumerate(record.fields):
            kind = self.structure(field.inline) if field.inline else self.ctype(field.type)
            for count in reversed(field.array):
                kind = kind * self._number(count)
            name = field.name or f"unnamed_{index}"
            if not field.name:
                unnamed.append(name)
            members.append((name, kind, field.bits) if field.bits else (name, kind))
        made = type(record.name, (base,), {"_anonymous_": unnamed, "_fields_": members})
        if record.align > ctypes.alignment(made):  # asked for by an attribute
            members.append(("padding", ctypes.c_ubyte * (record.size - ctypes.sizeof(made))))
            made = type(record.name, (base,), {"_anonymous_": unnamed, "_fields_": members})
        if ctypes.sizeof(made) != record.size:
            raise TypeError(f"{record.name} is {ctypes.sizeof(made)} bytes here, {record.size} in the list")
        return made

    def _number(self, text: str) -> int:
        return int(self.list.constants.get(text, text), 0)
