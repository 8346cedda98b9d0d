"""What must hold in the list before anything is generated from it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from .model import DIRECTIONS, IDENTIFIER, Abi, ApiList, Function, Param, Record

# Names that a size expression may use beside the function's own parameters.
_EXPRESSION_WORDS = {"sizeof", "size_t"}


def problems(api: ApiList) -> list[str]:
    """Every breach of the list's rules, in words; empty when there is none."""
    found = [p for function in api.functions.values() for p in _function_problems(api, function)]
    found += [p for record in api.records.values() for p in _record_problems(api, record)]
    seen: set[str] = set()
    for function in api.functions.values():
        for abi in function.abis:
            names = [abi.symbol, *([abi.thread_symbol] if abi.thread_symbol else [])]
            found += [f"{name}: exported twice" for name in names if name in seen]
            seen.update(names)
    return found


def _function_problems(api: ApiList, function: Function) -> Iterator[str]:
    versions = [abi.since for abi in function.abis]
    if not versions:
        yield f"{function.name}: has no ABI"
    if versions != sorted(versions):
        yield f"{function.name}: ABIs are not in the order of their versions"
    for abi in function.abis:
        if abi.ptds is not None and abi.ptsz is not None:
            yield f"{abi.symbol}: has both stream variants"
        names = [param.name for param in abi.params]
        if len(set(names)) != len(names):
            yield f"{abi.symbol}: two parameters share a name"
        for param in abi.params:
            yield from _param_problems(api, abi, param)


def _param_problems(api: ApiList, abi: Abi, param: Param) -> Iterator[str]:
    where = f"{abi.symbol}({param.name})"
    if not IDENTIFIER.fullmatch(param.name):
        yield f"{where}: not a name"
    if param.is_pointer and param.dir not in DIRECTIONS:
        yield f"{where}: a pointer needs a direction out of {', '.join(DIRECTIONS)}"
    if not param.is_pointer and (param.dir or param.bytes or param.count or param.text):
        yield f"{where}: a value has neither direction nor size"
    if sum(1 for extent in (param.bytes, param.count, param.text) if extent) > 1:
        yield f"{where}: more than one of bytes, count and text"
    if param.dir == "address" and (param.bytes or param.count):
        yield f"{where}: an address that is not followed has no size"
    if param.type in ("void *", "const void *") and param.dir != "address" and not param.bytes:
        yield f"{where}: untyped data needs its size in bytes"
    known = (
        {p.name for p in abi.params}
        | _EXPRESSION_WORDS
        | set(api.enums)
        | set(api.records)
        | set(api.aliases)
    )
    for word in IDENTIFIER.findall(_without_members(param.bytes or param.count or "")):
        if word not in known and not word.startswith("CU_") and not word.startswith("NVML_"):
            yield f"{where}: the size names {word}, which is no parameter"


def _without_members(expression: str) -> str:
    """Drops `->member` and `.member`, whose names belong to the record and not to the function."""
    result, skip = [], False
    for part in expression.replace("->", " . ").split():
        if part == ".":
            skip = True
            continue
        result.append("" if skip else part)
        skip = False
    return " ".join(result)


def _record_problems(api: ApiList, record: Record) -> Iterator[str]:
    if record.kind not in ("struct", "union"):
        yield f"{record.name}: neither struct nor union"
    for field in record.fields:
        if field.inline is not None and field.inline not in api.records:
            yield f"{record.name}.{field.name}: nested record {field.inline} is not listed"
        if field.inline is None and not field.type:
            yield f"{record.name}.{field.name}: has no type"
