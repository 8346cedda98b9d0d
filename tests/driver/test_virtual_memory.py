"""Virtual memory management: reserve, create, map, give access, share, and what each refuses."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MIB = 1 << 20
BLOCK = 2 * MIB
WORDS = BLOCK // 4


def used(api: Any) -> int:
    free, total = api.cuMemGetInfo()
    return total - free


def properties(api: Any, *, shareable: bool = False, host: bool = False) -> Any:
    made = api.CUmemAllocationProp()
    made.type = api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    kinds = api.CUmemLocationType
    made.location.type = kinds.CU_MEM_LOCATION_TYPE_HOST if host else kinds.CU_MEM_LOCATION_TYPE_DEVICE
    made.location.id = 0
    if shareable:
        made.requestedHandleTypes = posix(api)
    return made


def posix(api: Any) -> Any:
    return api.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR


def access(api: Any, flags: str = "READWRITE", *, device: int = 0, host: bool = False) -> Any:
    made = api.CUmemAccessDesc()
    kinds = api.CUmemLocationType
    made.location.type = kinds.CU_MEM_LOCATION_TYPE_HOST if host else kinds.CU_MEM_LOCATION_TYPE_DEVICE
    made.location.id = device
    made.flags = getattr(api.CUmemAccess_flags, f"CU_MEM_ACCESS_FLAGS_PROT_{flags}")
    return made


class Mapped:
    """A reservation of `blocks` blocks with a handle mapped at each."""

    def __init__(self, api: Any, blocks: int = 1, **how: Any) -> None:
        self.api, self.bytes = api, blocks * BLOCK
        self.address = int(api.cuMemAddressReserve(self.bytes, 0, 0, 0))
        self.handles = []
        for i in range(blocks):
            handle = api.cuMemCreate(BLOCK, properties(api, **how), 0)
            api.cuMemMap(self.address + i * BLOCK, BLOCK, 0, handle, 0)
            self.handles.append(handle)

    def allow(self, flags: str = "READWRITE", **place: Any) -> None:
        self.api.cuMemSetAccess(self.address, self.bytes, [access(self.api, flags, **place)], 1)

    def close(self) -> None:
        self.api.module.cuMemUnmap(self.address, self.bytes)
        for handle in self.handles:
            self.api.module.cuMemRelease(handle)
        self.api.module.cuMemAddressFree(self.address, self.bytes)


@pytest.fixture
def mapped(api: Any, context: Any) -> Iterator[Any]:
    """Makes mappings, which are undone after the test: mapped(blocks, **properties)."""
    made: list[Mapped] = []

    def make(blocks: int = 1, **how: Any) -> Mapped:
        made.append(Mapped(api, blocks, **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


def fill(api: Any, address: int, count: int) -> np.ndarray:
    values = np.arange(count, dtype=np.uint32)
    api.cuMemcpyHtoD(address, values.ctypes.data, values.nbytes)
    return values


def read(api: Any, address: int, count: int) -> np.ndarray:
    values = np.empty(count, np.uint32)
    api.cuMemcpyDtoH(values.ctypes.data, address, values.nbytes)
    return values


def test_only_handles_are_charged(api: Any, context: Any) -> None:
    before = used(api)
    address = int(api.cuMemAddressReserve(1 << 36, 0, 0, 0))
    assert used(api) == before
    handle = api.cuMemCreate(3 * BLOCK, properties(api), 0)
    assert used(api) == before + 3 * BLOCK
    api.cuMemMap(address, 3 * BLOCK, 0, handle, 0)
    api.cuMemRelease(handle)
    assert used(api) == before + 3 * BLOCK, "the mapping keeps it"
    api.cuMemUnmap(address, 3 * BLOCK)
    assert used(api) == before
    api.cuMemAddressFree(address, 1 << 36)


def test_memory_spans_mappings(api: Any, context: Any, mapped: Any, kernels: Any, launch: Any) -> None:
    range_ = mapped(4)
    range_.allow()
    values = fill(api, range_.address, 4 * WORDS)
    launch(kernels("increment"), 1, 32, range_.address + 2 * BLOCK)
    back = read(api, range_.address, 4 * WORDS)
    values[2 * WORDS] += 32
    assert (back == values).all()
    api.cuMemsetD32(range_.address + BLOCK // 2, 7, WORDS)
    back = read(api, range_.address + BLOCK // 2, WORDS)
    assert (back == 7).all()


def test_contents_stay_with_the_handle(api: Any, context: Any) -> None:
    first = int(api.cuMemAddressReserve(BLOCK, 0, 0, 0))
    second = int(api.cuMemAddressReserve(BLOCK, 0, 0, 0))
    handle = api.cuMemCreate(BLOCK, properties(api), 0)
    api.cuMemMap(first, BLOCK, 0, handle, 0)
    api.cuMemSetAccess(first, BLOCK, [access(api)], 1)
    values = fill(api, first, 1000)
    api.cuMemUnmap(first, BLOCK)
    api.cuMemMap(second, BLOCK, 0, handle, 0)
    assert api.code("cuMemcpyDtoH", values.ctypes.data, second, 4) == "INVALID_VALUE", "access starts at none"
    api.cuMemSetAccess(second, BLOCK, [access(api)], 1)
    assert (read(api, second, 1000) == values).all()
    api.cuMemUnmap(second, BLOCK)
    api.cuMemRelease(handle)
    fresh = api.cuMemCreate(BLOCK, properties(api), 0)
    api.cuMemMap(second, BLOCK, 0, fresh, 0)
    api.cuMemSetAccess(second, BLOCK, [access(api)], 1)
    assert not read(api, second, WORDS).any(), "another's bytes are not handed on"
    api.cuMemUnmap(second, BLOCK)
    api.cuMemRelease(fresh)
    for address in (first, second):
        api.cuMemAddressFree(address, BLOCK)


def test_two_addresses_show_one_handle(api: Any, context: Any, kernels: Any, launch: Any) -> None:
    address = int(api.cuMemAddressReserve(2 * BLOCK, 0, 0, 0))
    handle = api.cuMemCreate(BLOCK, properties(api), 0)
    for i in range(2):
        api.cuMemMap(address + i * BLOCK, BLOCK, 0, handle, 0)
    api.cuMemSetAccess(address, 2 * BLOCK, [access(api)], 1)
    launch(kernels("increment"), 1, 32, address)
    api.cuCtxSynchronize()
    assert read(api, address + BLOCK, 1)[0] == 32
    api.cuMemUnmap(address, 2 * BLOCK)
    api.cuMemRelease(handle)
    api.cuMemAddressFree(address, 2 * BLOCK)


@pytest.mark.parametrize("state", ["no access", "read only", "unmapped"])
def test_a_kernel_faults(api: Any, context: Any, mapped: Any, kernels: Any, launch: Any, state: str) -> None:
    range_ = mapped()
    if state == "read only":
        range_.allow("READ")
        assert not read(api, range_.address, 1)[0]
        assert api.code("cuMemsetD32", range_.address, 1, 1) == "INVALID_VALUE"
    elif state == "unmapped":
        range_.allow()
        api.cuMemUnmap(range_.address, range_.bytes)
        assert api.code("cuMemsetD8", range_.address, 1, 1) == "INVALID_VALUE"
    launch(kernels("increment"), 1, 1, range_.address)
    assert api.code("cuCtxSynchronize") == "ILLEGAL_ADDRESS"


def test_access_is_reported(api: Any, mapped: Any) -> None:
    range_ = mapped(2)
    place = access(api).location
    assert api.cuMemGetAccess(place, range_.address) == 0
    range_.allow("READ")
    assert api.cuMemGetAccess(place, range_.address + BLOCK) == 1
    range_.allow()
    assert api.cuMemGetAccess(place, range_.address + 5) == 3
    flags = api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_ACCESS_FLAGS
    assert int(api.cuPointerGetAttribute(flags, range_.address)) == 3
    range_.allow("NONE")
    assert api.cuMemGetAccess(place, range_.address) == 0
    assert api.code("cuMemGetAccess", place, range_.address + range_.bytes) == "INVALID_VALUE"


def test_pointer_queries(api: Any, mapped: Any) -> None:
    range_ = mapped(2, shareable=True)
    inside = range_.address + BLOCK + 100
    base, size = api.cuMemGetAddressRange(inside)
    assert (int(base), size) == (range_.address + BLOCK, BLOCK)
    names = api.CUpointer_attribute
    asked = {
        names.CU_POINTER_ATTRIBUTE_MEMORY_TYPE: api.CUmemorytype.CU_MEMORYTYPE_DEVICE,
        names.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: 0,
        names.CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: range_.address + BLOCK,
        names.CU_POINTER_ATTRIBUTE_RANGE_SIZE: BLOCK,
        names.CU_POINTER_ATTRIBUTE_MAPPED: True,
        names.CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: False,
    }
    for attribute, expected in asked.items():
        assert int(api.cuPointerGetAttribute(attribute, inside)) == int(expected), attribute


def test_the_handle_of_an_address(api: Any, mapped: Any) -> None:
    range_ = mapped()
    handle = range_.handles[0]
    again = api.cuMemRetainAllocationHandle(range_.address + 17)
    assert int(again) == int(handle)
    found = api.cuMemGetAllocationPropertiesFromHandle(handle)
    assert found.location.type == api.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    api.cuMemRelease(handle)
    api.cuMemRelease(handle)
    assert api.code("cuMemRelease", handle) == "INVALID_VALUE"
    assert api.code("cuMemGetAllocationPropertiesFromHandle", handle) == "INVALID_VALUE"
    assert int(api.cuMemRetainAllocationHandle(range_.address)) == int(handle), "mapped: it can be had again"
    assert api.code("cuMemRetainAllocationHandle", range_.address + BLOCK) == "INVALID_VALUE"


def test_memory_of_the_host(api: Any, mapped: Any, kernels: Any, launch: Any) -> None:
    before = used(api)
    range_ = mapped(host=True)
    assert used(api) == before
    range_.allow()
    range_.allow(host=True)
    word = ctypes.c_uint32.from_address(range_.address)
    word.value = 5
    launch(kernels("increment"), 1, 32, range_.address)
    api.cuCtxSynchronize()
    assert word.value == 37
    assert read(api, range_.address, 1)[0] == 37


def test_reservations(api: Any, context: Any) -> None:
    address = int(api.cuMemAddressReserve(BLOCK, 1 << 24, 0, 0))
    assert address % (1 << 24) == 0
    hinted = int(api.cuMemAddressReserve(BLOCK, 0, address + (1 << 24), 0))
    assert hinted == address + (1 << 24)
    assert int(api.cuMemAddressReserve(BLOCK, 0, hinted, 0)) != hinted, "a hint that is taken is passed over"
    for arguments, code in {
        (0, 0, 0, 0): "INVALID_VALUE",
        (100, 0, 0, 0): "INVALID_VALUE",
        (BLOCK, 3, 0, 0): "INVALID_VALUE",
        (BLOCK, 0, 5, 0): "INVALID_VALUE",
        (BLOCK, 0, 0, 1): "INVALID_VALUE",
        (1 << 60, 0, 0, 0): "OUT_OF_MEMORY",
        (1 << 63, 1 << 63, 0, 0): "OUT_OF_MEMORY",
    }.items():
        assert api.code("cuMemAddressReserve", *arguments) == code, arguments
    assert api.code("cuMemAddressFree", address, 2 * BLOCK) == "INVALID_VALUE"
    assert api.code("cuMemAddressFree", address + BLOCK, BLOCK) == "INVALID_VALUE"
    api.cuMemAddressFree(address, BLOCK)
    assert api.code("cuMemAddressFree", address, BLOCK) == "INVALID_VALUE"


def test_creation_refuses(api: Any, context: Any) -> None:
    good = properties(api)
    assert api.code("cuMemCreate", 0, good, 0) == "INVALID_VALUE"
    assert api.code("cuMemCreate", BLOCK + 4096, good, 0) == "INVALID_VALUE"
    assert api.code("cuMemCreate", BLOCK, good, 1) == "INVALID_VALUE"
    assert api.code("cuMemCreate", 1 << 50, good, 0) == "OUT_OF_MEMORY"
    for change, code in [
        (("type", api.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_INVALID), "INVALID_VALUE"),
        (
            ("requestedHandleTypes", api.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_FABRIC),
            "NOT_SUPPORTED",
        ),
    ]:
        bad = properties(api)
        setattr(bad, *change)
        assert api.code("cuMemCreate", BLOCK, bad, 0) == code
    elsewhere = properties(api)
    elsewhere.location.id = 99
    assert api.code("cuMemCreate", BLOCK, elsewhere, 0) == "INVALID_DEVICE"
    assert api.code("cuMemCreate", BLOCK, properties(api, host=True, shareable=True), 0) == "INVALID_VALUE"
    for option in api.CUmemAllocationGranularity_flags:
        assert api.cuMemGetAllocationGranularity(good, option) == BLOCK


def test_mapping_refuses(api: Any, mapped: Any) -> None:
    range_ = mapped(2)
    handle = range_.handles[0]
    free = int(api.cuMemAddressReserve(4 * BLOCK, 0, 0, 0))
    for arguments in [
        (range_.address, BLOCK, 0, handle, 0),  # mapped already
        (free, 2 * BLOCK, 0, handle, 0),  # more than the handle has
        (free, BLOCK, BLOCK, handle, 0),
        (free, BLOCK, 0, handle, 1),
        (free + 4096, BLOCK, 0, handle, 0),
        (free, 0, 0, handle, 0),
        (free + 4 * BLOCK, BLOCK, 0, handle, 0),  # not reserved
        (free, BLOCK, 0, 12345, 0),
        (0, BLOCK, 0, handle, 0),
    ]:
        assert api.code("cuMemMap", *arguments) == "INVALID_VALUE", arguments
    assert api.code("cuMemUnmap", range_.address, BLOCK // 2) == "INVALID_VALUE"
    assert api.code("cuMemUnmap", free, BLOCK) == "INVALID_VALUE"
    assert api.code("cuMemUnmap", range_.address, 3 * BLOCK) == "INVALID_VALUE"
    assert api.code("cuMemAddressFree", range_.address, 2 * BLOCK) == "INVALID_VALUE", "it is mapped"
    assert api.code("cuMemFree", range_.address) == "INVALID_VALUE"
    assert api.code("cuMemSetAccess", free, BLOCK, [access(api)], 1) == "INVALID_VALUE"
    assert api.code("cuMemSetAccess", range_.address, BLOCK, [access(api, device=99)], 1) == "INVALID_DEVICE"
    assert api.code("cuMemSetAccess", range_.address, BLOCK, [access(api, host=True)], 1) == "INVALID_VALUE"
    api.cuMemAddressFree(free, 4 * BLOCK)


def test_export_refuses(api: Any, mapped: Any) -> None:
    private, shareable = mapped().handles[0], mapped(shareable=True).handles[0]
    fabric = api.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_FABRIC
    assert api.code("cuMemExportToShareableHandle", private, posix(api), 0) == "INVALID_VALUE"
    assert api.code("cuMemExportToShareableHandle", shareable, fabric, 0) == "INVALID_VALUE"
    assert api.code("cuMemExportToShareableHandle", shareable, posix(api), 1) == "INVALID_VALUE"
    with Path(os.devnull).open() as null:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.send(b"A" * 72)
        for fd in (null.fileno(), ours.fileno(), 9999, 2**32 - 1):
            assert api.code("cuMemImportFromShareableHandle", fd, posix(api)) == "INVALID_VALUE"
        ours.close()
        theirs.close()


def test_export_within_a_process(api: Any, mapped: Any) -> None:
    """What runs before the export and after it meets the same bytes, at every address."""
    before = used(api)
    range_ = mapped(shareable=True)
    range_.allow()
    values = fill(api, range_.address, WORDS)
    fd = int(api.cuMemExportToShareableHandle(range_.handles[0], posix(api), 0))
    assert used(api) == before + BLOCK
    other = api.cuMemImportFromShareableHandle(fd, posix(api))
    os.close(fd)
    address = int(api.cuMemAddressReserve(BLOCK, 0, 0, 0))
    api.cuMemMap(address, BLOCK, 0, other, 0)
    api.cuMemSetAccess(address, BLOCK, [access(api)], 1)
    assert (read(api, address, WORDS) == values).all()
    api.cuMemsetD32(address, 9, 10)
    assert (read(api, range_.address, 10) == 9).all()
    assert used(api) == before + BLOCK, "one memory, one charge"
    api.cuMemUnmap(address, BLOCK)
    api.cuMemRelease(other)
    api.cuMemAddressFree(address, BLOCK)


CHILD = """
import ctypes, os, signal, socket, sys, time

cuda = ctypes.CDLL("libcuda.so.1")
BLOCK = 2 << 20
class Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]
class Properties(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("handles", ctypes.c_int), ("location", Location),
                ("metadata", ctypes.c_void_p), ("flags", ctypes.c_uint8 * 8)]
class Access(ctypes.Structure):
    _fields_ = [("location", Location), ("flags", ctypes.c_int)]

def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    assert code == 0, (name, code)

def start():
    context = ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    call("cuCtxSetCurrent", context)

def used():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return total.value - free.value

def create(blocks):
    handle = ctypes.c_uint64()
    properties = Properties(1, 1, Location(1, 0))
    call("cuMemCreate", ctypes.byref(handle), ctypes.c_size_t(blocks * BLOCK), ctypes.byref(properties),
         ctypes.c_uint64(0))
    return handle

def show(handle, blocks):
    address = ctypes.c_uint64()
    size = ctypes.c_size_t(blocks * BLOCK)
    call("cuMemAddressReserve", ctypes.byref(address), size, ctypes.c_size_t(0), ctypes.c_uint64(0),
         ctypes.c_uint64(0))
    call("cuMemMap", address, size, ctypes.c_size_t(0), handle, ctypes.c_uint64(0))
    access = Access(Location(1, 0), 3)
    call("cuMemSetAccess", address, size, ctypes.byref(access), ctypes.c_size_t(1))
    return address

def export(handle):
    fd = ctypes.c_int()
    call("cuMemExportToShareableHandle", ctypes.byref(fd), handle, 1, ctypes.c_uint64(0))
    return fd.value

def take(fd):
    handle = ctypes.c_uint64()
    call("cuMemImportFromShareableHandle", ctypes.byref(handle), ctypes.c_void_p(fd), 1)
    return handle

def write(address, value):
    call("cuMemsetD32_v2", address, ctypes.c_uint(value), ctypes.c_size_t(16))

def read(address):
    word = ctypes.c_uint32()
    call("cuMemcpyDtoH_v2", ctypes.byref(word), address, ctypes.c_size_t(4))
    return word.value

def unmap(address, blocks):
    call("cuMemUnmap", address, ctypes.c_size_t(blocks * BLOCK))
"""


def run_script(env: dict[str, str], body: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD + body], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_two_processes_share_memory(simgpu_env: dict[str, str]) -> None:
    """A descriptor that crosses by SCM_RIGHTS; the owner dies first, then the importer pays."""
    run_script(
        simgpu_env,
        """
ours, theirs = socket.socketpair()
pid = os.fork()
if pid == 0:
    start()
    handle = create(3)
    address = show(handle, 3)
    write(address, 1)
    socket.send_fds(theirs, [b"x"], [export(handle)])
    assert theirs.recv(1) == b"w"
    assert read(address) == 2
    theirs.send(b"r")
    signal.pause()
_, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
start()
base = used()
handle = take(fd)
os.close(fd)
address = show(handle, 3)
assert used() == base, "the owner pays"
assert read(address) == 1
write(address, 2)
ours.send(b"w")
assert ours.recv(1) == b"r"
before = used()
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
time.sleep(0.05)
orphaned = used()
assert read(address) == 2, "it outlives its owner"
call("cuMemRelease", handle)
assert used() == orphaned
unmap(address, 3)
assert used() == orphaned - 3 * BLOCK, "the importer paid"
assert before - orphaned == used(), "the owner's context, as large as this one, went with it"
""",
    )


def test_the_owner_pays_until_exports_are_closed(simgpu_env: dict[str, str]) -> None:
    run_script(
        simgpu_env,
        """
start()
base = used()
handle = create(2)
fd = export(handle)
copy = os.dup(fd)
call("cuMemRelease", handle)
assert used() == base + 2 * BLOCK
os.close(fd)
time.sleep(0.1)
assert used() == base + 2 * BLOCK
os.close(copy)
for _ in range(200):
    if used() == base:
        break
    time.sleep(0.02)
assert used() == base
""",
    )


def test_many_handles_take_few_descriptors(simgpu_env: dict[str, str]) -> None:
    run_script(
        simgpu_env,
        """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
start()
handles = [create(1) for _ in range(500)]
addresses = [show(handle, 1) for handle in handles]
write(addresses[499], 4)
assert read(addresses[499]) == 4 and read(addresses[0]) == 0
assert len(os.listdir("/proc/self/fd")) < 60
""",
    )
