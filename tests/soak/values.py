"""Arguments of random calls: typed like the parameter, mostly plausible, sometimes absurd.

Whatever the driver may follow is memory that a caller may hand it: results go to a buffer that is large
enough, arrays are as long as their counts, text ends. What it must check itself is hostile: handles that were
freed or never were, device addresses, sizes, enumerators, flags, images.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import ctypes
import mmap
import os
import random
import re
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

from .abi import Call, DriverApi, Param

ELEMENTS = 8  # of every array that is handed in, so that counts may be anything up to it
INPUT_BYTES = 4 << 20
OUTPUT_BYTES = 16 << 20  # more than the largest pitched copy that `_NUMBERS` allow
ZERO_WORD = "zero word"
_WAITS = (1, 4)  # CU_STREAM_MEM_OP_WAIT_VALUE_32 and _64

_GUARD_BYTES = 1 << 30
_COUNT = re.compile(r"num|count|^n[A-Z]", re.IGNORECASE)
_EXTENT = re.compile(r"bytes|size|pitch|width", re.IGNORECASE)
_SMALL = (0, 0, 0, 1, 1, 2, 3, 4, 7, 8, 16, 33, 64)
_EXTENTS = (0, 1, 4, 64, 100, 512, 1024, 4096, 4096)
_ABSURD = (2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 8, 2**64 - 1)
_DIMENSIONS: dict[str, tuple[int, ...]] = {
    "gridDimX": (1, 1, 2, 8, 0, 2**32 - 1),
    "gridDimY": (1, 1, 2, 0, 2**16),
    "gridDimZ": (1, 1, 1, 2, 0, 2**16),
    "blockDimX": (1, 32, 64, 33, 0, 1025),
    "blockDimY": (1, 1, 1, 2, 0, 1025),
    "blockDimZ": (1, 1, 1, 2, 0, 65),
    "grid_width": (1, 2, 8, 0),
    "grid_height": (1, 1, 2, 0),
}
# Calls that are given host memory of the driver's, perhaps freed already. Others are not: a copy to an
# address that was given back overwrites what the process has there by then, and the fault is the caller's.
_TAKES_HOST_MEMORY = {
    "cuMemFreeHost",
    "cuMemHostUnregister",
    "cuMemHostGetDevicePointer",
    "cuMemHostGetFlags",
}
# The same for addresses that are valid on the host and on the card.
_TAKES_UNIFIED_MEMORY = {
    "cuMemFree",
    "cuMemAdvise",
    "cuMemPrefetchAsync",
    "cuMemRangeGetAttribute",
    "cuMemRangeGetAttributes",
    "cuPointerGetAttribute",
    "cuPointerGetAttributes",
    "cuStreamAttachMemAsync",
    "cuMemGetAddressRange",
}
_MAKES_UNIFIED_MEMORY = {
    "cuMemAllocManaged",
    "cuMemGetAddressRange",
    "cuMemHostGetDevicePointer",
    "cuModuleGetGlobal",
    "cuLibraryGetManaged",
}
# Which member of a union its neighbour names; without this a random number would be taken for an address.
_NODE_MEMBERS = {
    "CU_GRAPH_NODE_TYPE_KERNEL": "kernel",
    "CU_GRAPH_NODE_TYPE_MEMCPY": "memcpy",
    "CU_GRAPH_NODE_TYPE_MEMSET": "memset",
    "CU_GRAPH_NODE_TYPE_HOST": "host",
    "CU_GRAPH_NODE_TYPE_GRAPH": "graph",
    "CU_GRAPH_NODE_TYPE_EMPTY": "reserved1",
    "CU_GRAPH_NODE_TYPE_WAIT_EVENT": "eventWait",
    "CU_GRAPH_NODE_TYPE_EVENT_RECORD": "eventRecord",
    "CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL": "extSemSignal",
    "CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT": "extSemWait",
    "CU_GRAPH_NODE_TYPE_MEM_ALLOC": "alloc",
    "CU_GRAPH_NODE_TYPE_MEM_FREE": "free",
    "CU_GRAPH_NODE_TYPE_BATCH_MEM_OP": "memOp",
    "CU_GRAPH_NODE_TYPE_CONDITIONAL": "conditional",
}


class Buffer:
    """Memory of our own, handed out from the start for each call.

    Behind it lie addresses that mean nothing: a driver that follows a size that
    it should have refused is caught. Lives as long as the process.
    """

    def __init__(self, size: int) -> None:
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_size_t
        libc.mmap.argtypes = [ctypes.c_size_t, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        access, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.start: int = libc.mmap(0, size + _GUARD_BYTES, access, kind, -1, 0)
        if self.start == ctypes.c_size_t(-1).value:
            raise MemoryError("no room for a buffer")
        libc.munmap(ctypes.c_void_p(self.start + size), ctypes.c_size_t(_GUARD_BYTES))
        self.size = size
        self._used = 0

    def reset(self) -> None:
        self._used = 0

    def take(self, size: int) -> int:
        """The address of `size` bytes, which later calls use again."""
        at = self._used if self._used + size <= self.size else 0
        self._used = (at + size + 15) & ~15
        return self.start + at


class Pool:
    """What calls have produced: handles and addresses by type, the freed ones among them.

    Calls are given the latest of a type. Where all are kept, each can be given back, however old it is.
    """

    def __init__(self, shared: Path, keep_all: bool = False) -> None:
        self._values: dict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=24))
        self._made: dict[str, dict[Any, None]] = defaultdict(dict)
        self._shared, self._keep_all = shared, keep_all

    def add(self, kind: str, value: Any) -> None:
        self._values[kind].append(value)
        if self._keep_all:
            self._made[kind][value] = None

    def all(self, kind: str) -> list[Any]:
        return list(self._made[kind] if self._keep_all else self._values[kind])

    def latest(self, kind: str) -> list[Any]:
        return list(self._values[kind])

    def forget(self) -> None:
        self._values.clear()
        self._made.clear()

    def pick(self, rng: random.Random, kind: str) -> Any:
        values = self._values[kind]
        return values[rng.randrange(len(values))] if values else None

    def publish(self, kind: str, data: bytes) -> None:
        """Lets other processes have it: IPC handles."""
        (self._shared / f"{kind}-{os.getpid()}").write_bytes(data)

    def foreign(self, rng: random.Random, kind: str) -> bytes | None:
        """What some process published, perhaps one that is dead."""
        files = list(self._shared.glob(f"{kind}-*"))
        return rng.choice(files).read_bytes() if files else None


class Images:
    """Code as a program hands it over: good, cut short, mutated, empty. Kept alive; each ends with zeros."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        good = (Path(__file__).parent / "kernels.ptx").read_bytes()
        self.path = folder / "kernels.ptx"
        if not self.path.exists():
            self.path.write_bytes(good)
        texts = [good, good, good, b"", b"\x7fELF", good[: len(good) // 2], b".version 99.0\n"]
        texts += [self._mutated(rng, good) for _ in range(16)]
        self._buffers = [ctypes.create_string_buffer(text, len(text) + 256) for text in texts]

    @staticmethod
    def _mutated(rng: random.Random, text: bytes) -> bytes:
        changed = bytearray(text)
        for _ in range(rng.randint(1, 6)):
            changed[rng.randrange(len(changed))] = rng.randrange(1, 256)
        return bytes(changed)

    def pick(self, rng: random.Random) -> int:
        return ctypes.addressof(rng.choice(self._buffers))


class Arguments:
    """Makes the arguments of one thread's calls, and takes from them what the calls produced."""

    def __init__(self, api: DriverApi, rng: random.Random, pool: Pool, folder: Path) -> None:
        self._api, self._rng, self._pool = api, rng, pool
        self._in, self._out = Buffer(INPUT_BYTES), Buffer(OUTPUT_BYTES)
        self._images = Images(rng, folder)
        libc = ctypes.CDLL(None)
        self._callback = ctypes.cast(libc.getpid, ctypes.c_void_p).value  # harmless with any arguments
        words = [b"fill", b"copy", b"table", b"missing", b"", b"\xff\xfe", b"x" * 5000, b"_Z4fillPf"]
        self._words = [ctypes.create_string_buffer(word) for word in words]
        paths = [str(self._images.path), "/nonexistent", "/", str(folder / "graph.dot"), ""]
        self._paths = [ctypes.create_string_buffer(os.fsencode(path)) for path in paths]

    def make(self, call: Call) -> list[Any]:
        """One value for each parameter, fit for ctypes."""
        self._in.reset()
        self._out.reset()
        return [self._parameter(call, param) for param in call.params]

    def harvest(self, call: Call, arguments: list[Any]) -> None:
        """Remembers what a call that succeeded wrote."""
        if call.base == "cuMemMap":
            self._pool.add("mapped", (arguments[0], arguments[1]))
        for param, argument in zip(call.params, arguments, strict=True):
            if param.dir in ("out", "inout") and param.is_pointer and argument:
                self._keep(call, param, argument)
        if call.base == "cuMemAddressReserve":
            start = ctypes.c_uint64.from_address(arguments[0]).value
            self._pool.add("reserved", (start, arguments[1]))
        elif call.base == "cuDeviceRegisterAsyncNotification":
            handle = ctypes.c_uint64.from_address(arguments[3]).value
            self._pool.add("notification", (arguments[0], handle))

    # -- parameters

    def _parameter(self, call: Call, param: Param) -> Any:
        if "WaitValue" in call.base and param.name in ("addr", "value", "flags"):
            return self._met_at() if param.name == "addr" else 0
        if param.is_pointer:
            return self._pointer(call, param)
        if call.base in _TAKES_UNIFIED_MEMORY and param.type == "CUdeviceptr" and self._rng.random() < 0.3:
            return self._pool.pick(self._rng, "unified") or 0
        return self._value(param.type, param.name)

    def _pointer(self, call: Call, param: Param) -> int | None:
        if self._rng.random() < 0.04:
            return None
        if param.dir == "out":
            return self._out.take(1 << 16)
        if param.dir == "inout":
            return self._inout(param)
        if param.dir == "address" or self._api.pointee(param.type) == "void":
            return self._address(call, param)
        if self._api.plain(param.type) in ("char *", "const char *"):
            return self._text(param)
        if self._api.pointee(param.type).endswith("*"):
            return self._pointers(param.name)
        return self._array(self._api.pointee(param.type))

    def _inout(self, param: Param) -> int:
        kind = self._api.pointee(param.type)
        return self._pointers(param.name) if kind.endswith("*") else self._array(kind)

    def _address(self, call: Call, param: Param) -> int | None:
        """An untyped address, by what the name says it is for."""
        name = param.name.lower()
        if name in ("image", "code", "data", "fatcubin") and call.family in ("module", "library"):
            return self._images.pick(self._rng)
        if name in ("oshandle", "handle", "shareablehandle"):
            return self._rng.choice([self._pool.pick(self._rng, "fd") or 0, 0, 3, 2**31 - 1, 10**6])
        if call.base in _TAKES_HOST_MEMORY:
            return self._pool.pick(self._rng, "host") or self._out.start
        return self._out.take(1 << 16)

    def _text(self, param: Param) -> int:
        words = self._paths if param.name in ("fname", "path", "fileName") else self._words
        return ctypes.addressof(self._rng.choice(words))

    def _pointers(self, name: str) -> int:
        """An array of addresses: a kernel's arguments, the values of options."""
        at = self._in.take(8 * ELEMENTS)
        array = (ctypes.c_void_p * ELEMENTS).from_address(at)
        for index in range(ELEMENTS):
            array[index] = self._kernel_argument() if "aram" in name else self._out.start
        if name == "extra":
            array[0] = None  # CU_LAUNCH_PARAM_END
        return at

    def _kernel_argument(self) -> int:
        at = self._in.take(8)
        kind = self._rng.choice(["CUdeviceptr", "CUdeviceptr", "unified"])
        ctypes.c_uint64.from_address(at).value = self._pool.pick(self._rng, kind) or self._rng.choice(_SMALL)
        return at

    def _array(self, kind: str) -> int:
        made = (self._api.ctype(kind) * ELEMENTS)()
        for index in range(ELEMENTS):
            made[index] = self._value(kind, "")
        at = self._in.take(ctypes.sizeof(made))
        ctypes.memmove(at, made, ctypes.sizeof(made))
        return at

    # -- values

    def _value(self, type_: str, name: str) -> Any:
        plain = self._api.plain(type_)
        if name in _DIMENSIONS:
            return self._rng.choice(_DIMENSIONS[name])
        if plain.endswith("*"):
            return self._field_pointer(plain, name)
        if plain in self._api.list.callbacks:
            return self._callback if self._rng.random() < 0.95 else None
        if plain in self._api.list.handles:
            return self._handle(type_.removeprefix("const "))
        if plain in self._api.list.enums:
            return self._enumerator(plain)
        if plain in self._api.list.records:
            return self._record(plain)
        return self._number(type_, plain, name)

    def _field_pointer(self, plain: str, name: str) -> int | None:
        """A pointer inside of a struct. Its array is as long as any count."""
        if self._rng.random() < 0.1:
            return None
        kind = self._api.pointee(plain)
        if kind == "void":
            return self._out.start
        if kind.endswith("*"):
            return self._pointers(name)
        if kind.startswith("struct "):
            return None
        return self._array(kind)

    def _handle(self, kind: str) -> int | None:
        roll = self._rng.random()
        if roll < 0.1:
            return None
        if roll < 0.13:
            return self._rng.choice([1, 2, 3, 0x1000, self._out.start, 2**47, 2**64 - 1])
        return self._pool.pick(self._rng, kind)

    def _enumerator(self, name: str) -> int:
        if self._rng.random() < 0.04:
            return self._rng.choice([-1, 99, 2**31 - 1])
        values = [v for v in self._api.list.enums[name].values.values() if -(2**31) <= v < 2**31]
        return self._rng.choice(values)

    def _number(self, type_: str, plain: str, name: str) -> Any:
        if plain in ("float", "double"):
            return self._rng.choice([0.0, 1.0, -1.0, float("nan")])
        if type_ == "CUdevice":
            return self._rng.choice([0, 0, 0, 1, 1, 2, -1])
        kind = self._api.ctype(type_)
        number = self._integer(type_, name)
        return kind(number & (2 ** (8 * ctypes.sizeof(kind)) - 1)).value

    def _integer(self, type_: str, name: str) -> int:
        if type_.startswith("CUdeviceptr"):
            return self._device_address()
        if type_ in self._api.list.aliases and (known := self._pool.pick(self._rng, type_)) is not None:
            return known
        if "flags" in name.lower():
            return self._rng.choice([0, 0, 0, 0, 1, 2, 3, 4, 8, 2**31])
        if _COUNT.search(name) and "yte" not in name:
            return self._rng.choice([0, 1, 1, 2, 3, ELEMENTS])
        if self._rng.random() < 0.04:
            return self._rng.choice(_ABSURD)
        if name in ("bytesize", "size", "bytes"):
            return self._rng.choice([*_EXTENTS, 1 << 20, 2 << 20, 6 << 20])
        return self._rng.choice(_EXTENTS if _EXTENT.search(name) else _SMALL)

    def _device_address(self) -> int:
        roll = self._rng.random()
        if roll < 0.04:
            return self._rng.choice([0, 8, 2**47, 2**64 - 1])
        base = self._pool.pick(self._rng, "CUdeviceptr") or 0
        return base if roll < 0.8 else base + self._rng.choice([4, 256, 4096, 1 << 20])

    # -- records

    def _record(self, name: str) -> Any:
        made = self._api.structure(name)()
        if name.startswith("CUipc") and (data := self._pool.foreign(self._rng, name)):
            ctypes.memmove(ctypes.byref(made), data.ljust(ctypes.sizeof(made), b"\0"), ctypes.sizeof(made))
        else:
            self._fill(made, name)
        return made

    def _fill(self, made: Any, name: str) -> None:
        record = self._api.list.records[name]
        if name == "CUgraphNodeParams":
            self._fill_node(made)
            return
        fields = list(enumerate(record.fields))
        if record.kind == "union":
            fields = [self._rng.choice(fields)]
        for index, field in fields:
            member = field.name or f"unnamed_{index}"
            if field.inline:
                self._fill_inline(made, member, field.inline, bool(field.array))
            elif not field.array:
                setattr(made, member, self._value(field.type, field.name))
        if name == "CUstreamBatchMemOpParams_v1":
            self._satisfy(made)

    def _fill_inline(self, made: Any, member: str, inline: str, array: bool) -> None:
        if not array:
            self._fill(getattr(made, member), inline)

    def _fill_node(self, made: Any) -> None:
        type_name, member = self._rng.choice(list(_NODE_MEMBERS.items()))
        made.type = self._api.list.enums["CUgraphNodeType"].values[type_name]
        if member != "reserved1":
            union = self._api.list.records["CUgraphNodeParams.2"]
            field = next(field for field in union.fields if field.name == member)
            self._fill(getattr(made, member), self._api.plain(field.type))

    def _satisfy(self, made: Any) -> None:
        """A wait in a batch is one that is over at once."""
        if made.operation in _WAITS:
            made.waitValue.address = self._met_at()
            made.waitValue.value64 = 0
            made.waitValue.flags = 0

    def _met_at(self) -> int:
        """Where a word lies that nobody writes: it is always at least 0. Another might never become so."""
        return self._pool.pick(self._rng, ZERO_WORD) or 0

    # -- results

    def _keep(self, call: Call, param: Param, address: int) -> None:
        kind = self._api.pointee(param.type)
        plain = self._api.plain(kind)
        if plain in self._api.list.handles or kind in ("CUdeviceptr", *self._kept_aliases()):
            value = ctypes.c_uint64.from_address(address).value
            if value:
                self._pool.add("unified" if call.base in _MAKES_UNIFIED_MEMORY else kind, value)
        elif kind.startswith("CUipc"):
            size = ctypes.sizeof(self._api.ctype(kind))
            self._pool.publish(plain, ctypes.string_at(address, size))
        elif call.base in ("cuMemHostAlloc", "cuMemAllocHost"):
            self._pool.add("host", ctypes.c_uint64.from_address(address).value)
        elif call.base in ("cuMemExportToShareableHandle", "cuMemPoolExportToShareableHandle"):
            self._keep_descriptor(ctypes.c_int.from_address(address).value)

    @staticmethod
    def _kept_aliases() -> tuple[str, ...]:
        return ("CUmemGenericAllocationHandle", "CUtexObject", "CUsurfObject", "CUgraphConditionalHandle")

    def _keep_descriptor(self, descriptor: int) -> None:
        known = self._pool.latest("fd")
        if len(known) >= 20:
            close_quietly(known[0])
        self._pool.add("fd", descriptor)


def close_quietly(descriptor: int) -> None:
    """Closes a file descriptor that may be closed already."""
    try:
        os.close(descriptor)
    except OSError:
        return
