"""Turns what headers say into proposals for the list: families and directions by convention, versions merged.

A proposal never overrides what a person wrote: directions, sizes, families and notes in the list stay, only
facts of the ABI (types, values, versions) are compared.
"""

from __future__ import annotations

import re
from dataclasses import replace

from .model import Abi, ApiList, Function, Param

# Documentation groups of the vendor's headers, and the file of the list that such functions go to.
FAMILIES = {
    "CUDA_ERROR": "error",
    "CUDA_INITIALIZE": "init",
    "CUDA_VERSION": "init",
    "CUDA_DRIVER_ENTRY_POINT": "init",
    "CUDA_DEVICE": "device",
    "CUDA_DEVICE_DEPRECATED": "device",
    "CUDA_PRIMARY_CTX": "primary_context",
    "CUDA_CTX": "context",
    "CUDA_CTX_DEPRECATED": "context",
    "CUDA_MODULE": "module",
    "CUDA_MODULE_DEPRECATED": "module",
    "CUDA_LIBRARY": "library",
    "CUDA_MEM": "memory",
    "CUDA_VA": "virtual_memory",
    "CUDA_MALLOC_ASYNC": "memory_pool",
    "CUDA_MULTICAST": "multicast",
    "CUDA_CLIQUE": "fabric",
    "CUDA_LOGICAL_ENDPOINT": "fabric",
    "CUDA_FABRIC_COPY": "fabric",
    "CUDA_UNIFIED": "unified_addressing",
    "CUDA_STREAM": "stream",
    "CUDA_EVENT": "event",
    "CUDA_EXTRES_INTEROP": "external_resource",
    "CUDA_MEMOP": "stream_memory_operation",
    "CUDA_EXEC": "execution",
    "CUDA_EXEC_DEPRECATED": "execution",
    "CUDA_GRAPH": "graph",
    "CUDA_OCCUPANCY": "occupancy",
    "CUDA_TEXREF_DEPRECATED": "texture_reference",
    "CUDA_SURFREF_DEPRECATED": "texture_reference",
    "CUDA_TEXOBJECT": "texture_object",
    "CUDA_SURFOBJECT": "texture_object",
    "CUDA_TENSOR_MEMORY": "tensor_map",
    "CUDA_PEER_ACCESS": "peer",
    "CUDA_GRAPHICS": "graphics",
    "CUDA_COREDUMP": "coredump",
    "CUDA_GREEN_CONTEXTS": "green_context",
    "CUDA_LOGS": "logs",
    "CUDA_CHECKPOINT": "checkpoint",
    "CUDA_GL": "graphics_gl",
    "CUDA_GL_DEPRECATED": "graphics_gl",
    "CUDA_EGL": "graphics_egl",
    "CUDA_VDPAU": "graphics_vdpau",
    "CUDA_PROFILER": "profiler",
    "CUDA_PROFILER_DEPRECATED": "profiler",
}
_ARRAY_FAMILY = re.compile(r"cu(Array|MipmappedArray)")


def propose_family(name: str, group: str) -> str:
    """The family of a new function: its documentation group, cut finer where that holds several topics."""
    if name.startswith("cuIpc"):
        return "ipc"
    if _ARRAY_FAMILY.match(name):
        return "array"
    if re.match(r"cuMem(cpy|set)", name):
        return "copy"
    return FAMILIES.get(group, "other") if name.startswith("cu") else _nvml_family(name)


def _nvml_family(name: str) -> str:
    topics = (
        ("vgpu", r"(?i)vgpu|grid"),
        ("mig", r"GpuInstance|ComputeInstance|Mig"),
        ("nvlink", r"(?i)nvlink|fabric|c2c"),
        ("event", r"Event"),
        ("metrics", r"Gpm"),
        ("unit", r"nvmlUnit|nvmlSystemGetHic"),
        ("system", r"nvmlSystem|nvmlInit|nvmlShutdown|nvmlError|nvmlGet"),
        ("power", r"(?i)power|clock|fan|therm|temperature|pstate|perf|cooler"),
        ("memory", r"(?i)memory|ecc|retired|remap|bar1|dram"),
        ("process", r"Process|Accounting"),
    )
    return next((family for family, pattern in topics if re.search(pattern, name)), "device")


def propose_param(param: Param) -> Param:
    """A direction by the conventions of the API's C types; sizes are for people to say."""
    if not param.is_pointer:
        return param
    if param.type in ("const char *",):
        return replace(param, dir="in", text=True)
    if param.type.startswith("const ") and param.type.count("*") == 1:
        return replace(param, dir="in")
    if param.type in ("void *",):
        return replace(param, dir="address")
    return replace(param, dir="out")


def propose(headers: ApiList) -> ApiList:
    """The headers' API with families and directions filled in."""
    for function in headers.functions.values():
        function.family = propose_family(function.name, function.family)
        function.abis = [replace(a, params=tuple(map(propose_param, a.params))) for a in function.abis]
    return headers


def absorb(api: ApiList, headers: ApiList) -> list[str]:
    """Adds to `api` what `headers` has beyond it, and says what was added or differs.

    Call with the oldest toolkit first: a newer one corrects values and types, and what it lacks is kept.
    """
    changes: list[str] = []
    for name, proposed in headers.functions.items():
        changes += _absorb_function(api, name, proposed)
    for table in ("handles", "aliases", "constants", "records", "callbacks"):
        known, new = getattr(api, table), getattr(headers, table)
        changes += [f"{table}: {name}" for name in new if known.get(name) != new[name]]
        known.update(new)
    _drop_renamed_enums(api, headers)
    for name, enum in headers.enums.items():
        known_values = api.enums[name].values if name in api.enums else {}
        merged = {**known_values, **enum.values}
        if name not in api.enums or merged != known_values or api.enums[name].tag != enum.tag:
            changes.append(f"enums: {name}")
            api.enums[name] = replace(enum, values=dict(sorted(merged.items(), key=lambda item: item[1])))
    return changes


def _drop_renamed_enums(api: ApiList, headers: ApiList) -> None:
    """An enum whose values a newer toolkit declares under another name becomes an alias of that one."""
    owner = {value: enum.name for enum in headers.enums.values() for value in enum.values}
    for name in [name for name in api.enums if name not in headers.enums]:
        renamed = next((owner[value] for value in api.enums[name].values if value in owner), None)
        if renamed is not None:
            del api.enums[name]
            api.aliases[name] = renamed


def _absorb_function(api: ApiList, name: str, proposed: Function) -> list[str]:
    if name not in api.functions:
        api.functions[name] = proposed
        return [f"function {name}: new"]
    changes: list[str] = []
    known = {abi.symbol: abi for abi in api.functions[name].abis}
    for abi in proposed.abis:
        merged = _merge_abi(known.get(abi.symbol), abi)
        if merged != known.get(abi.symbol):
            changes.append(f"function {abi.symbol}: {'differs' if abi.symbol in known else 'new'}")
            known[abi.symbol] = merged
    api.functions[name].abis = sorted(known.values(), key=lambda abi: abi.since)
    return changes


def _merge_abi(known: Abi | None, abi: Abi) -> Abi:
    if known is None:
        return abi
    params = abi.params
    if [p.type for p in known.params] == [p.type for p in abi.params]:
        params = tuple(
            replace(k, name=p.name) if k.name != p.name else k
            for k, p in zip(known.params, abi.params, strict=True)
        )
    facts = {"since": abi.since, "result": abi.result, "params": params, "ptds": abi.ptds, "ptsz": abi.ptsz}
    return replace(known, **facts)


def mark_removed(api: ApiList, toolkits: dict[int, ApiList]) -> list[str]:
    """Notes the last toolkit that declared what the newest does not: real drivers go on exporting it."""
    declared = {version: set(headers.symbols()) for version, headers in toolkits.items()}
    newest = declared[max(declared)]
    changes: list[str] = []
    for function in api.functions.values():
        for index, abi in enumerate(function.abis):
            declaring = [version for version, symbols in declared.items() if abi.symbol in symbols]
            if abi.symbol not in newest and declaring and abi.until != max(declaring):
                function.abis[index] = replace(abi, until=max(declaring))
                changes.append(f"function {abi.symbol}: not in toolkit {max(toolkits)} any more")
    return changes
