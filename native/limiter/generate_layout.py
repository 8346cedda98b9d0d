"""Writes the C++ structures of a slice's shared memory from src/aliquot/limits/layout.toml.

Usage: generate_layout.py OUTPUT. Needs only the standard library: it runs in the native build.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_SOURCE = Path(__file__).resolve().parents[2] / "src/aliquot/limits/layout.py"
_CPP_TYPES = {
    "u8": "std::uint8_t",
    "u32": "std::uint32_t",
    "u64": "std::uint64_t",
    "atomic_u64": "std::atomic<std::uint64_t>",
}
_HEAD = """\
// Made by native/limiter/generate_layout.py from src/aliquot/limits/layout.toml. Do not edit.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace aliquot::limiter::layout {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(std::atomic<std::uint64_t>) == 8);
"""


def _layout_module() -> ModuleType:
    """The module is loaded by its path, since the package that it is part of may not be installed here."""
    spec = importlib.util.spec_from_file_location("aliquot_slice_layout", _SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _camel(name: str) -> str:
    return "k" + "".join(part.capitalize() for part in name.split("_"))


def _constant(name: str, value: int | str) -> str:
    if isinstance(value, int):
        return f"inline constexpr std::uint32_t {_camel(name)} = {value};"
    return f'inline constexpr char {_camel(name)}[] = "{value}";'


def _member(field) -> str:
    array = "" if field.count is None else f"[{field.count}]"
    comment = f"  // {field.doc}" if field.doc else ""
    return f"  {_CPP_TYPES.get(field.type, field.type)} {field.name}{array};{comment}"


def _structure(shape) -> list[str]:
    end = max(field.offset + field.size for field in shape.fields.values())
    padding = [f"  std::uint8_t padding_[{shape.size - end}];"] if end < shape.size else []
    checks = [
        f"static_assert(offsetof({shape.name}, {f.name}) == {f.offset});" for f in shape.fields.values()
    ]
    return [
        f"\n// {shape.doc}",
        f"struct {shape.name} {{",
        *(_member(field) for field in shape.fields.values()),
        *padding,
        "};",
        f"static_assert(sizeof({shape.name}) == {shape.size});",
        *checks,
    ]


def generate() -> str:
    """The text of the header."""
    layout = _layout_module().load()
    lines = [_HEAD, f"inline constexpr std::uint32_t kVersion = {layout.version};"]
    lines += [_constant(name, value) for name, value in layout.constants.items()]
    for shape in layout.structures.values():
        lines += _structure(shape)
    return "\n".join([*lines, "\n}  // namespace aliquot::limiter::layout", ""])


if __name__ == "__main__":
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(generate(), encoding="utf-8")
