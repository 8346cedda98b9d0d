"""The data of the list: functions with their ABIs, and the types they take. Pure data, no I/O.

`ApiList` holds one library's API (CUDA driver or NVML). Names are the vendor's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# What a pointer parameter is to the callee: data read, data written, both, or an address that is only kept
# or handed on (a host pointer to unpin, a callback's argument).
DIRECTIONS = ("in", "out", "inout", "address")
THREAD_VARIANTS = ("ptds", "ptsz")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Param:
    """One parameter. `count` (elements) and `bytes` are C expressions over the other parameters' names.

    Without either, a pointer with a direction points to one element; `text` marks NUL-terminated characters.
    """

    name: str
    type: str
    dir: str | None = None
    bytes: str | None = None
    count: str | None = None
    text: bool = False
    note: str | None = None

    @property
    def is_pointer(self) -> bool:
        """Whether the callee is given an address; handles and callbacks are values."""
        return self.type.endswith("*")


@dataclass(frozen=True)
class Abi:
    """One exported symbol of a function and the CUDA version (major*1000 + minor*10) that introduced it.

    `ptds` or `ptsz` is the version that introduced the variant for the per-thread default stream, whose
    symbol has that suffix. `until` is the last toolkit whose headers declared the symbol, where newer ones do
    not. `stream_field` says where a stream hides inside a struct parameter, as in "config.hStream". `lookup`
    is false for an exported symbol that `cuGetProcAddress` does not know. For NVML, `since` is the number in
    the suffix.
    """

    symbol: str
    since: int
    result: str = "CUresult"
    params: tuple[Param, ...] = ()
    ptds: int | None = None
    ptsz: int | None = None
    until: int | None = None
    stream_field: str | None = None
    lookup: bool = True
    note: str | None = None

    @property
    def thread_variant(self) -> str | None:
        """ "ptds", "ptsz", or None where there is no variant for the per-thread default stream."""
        return next((v for v in THREAD_VARIANTS if getattr(self, v) is not None), None)

    @property
    def thread_symbol(self) -> str | None:
        """Name of the variant for the per-thread default stream."""
        variant = self.thread_variant
        return f"{self.symbol}_{variant}" if variant else None

    @property
    def thread_since(self) -> int | None:
        """CUDA version that introduced that variant."""
        variant = self.thread_variant
        return getattr(self, variant) if variant else None


@dataclass
class Function:
    """A base name, as `cuGetProcAddress` takes it, and its ABIs from the oldest to the newest."""

    name: str
    family: str
    abis: list[Abi] = field(default_factory=list)


@dataclass(frozen=True)
class Field:
    """A member of a record. `inline` names a record defined in place; `array` holds its dimensions."""

    name: str
    type: str = ""
    inline: str | None = None
    array: tuple[str, ...] = ()
    bits: int | None = None


@dataclass(frozen=True)
class Record:
    """A struct or union with its size and alignment in bytes on a 64-bit host."""

    name: str
    kind: str
    size: int
    align: int
    fields: tuple[Field, ...]
    tag: str | None = None


@dataclass(frozen=True)
class Enum:
    """An enumeration: names and values, in the order of the values."""

    name: str
    values: dict[str, int]
    tag: str | None = None


@dataclass(frozen=True)
class Callback:
    """A function type; `pointer` is false where the typedef names the function type itself."""

    name: str
    result: str
    params: tuple[Param, ...]
    pointer: bool = True


@dataclass
class ApiList:
    """All that the list says about one API."""

    functions: dict[str, Function] = field(default_factory=dict)
    handles: dict[str, str] = field(default_factory=dict)  # typedef name -> tag of the incomplete struct
    aliases: dict[str, str] = field(default_factory=dict)
    enums: dict[str, Enum] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    callbacks: dict[str, Callback] = field(default_factory=dict)
    constants: dict[str, str] = field(
        default_factory=dict
    )  # macro, with its parameters if any -> replacement

    def symbols(self) -> dict[str, tuple[Function, Abi]]:
        """Every exported symbol, thread variants included, with where it comes from."""
        found: dict[str, tuple[Function, Abi]] = {}
        for function in self.functions.values():
            for abi in function.abis:
                found[abi.symbol] = (function, abi)
                if abi.thread_symbol:
                    found[abi.thread_symbol] = (function, abi)
        return found
