"""Reads a vendor's headers with libclang (a development-only package) into the list's model.

Facts of the ABI only: names, types, values, sizes, versions. Comments are used for one thing, the
documentation group that a prototype stands in, from which a new function's family is proposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clang import cindex

from .model import Abi, ApiList, Callback, Enum, Field, Function, Param, Record

# Types of OpenGL, EGL and VDPAU that the interoperability headers mention, so that none need be installed.
# Their widths are fixed by the Khronos registry (GLuint, GLenum, EGLint) and by vdpau.h.
_SHIMS = {
    "GL/gl.h": "typedef unsigned int GLuint; typedef unsigned int GLenum;",
    "EGL/egl.h": "typedef int EGLint; typedef void *EGLStreamKHR; typedef void *EGLImageKHR;"
    "typedef void *EGLSyncKHR;",
    "EGL/eglext.h": "",
    "vdpau/vdpau.h": "typedef unsigned int VdpDevice; typedef unsigned int VdpVideoSurface;"
    "typedef unsigned int VdpOutputSurface; typedef unsigned int VdpFuncId; typedef int VdpStatus;"
    "typedef VdpStatus VdpGetProcAddress(VdpDevice device, VdpFuncId function_id,"
    " void **function_pointer);",
    "stddef.h": "typedef unsigned long size_t;",
    "stdlib.h": "#include <stddef.h>",
    "stdint.h": "typedef signed char int8_t; typedef short int16_t; typedef int int32_t;"
    "typedef long int64_t;"
    "typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned int uint32_t;"
    "typedef unsigned long uint64_t;",
}
_FOREIGN_TYPES = ("GL/gl.h", "EGL/egl.h", "vdpau/vdpau.h")
_SHIM_ROOT = "/shim/"

_CUDA_UNIT = """
#include <stdint.h>
#include <cuda.h>
#include <cudaGL.h>
#include <cudaEGL.h>
#include <vdpau/vdpau.h>
#include <cudaVDPAU.h>
#if __has_include(<cudaProfiler.h>)
#include <cudaProfiler.h>
#include <cudaProfilerTypedefs.h>
#endif
#include <cudaTypedefs.h>
#include <cudaGLTypedefs.h>
#include <cudaEGLTypedefs.h>
#include <cudaVDPAUTypedefs.h>
"""
_NVML_UNIT = "#include <stddef.h>\n#include <nvml.h>\n"

_TYPED_POINTER = re.compile(r"PFN_(\w+?)_v(\d+)(?:_(ptds|ptsz))?$")
_SYMBOL = re.compile(r"(\w+?)(?:_v(\d+))?(?:_(ptds|ptsz))?$")
_CONSTANT = re.compile(r"(CU_|CUDA_|NVML_|nvml|MAX_)\w+$")
_GROUP = re.compile(r"\\defgroup\s+(\w+)")
# Macros that configure the header itself, and have no meaning outside it.
_NOT_CONSTANTS = {"CUDA_CB", "CUDAAPI", "CU_UUID_HAS_BEEN_DEFINED"}


class HeaderError(Exception):
    """A header does not parse, or a typed pointer has no prototype. The message names it."""


@dataclass(frozen=True)
class _Prototype:
    result: str
    params: tuple[Param, ...]
    group: str


def read_cuda(include: Path) -> ApiList:
    """The driver API as the headers under `include` declare it, every old ABI included."""
    reader = _Reader(include, _CUDA_UNIT, ["-D__CUDA_API_VERSION_INTERNAL"])
    api = reader.read_types()
    reader.attach_cuda_functions(api)
    return api


def read_nvml(include: Path) -> ApiList:
    """NVML as `nvml.h` under `include` declares it, every version of each function included."""
    reader = _Reader(include, _NVML_UNIT, ["-DNVML_NO_UNVERSIONED_FUNC_DEFS"])
    api = reader.read_types()
    reader.attach_nvml_functions(api)
    return api


def toolkit_version(include: Path) -> int:
    """CUDA_VERSION of cuda.h under `include`, e.g. 13050."""
    match = re.search(r"^#define CUDA_VERSION (\d+)", (include / "cuda.h").read_text(), re.MULTILINE)
    if match is None:
        raise HeaderError(f"{include}/cuda.h defines no CUDA_VERSION")
    return int(match[1])


class _Reader:
    """One translation unit, and the tables that its declarations fill."""

    def __init__(self, include: Path, source: str, defines: list[str]) -> None:
        files = [(_SHIM_ROOT + name, text + "\n") for name, text in _SHIMS.items()]
        files.append((_SHIM_ROOT + "unit.c", source))
        arguments = ["-nostdinc", "-isystem", _SHIM_ROOT, "-I", str(include), "-std=c11", *defines]
        arguments.append("--target=x86_64-linux-gnu")
        self._unit = cindex.Index.create().parse(
            _SHIM_ROOT + "unit.c",
            args=arguments,
            unsaved_files=files,
            options=cindex.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD,
        )
        errors = [str(d) for d in self._unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
        if errors:
            raise HeaderError("; ".join(errors))
        self._include = str(include)
        self._groups: dict[str, list[tuple[int, str]]] = {}

    # -- types

    def read_types(self) -> ApiList:
        api = ApiList()
        for cursor in self._declarations():
            kind = cursor.kind.name
            if kind == "TYPEDEF_DECL" and not cursor.spelling.startswith("PFN_"):
                self._take_typedef(api, cursor)
            elif kind == "ENUM_DECL" and not _is_nameless(cursor):
                self._take_enum(api, cursor.spelling, cursor)
            elif kind == "MACRO_DEFINITION":
                self._take_macro(api, cursor)
        return api

    def _declarations(self) -> Iterator[Any]:
        foreign = {_SHIM_ROOT + name for name in _FOREIGN_TYPES}
        for cursor in self._unit.cursor.get_children():
            file = cursor.location.file
            if file and (file.name.startswith(self._include) or file.name in foreign):
                yield cursor

    def _take_typedef(self, api: ApiList, cursor: Any) -> None:
        target = cursor.underlying_typedef_type
        name = cursor.spelling
        kind = target.get_canonical().kind.name
        declaration = target.get_declaration()
        if declaration.kind.name in ("STRUCT_DECL", "UNION_DECL") and declaration.is_definition():
            self._take_record(api, name, declaration)
        elif declaration.kind.name == "ENUM_DECL":
            self._take_enum(api, name, declaration)
        elif kind in ("FUNCTIONPROTO", "FUNCTIONNOPROTO") or _points_to_function(target):
            api.callbacks.setdefault(name, _callback(name, target, cursor))
        elif _is_handle(target):
            api.handles.setdefault(name, target.get_pointee().get_declaration().spelling)
        else:
            api.aliases.setdefault(name, _spelling(target))

    def _take_enum(self, api: ApiList, name: str, declaration: Any) -> None:
        tag = None if _is_nameless(declaration) else declaration.spelling
        if tag and tag in api.enums and tag != name:
            del api.enums[tag]
        if any(tag and known.tag == tag and known.name != name for known in api.enums.values()):
            known = next(k for k in api.enums.values() if k.tag == tag)
            if name != tag:
                api.aliases.setdefault(name, known.name)
            return
        values = {
            c.spelling: c.enum_value
            for c in declaration.get_children()
            if c.kind.name == "ENUM_CONSTANT_DECL"
        }
        api.enums.setdefault(name, Enum(name, values, tag))

    def _take_record(self, api: ApiList, name: str, declaration: Any) -> None:
        tag = None if _is_nameless(declaration) else declaration.spelling
        known = next((r for r in api.records.values() if tag and r.tag == tag), None)
        if known is not None:
            api.aliases.setdefault(name, known.name)
            return
        fields = tuple(self._fields(api, name, declaration))
        kind = "union" if declaration.kind.name == "UNION_DECL" else "struct"
        size, align = declaration.type.get_size(), declaration.type.get_align()
        api.records[name] = Record(name, kind, size, align, fields, tag)

    def _fields(self, api: ApiList, owner: str, declaration: Any) -> Iterator[Field]:
        children = list(declaration.get_children())
        named = {_element(c.type).get_declaration().hash for c in children if c.kind.name == "FIELD_DECL"}
        for index, child in enumerate(children):
            if child.kind.name == "FIELD_DECL":
                yield self._field(api, owner, child)
            elif child.kind.name in ("STRUCT_DECL", "UNION_DECL") and child.hash not in named:
                nested = f"{owner}.{index}"
                self._take_record(api, nested, child)
                yield Field("", inline=nested)

    def _field(self, api: ApiList, owner: str, child: Any) -> Field:
        element, dimensions = child.type, []
        while element.kind.name == "CONSTANTARRAY":
            dimensions.append(str(element.element_count))
            element = element.element_type
        bits = child.get_bitfield_width() if child.is_bitfield() else None
        declaration = element.get_declaration()
        if _is_nameless(declaration) or _defined_in(declaration, child):
            nested = f"{owner}.{child.spelling}"
            self._take_record(api, nested, declaration)
            return Field(child.spelling, inline=nested, array=tuple(dimensions), bits=bits)
        return Field(child.spelling, _spelling(element), array=tuple(dimensions), bits=bits)

    def _take_macro(self, api: ApiList, cursor: Any) -> None:
        name = cursor.spelling
        if not _CONSTANT.match(name) or name in _NOT_CONSTANTS:
            return
        spelled = [t.spelling for t in cursor.get_tokens() if t.kind.name != "COMMENT"]
        tokens = [text.replace("\\\n", "").strip() for text in spelled][1:]
        if not tokens:
            return
        if _is_function_like(cursor):
            if not name.endswith("_STRUCT_VERSION"):
                return  # code, not a fact of the ABI
            close = tokens.index(")")
            name += "".join(tokens[: close + 1]).replace(",", ", ")
            tokens = tokens[close + 1 :]
        api.constants[name] = _tidy(" ".join(tokens))

    # -- functions

    def _prototypes(self) -> dict[str, _Prototype]:
        found: dict[str, _Prototype] = {}
        for cursor in self._declarations():
            if cursor.kind.name != "FUNCTION_DECL" or cursor.storage_class.name == "STATIC":
                continue
            params = tuple(_param(p) for p in cursor.get_arguments())
            group = self._group_at(cursor.location.file.name, cursor.location.line)
            result = _spelling(cursor.result_type)
            if cursor.spelling not in found:
                found[cursor.spelling] = _Prototype(result, params, group)
        return found

    def _group_at(self, file: str, line: int) -> str:
        if file not in self._groups:
            lines = Path(file).read_text(errors="replace").splitlines()
            self._groups[file] = [(i, m[1]) for i, text in enumerate(lines, 1) if (m := _GROUP.search(text))]
        return next((group for at, group in reversed(self._groups[file]) if at <= line), "")

    def attach_cuda_functions(self, api: ApiList) -> None:
        prototypes = self._prototypes()
        versions = self._typed_pointer_versions()
        bases: dict[str, list[str]] = {}
        for symbol in prototypes:
            bases.setdefault(split_symbol(symbol)[0], []).append(symbol)
        for base, symbols in bases.items():
            introduced = _introduced(base, symbols, versions.get(base, []))
            # The first declaration stands in the documentation; old ABIs come at the end of the header.
            group = prototypes[symbols[0]].group
            api.functions[base] = Function(base, group, _abis(symbols, introduced, prototypes))

    def _typed_pointer_versions(self) -> dict[str, list[tuple[int, str | None]]]:
        found: dict[str, list[tuple[int, str | None]]] = {}
        for cursor in self._declarations():
            match = cursor.kind.name == "TYPEDEF_DECL" and _TYPED_POINTER.match(cursor.spelling)
            if match:
                found.setdefault(match[1], []).append((int(match[2]), match[3]))
        return found

    def attach_nvml_functions(self, api: ApiList) -> None:
        names = self._prototypes()
        for symbol, prototype in names.items():
            base = split_symbol(symbol)[0]
            function = api.functions.setdefault(base, Function(base, prototype.group))
            function.abis.append(Abi(symbol, split_symbol(symbol)[1], prototype.result, prototype.params))
        for function in api.functions.values():
            function.abis.sort(key=lambda abi: abi.since)
        for macro in [m for m, value in api.constants.items() if m in api.functions or value in names]:
            del api.constants[macro]


def split_symbol(symbol: str) -> tuple[str, int, str | None]:
    """'cuMemcpyHtoD_v2_ptds' -> ('cuMemcpyHtoD', 2, 'ptds'); no suffix is ABI 1."""
    match = _SYMBOL.match(symbol)
    assert match is not None
    return match[1], int(match[2] or 1), match[3]


def _introduced(base: str, symbols: list[str], versions: list[tuple[int, str | None]]) -> dict[str, int]:
    """Pairs the symbols of one base with the versions that cudaTypedefs.h names for it, in order of age."""
    result: dict[str, int] = {}
    for variant in (None, "ptds", "ptsz"):
        ordered = sorted(
            (s for s in symbols if split_symbol(s)[2] == variant), key=lambda s: split_symbol(s)[1]
        )
        known = sorted(version for version, v in versions if v == variant)
        if len(ordered) != len(known):
            raise HeaderError(f"{base}: symbols {ordered} and versions {known} do not pair")
        result.update(zip(ordered, known, strict=True))
    return result


def _abis(symbols: list[str], introduced: dict[str, int], prototypes: dict[str, _Prototype]) -> list[Abi]:
    plain = sorted((s for s in symbols if split_symbol(s)[2] is None), key=lambda s: split_symbol(s)[1])
    abis = []
    for symbol in plain:
        prototype = prototypes[symbol]
        ptds, ptsz = introduced.get(f"{symbol}_ptds"), introduced.get(f"{symbol}_ptsz")
        abis.append(Abi(symbol, introduced[symbol], prototype.result, prototype.params, ptds, ptsz))
    return abis


def _element(kind: Any) -> Any:
    while kind.kind.name == "CONSTANTARRAY":
        kind = kind.element_type
    return kind


def _tidy(expression: str) -> str:
    expression = re.sub(r"(?<=[(~]) +| +(?=[),])| *(->) *", r"\1", expression)
    return re.sub(r"(?<=[(])- ", "-", re.sub(r"^- ", "-", expression))


def _param(cursor: Any) -> Param:
    return Param(cursor.spelling, _spelling(cursor.type))


def _callback(name: str, target: Any, cursor: Any) -> Callback:
    pointer = _points_to_function(target)
    function = target.get_pointee() if pointer else target
    function = function.get_canonical() if function.kind.name == "TYPEDEF" else function
    names = [c.spelling for c in cursor.get_children() if c.kind.name == "PARM_DECL"]
    types = [_spelling(t) for t in function.argument_types()]
    params = tuple(Param(n or f"argument{i}", t) for i, (n, t) in enumerate(zip(names, types, strict=True)))
    result = function.get_result() if hasattr(function, "get_result") else function
    return Callback(name, _spelling(result), params, pointer)


def _spelling(kind: Any) -> str:
    if kind.kind.name in ("CONSTANTARRAY", "INCOMPLETEARRAY"):
        return _spelling(kind.element_type) + " *"
    text = kind.spelling
    return re.sub(r"\*\s+(?=\*)", "*", text)


def _is_nameless(declaration: Any) -> bool:
    named = declaration.kind.name in ("STRUCT_DECL", "UNION_DECL", "ENUM_DECL")
    return named and (not declaration.spelling or "(" in declaration.spelling or declaration.is_anonymous())


def _points_to_function(kind: Any) -> bool:
    return kind.kind.name == "POINTER" and kind.get_pointee().get_canonical().kind.name.startswith("FUNCTION")


def _is_handle(kind: Any) -> bool:
    if kind.kind.name != "POINTER":
        return False
    declaration = kind.get_pointee().get_declaration()
    return declaration.kind.name == "STRUCT_DECL" and declaration.get_definition() is None


def _defined_in(declaration: Any, field: Any) -> bool:
    """True where the record is defined right in the declaration of `field`: C gives such a tag file scope."""
    inside = declaration.extent.start.offset >= field.extent.start.offset
    return (
        declaration.kind.name in ("STRUCT_DECL", "UNION_DECL")
        and inside
        and declaration.extent.end.offset <= field.extent.end.offset
    )


def _is_function_like(cursor: Any) -> bool:
    tokens = list(cursor.get_tokens())
    if len(tokens) < 2 or tokens[1].spelling != "(":
        return False
    return tokens[0].extent.end.offset == tokens[1].extent.start.offset
