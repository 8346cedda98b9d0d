"""C text for the list's types: one header that C and C++ can read, in an order in which each type is known.

Enums have a fixed underlying type in C++, so that a value newer than the list, or a hostile one, is an
ordinary number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .model import ApiList, Callback, Enum, Field, Param, Record

LARGEST_NATURAL_ALIGNMENT = 8  # of the members that occur; more was asked for by an attribute
_WORD = re.compile(r"[A-Za-z_]\w*")


def declaration(type_: str, name: str, array: tuple[str, ...] = ()) -> str:
    """'char *', 'name' -> 'char *name'; 'int', 'x', ('4',) -> 'int x[4]'."""
    suffix = "".join(f"[{n}]" for n in array)
    return f"{type_}{'' if type_.endswith('*') else ' '}{name}{suffix}"


def parameter_list(params: tuple[Param, ...]) -> str:
    """The parameters as a prototype lists them; "void" for none."""
    return ", ".join(declaration(p.type, p.name) for p in params) or "void"


class TypeWriter:
    """Writes each type after the types that it holds by value or mentions by typedef name."""

    def __init__(self, api: ApiList) -> None:
        self._api = api
        self._done: set[str] = set()
        self._lines: list[str] = []

    def text(self) -> str:
        """All types of the API."""
        for name in self._all_names():
            self._write(name)
        return "\n".join(self._lines) + "\n"

    def _all_names(self) -> Iterator[str]:
        api = self._api
        for table in (api.handles, api.aliases, api.enums, api.callbacks):
            yield from table
        yield from (name for name in api.records if "." not in name)

    def _write(self, name: str) -> None:
        if name in self._done:
            return
        self._done.add(name)
        api = self._api
        if name in api.handles:
            self._lines.append(f"typedef struct {api.handles[name]} *{name};")
        elif name in api.aliases:
            self._need(api.aliases[name])
            self._lines.append(f"typedef {declaration(api.aliases[name], name)};")
        elif name in api.enums:
            self._lines.append(_enum(api.enums[name]))
        elif name in api.callbacks:
            self._write_callback(api.callbacks[name])
        elif name in api.records:
            self._write_record(api.records[name])

    def _need(self, text: str) -> None:
        for word in _WORD.findall(text):
            self._write(word)

    def _write_callback(self, callback: Callback) -> None:
        for param in callback.params:
            self._need(param.type)
        self._need(callback.result)
        name = f"(*{callback.name})" if callback.pointer else callback.name
        self._lines.append(f"typedef {callback.result} {name}({parameter_list(callback.params)});")

    def _write_record(self, record: Record) -> None:
        for part in self._nested(record):
            for field in part.fields:
                self._need(field.type)
        self._lines.append(f"typedef {_head(record)} {{")
        self._lines.extend(self._members(record, 1))
        self._lines.append(f"}} {record.name};")
        self._lines.append(f"ALIQUOT_ABI_SIZE({record.name}, {record.size}, {record.align});")

    def _nested(self, record: Record) -> Iterator[Record]:
        yield record
        for field in record.fields:
            if field.inline:
                yield from self._nested(self._api.records[field.inline])

    def _members(self, record: Record, depth: int) -> Iterator[str]:
        indent = "  " * depth
        for field in record.fields:
            if field.inline is None:
                yield f"{indent}{_member(field)};"
                continue
            nested = self._api.records[field.inline]
            yield f"{indent}{_head(nested)} {{"
            yield from self._members(nested, depth + 1)
            name = declaration("", field.name, field.array) if field.name else ""
            yield f"{indent}}}{name};"


def _head(record: Record) -> str:
    aligned = f" __attribute__((aligned({record.align})))" if record.align > LARGEST_NATURAL_ALIGNMENT else ""
    return record.kind + aligned + (f" {record.tag}" if record.tag else "")


def _member(field: Field) -> str:
    bits = f" : {field.bits}" if field.bits is not None else ""
    return declaration(field.type, field.name, field.array) + bits


def _enum(enum: Enum) -> str:
    base = "int" if any(value < 0 for value in enum.values.values()) else "unsigned int"
    tag = enum.tag or enum.name
    lines = [f"typedef enum {tag} ALIQUOT_ABI_ENUM({base}) {{"]
    lines += [f"  {name} = {value}," for name, value in enum.values.items()]
    return "\n".join([*lines, f"}} {enum.name};"])


def constants(api: ApiList) -> str:
    """The API's constants as macros."""
    return "".join(f"#define {name} {value}\n" for name, value in api.constants.items())
