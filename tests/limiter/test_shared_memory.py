"""Memory that several processes hold is counted once: to its maker, and after him to who has it open."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from .conftest import MIB, Limited
from .simulated import CLIENTS, ROOM, from_outside, make_slice, run_clients

pytestmark = pytest.mark.sanitized

USED = "pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used"
SHARED = 20 * MIB
MAKER = (
    CLIENTS
    + """
import ctypes
start()
address = ok(driver.cuMemAlloc(20 * MIB))
handle = ok(driver.cuIpcGetMemHandle(address))
print(ctypes.string_at(handle.getPtr(), 64).hex(), flush=True)
for line in sys.stdin:
    ok((*driver.cuMemFree(address), None))
    print("freed", flush=True)
"""
)
OPENER = (
    CLIENTS
    + """
import ctypes
start()
handle = driver.CUipcMemHandle()
ctypes.memmove(handle.getPtr(), bytes.fromhex(sys.argv[1]), 64)
address = ok(driver.cuIpcOpenMemHandle(handle, 1))
print("open", flush=True)
for line in sys.stdin:
    ok((*driver.cuIpcCloseMemHandle(address), None))
    print("closed", flush=True)
"""
)


@pytest.fixture
def shared(machine: Mapping[str, str], native_dir: Path, slice_home: Path) -> Limited:
    """Room for three contexts and 64 MiB."""
    return make_slice(machine, native_dir, slice_home, contexts=3)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    line = process.stdout.readline().strip()
    assert line, process.communicate()[1]
    return line


def tell(process: subprocess.Popen[str]) -> str:
    assert process.stdin
    print(file=process.stdin, flush=True)
    return line_of(process)


def context_of(limited: Limited) -> int:
    return int(limited.env["CONTEXT_BYTES"])


def test_opened_memory_is_its_makers_to_pay_for(shared: Limited, machine: Mapping[str, str]) -> None:
    with shared.start(MAKER) as maker, shared.start(OPENER, line_of(maker)) as opener:
        assert line_of(opener) == "open"
        used = 2 * context_of(shared) + SHARED
        assert shared.slice.usage().vram_used_bytes == used == from_outside(machine, USED)
        assert tell(opener) == "closed"
        assert shared.slice.usage().vram_used_bytes == used == from_outside(machine, USED)
        maker.kill()
        opener.kill()


def test_after_its_maker_it_is_charged_once_to_those_who_have_it_open(
    shared: Limited, machine: Mapping[str, str]
) -> None:
    """Two have it open; the slice is charged once, and cannot give the same bytes to somebody else."""
    context = context_of(shared)
    with shared.start(MAKER) as maker:
        handle = line_of(maker)
        with shared.start(OPENER, handle) as first, shared.start(OPENER, handle) as second:
            assert (line_of(first), line_of(second)) == ("open", "open")
            maker.kill()
            maker.wait()
            assert shared.slice.usage().vram_used_bytes == 2 * context + SHARED
            assert from_outside(machine, USED) == 2 * context + SHARED
            run_clients(
                shared,
                f"""
                start()
                assert ok(driver.cuMemGetInfo())[0] == {ROOM - SHARED}
                assert driver.cuMemAlloc({ROOM - SHARED + 2 * MIB})[0] == REFUSED
                ok(driver.cuMemAlloc({ROOM - SHARED}))
                """,
            )
            assert tell(first) == "closed"
            assert shared.slice.usage().vram_used_bytes == 2 * context + SHARED
            assert tell(second) == "closed"
            assert shared.slice.usage().vram_used_bytes == 2 * context == from_outside(machine, USED)
            first.kill()
            second.kill()


EXPORT = """
import socket
properties = driver.CUmemAllocationProp()
properties.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
DESCRIPTOR = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
properties.requestedHandleTypes = DESCRIPTOR
used = lambda: (lambda info: info[1] - info[0])(ok(driver.cuMemGetInfo()))
"""


def test_exported_memory_is_refunded_when_the_last_descriptor_is_closed(on_card: Limited) -> None:
    run_clients(
        on_card,
        EXPORT
        + """
import os, time
start()
base = used()
handle = ok(driver.cuMemCreate(20 * MIB, properties, 0))
descriptor = int(ok(driver.cuMemExportToShareableHandle(handle, DESCRIPTOR, 0)))
ok((*driver.cuMemRelease(handle), None))
assert used() == base + 20 * MIB
again = ok(driver.cuMemImportFromShareableHandle(descriptor, DESCRIPTOR))
assert used() == base + 20 * MIB
ok((*driver.cuMemRelease(again), None))
assert used() == base + 20 * MIB
assert driver.cuMemAlloc(50 * MIB)[0] == REFUSED
os.close(descriptor)
deadline = time.monotonic() + 5
while used() != base and time.monotonic() < deadline:
    ok((*driver.cuMemFree(ok(driver.cuMemAlloc(512))), None))
    time.sleep(0.01)
assert used() == base
ok(driver.cuMemAlloc(64 * MIB))
""",
    )


def test_a_descriptor_that_outlives_its_maker(shared: Limited, machine: Mapping[str, str]) -> None:
    ours, theirs = socket.socketpair()
    maker = (
        CLIENTS
        + EXPORT
        + """
start()
handle = ok(driver.cuMemCreate(20 * MIB, properties, 0))
descriptor = int(ok(driver.cuMemExportToShareableHandle(handle, DESCRIPTOR, 0)))
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"x"], [descriptor])
print("sent", flush=True)
sys.stdin.read()
"""
    )
    opener = (
        CLIENTS
        + EXPORT
        + """
start()
handle = ok(driver.cuMemImportFromShareableHandle(int(sys.argv[1]), DESCRIPTOR))
print("open", flush=True)
for line in sys.stdin:
    ok((*driver.cuMemRelease(handle), None))
    os.close(int(sys.argv[1]))
    print("closed", flush=True)
"""
    )
    context = context_of(shared)
    with shared.start(maker, str(theirs.fileno()), pass_fds=[theirs.fileno()]) as first:
        assert line_of(first) == "sent"
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        ours.close()
        with shared.start(opener, str(descriptors[0]), pass_fds=descriptors) as second:
            assert line_of(second) == "open"
            os.close(descriptors[0])
            assert shared.slice.usage().vram_used_bytes == 2 * context + SHARED
            first.kill()
            first.wait()
            assert shared.slice.usage().vram_used_bytes == context + SHARED == from_outside(machine, USED)
            assert tell(second) == "closed"
            assert shared.slice.usage().vram_used_bytes == context
            second.kill()


POOL = """
import ctypes, socket
start()
properties = driver.CUmemPoolProps()
properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
DESCRIPTOR = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
properties.handleTypes = DESCRIPTOR
stream = ok(driver.cuStreamCreate(0))
channel = socket.socket(fileno=int(sys.argv[1]))
"""
POOL_MAKER = """
pool = ok(driver.cuMemPoolCreate(properties))
address = ok(driver.cuMemAllocFromPoolAsync(20 * MIB, pool, stream))
ok((*driver.cuStreamSynchronize(stream), None))
data = ok(driver.cuMemPoolExportPointer(address))
descriptor = int(ok(driver.cuMemPoolExportToShareableHandle(pool, DESCRIPTOR, 0)))
socket.send_fds(channel, [ctypes.string_at(data.getPtr(), 64)], [descriptor])
print("sent", flush=True)
sys.stdin.read()
"""
POOL_OPENER = """
message, (descriptor,), _, _ = socket.recv_fds(channel, 64, 1)
data = driver.CUmemPoolPtrExportData()
ctypes.memmove(data.getPtr(), message, 64)
pool = ok(driver.cuMemPoolImportFromShareableHandle(descriptor, DESCRIPTOR, 0))
address = ok(driver.cuMemPoolImportPointer(pool, data))
print("open", flush=True)
for line in sys.stdin:
    ok((*driver.cuMemFreeAsync(address, stream), None))
    ok((*driver.cuStreamSynchronize(stream), None))
    ok((*driver.cuMemPoolDestroy(pool), None))
    os.close(descriptor)
    print("closed", flush=True)
"""


def test_a_pool_that_outlives_its_maker(shared: Limited, machine: Mapping[str, str]) -> None:
    """What another process' pool gave is its maker's, and after him charged once to who imported it."""
    ours, theirs = socket.socketpair()
    context = context_of(shared)

    def start(text: str, end: socket.socket) -> subprocess.Popen[str]:
        return shared.start(CLIENTS + POOL + text, str(end.fileno()), pass_fds=[end.fileno()])

    with start(POOL_MAKER, ours) as maker, start(POOL_OPENER, theirs) as opener:
        ours.close()
        theirs.close()
        assert (line_of(maker), line_of(opener)) == ("sent", "open")
        used = 2 * context + SHARED
        assert shared.slice.usage().vram_used_bytes == used == from_outside(machine, USED)
        maker.kill()
        maker.wait()
        assert shared.slice.usage().vram_used_bytes == context + SHARED == from_outside(machine, USED)
        assert tell(opener) == "closed"
        assert shared.slice.usage().vram_used_bytes == context == from_outside(machine, USED)
        opener.kill()
