"""C text for the list's functions: prototypes, X-macros, weak definitions, answers of `cuGetProcAddress`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .c_types import declaration, parameter_list
from .model import Abi, ApiList, Function

STREAM_TYPE = "CUstream"


@dataclass(frozen=True)
class EntryPoint:
    """One exported symbol. `base_symbol` is the symbol whose implementation a stream variant shares."""

    symbol: str
    function: Function
    abi: Abi
    variant: str  # "none", "ptds" or "ptsz"

    @property
    def is_thread_variant(self) -> bool:
        """True for a `_ptds` or `_ptsz` symbol."""
        return self.variant != "none"

    @property
    def base_symbol(self) -> str:
        """The symbol whose implementation a stream variant shares; its own name for any other."""
        return self.abi.symbol

    @property
    def arguments(self) -> str:
        """The parameters' names, as a call passes them."""
        return ", ".join(param.name for param in self.abi.params)

    @property
    def prototype(self) -> str:
        """The C declaration, without the semicolon."""
        return f"{declaration(self.abi.result, self.symbol)}({parameter_list(self.abi.params)})"


def entry_points(api: ApiList) -> list[EntryPoint]:
    """Every exported symbol in alphabetical order; its position is its index in all generated tables."""
    found: list[EntryPoint] = []
    for function in api.functions.values():
        for abi in function.abis:
            found.append(EntryPoint(abi.symbol, function, abi, "none"))
            if abi.thread_symbol and abi.thread_variant:
                found.append(EntryPoint(abi.thread_symbol, function, abi, abi.thread_variant))
    return sorted(found, key=lambda entry: entry.symbol)


def prototypes(api: ApiList) -> str:
    """Declarations of all exported symbols."""
    return "".join(f"{entry.prototype};\n" for entry in entry_points(api))


X_MACRO_HELP = """// {macro}(index, symbol, base, family, variant, result, parameters, arguments)
//   index       position in all generated tables
//   base        name without version and stream suffix
//   family      file of the list it stands in
//   variant     none, ptds or ptsz
//   parameters  (int a, char *b), or (void)
//   arguments   (a, b), or ()
#ifndef {macro}
#error "define {macro} before including this file"
#endif
"""


def x_macros(api: ApiList, prefix: str) -> str:
    """One macro call for each exported symbol, with all that a trampoline needs."""
    macro = f"ALIQUOT_{prefix}_ENTRY_POINT"
    lines = [X_MACRO_HELP.format(macro=macro)]
    for index, entry in enumerate(entry_points(api)):
        where = f"{index}, {entry.symbol}, {entry.function.name}, {entry.function.family}, {entry.variant}"
        call = f"{entry.abi.result}, ({parameter_list(entry.abi.params)}), ({entry.arguments})"
        lines.append(f"{macro}({where}, {call})\n")
    return "".join([*lines, f"#undef {macro}\n"])


def version_script(api: ApiList) -> str:
    """What leaves a library of ours: the API, and names of our own for the tools that know us.

    Nothing of the C++ runtime: an exported operator new would take the place of the host program's.
    """
    names = "".join(f"    {entry.symbol};\n" for entry in entry_points(api))
    return f"{{\n  global:\n{names}    aliquot_*;\n  local: *;\n}};\n"


# -- weak definitions

STUBS_HEAD = """// Every exported symbol as a weak definition. A plain symbol is an alias of a private
// function that says "not supported"; a stream variant calls the plain one. A strong definition takes the
// symbol's place.
#include "aliquot/{name}_abi.h"
#include "native/api/exported_symbols.hpp"
#include "native/api/per_thread_default.hpp"

#pragma GCC diagnostic ignored "-Wunused-parameter"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmissing-attributes"  // the private function is seen not to throw
#endif
#define ALIQUOT_PRIVATE __attribute__((visibility("hidden")))
#define ALIQUOT_WEAK __attribute__((weak, visibility("default")))
#define ALIQUOT_ALIAS(name) __attribute__((weak, visibility("default"), alias(#name)))

"""


def stubs(api: ApiList, name: str) -> str:
    """Weak definitions of all exported symbols, and the table that tells which of them were overridden."""
    entries = entry_points(api)
    parts = [STUBS_HEAD.format(name=name), 'extern "C" {\n']
    for entry in entries:
        parts.append(_wrapper(entry) if entry.is_thread_variant else _stub(entry))
    parts.append('}  // extern "C"\n\nnamespace aliquot::api {\nnamespace {\n\n')
    parts.append(_symbol_table(entries))
    parts.append(
        f"\n}}  // namespace\n\n"
        f"std::span<const ExportedSymbol> {name}_symbols() noexcept {{ return kSymbols; }}\n"
    )
    parts.append("\n}  // namespace aliquot::api\n")
    return "".join(parts)


def _stub(entry: EntryPoint) -> str:
    private = f"aliquot_unimplemented_{entry.symbol}"
    signature = f"{declaration(entry.abi.result, private)}({parameter_list(entry.abi.params)})"
    return (
        f"ALIQUOT_PRIVATE {signature} {{ return {_not_supported(entry.abi.result)}; }}\n"
        f"ALIQUOT_ALIAS({private}) {entry.prototype};\n"
    )


def _not_supported(result: str) -> str:
    known = {
        "CUresult": "CUDA_ERROR_NOT_SUPPORTED",
        "CUDBGResult": "CUDBG_ERROR_UNINITIALIZED",
        "nvmlReturn_t": "NVML_ERROR_NOT_SUPPORTED",
    }
    return known.get(result, "" if result == "void" else '"not supported"')


def _wrapper(entry: EntryPoint) -> str:
    """A stream variant: the null stream is the calling thread's, however the function takes a stream."""
    field = entry.abi.stream_field
    arguments = ", ".join(
        f"aliquot::api::per_thread({p.name})" if p.type == STREAM_TYPE else p.name for p in entry.abi.params
    )
    body = [f"  return {entry.base_symbol}({arguments});"]
    if field:
        body = list(_field_wrapper_body(entry, *field.split(".")))
    elif not any(p.type == STREAM_TYPE for p in entry.abi.params):
        body.insert(0, "  const aliquot::api::PerThreadDefaultScope scope;")
    return "\n".join([f"ALIQUOT_WEAK {entry.prototype} {{", *body, "}"]) + "\n"


def _field_wrapper_body(entry: EntryPoint, name: str, member: str) -> Iterator[str]:
    """The stream is in a struct that belongs to the caller: a copy names the thread's stream."""
    type_ = next(p.type for p in entry.abi.params if p.name == name).removeprefix("const ").rstrip(" *")
    arguments = ", ".join("&copy" if p.name == name else p.name for p in entry.abi.params)
    yield f"  if ({name} == nullptr) return {entry.base_symbol}({entry.arguments});"
    yield f"  {type_} copy = *{name};"
    yield f"  copy.{member} = aliquot::api::per_thread(copy.{member});"
    yield f"  return {entry.base_symbol}({arguments});"


def _symbol_table(entries: list[EntryPoint]) -> str:
    index = {entry.symbol: position for position, entry in enumerate(entries)}
    lines = ["const ExportedSymbol kSymbols[] = {\n"]
    for entry in entries:
        plain = (
            "nullptr"
            if entry.is_thread_variant
            else f"function_address(&aliquot_unimplemented_{entry.symbol})"
        )
        base = index[entry.base_symbol]
        lines.append(f'    {{"{entry.symbol}", "{entry.function.family}", ')
        lines.append(f"function_address(&{entry.symbol}), {plain}, {base}}},\n")
    return "".join([*lines, "};\n"])


# -- cuGetProcAddress


def lookup_table(api: ApiList) -> str:
    """Sorted base names, each with its ABIs from the oldest to the newest."""
    index = {entry.symbol: position for position, entry in enumerate(entry_points(api))}
    bases: list[str] = []
    abis: list[str] = []
    for function in sorted(api.functions.values(), key=lambda f: f.name):
        known = [abi for abi in function.abis if abi.lookup]
        if known:
            bases.append(f'    {{"{function.name}", {len(abis)}, {len(known)}}},\n')
        for abi in known:
            thread = index[abi.thread_symbol] if abi.thread_symbol else index[abi.symbol]
            since = abi.thread_since or 0
            abis.append(f"    {{{abi.since}, {index[abi.symbol]}, {since}, {thread}}},  // {abi.symbol}\n")
    names = "".join(f'    "{symbol}",\n' for symbol in index)
    return (
        "constexpr Base kBases[] = {\n" + "".join(bases) + "};\n"
        "constexpr AbiVersion kAbis[] = {\n" + "".join(abis) + "};\n"
        "constexpr const char* kSymbolNames[] = {\n" + names + "};\n"
    )
