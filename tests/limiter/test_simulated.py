"""The limiter on the simulated GPU, judged by unmodified clients and by the device's own record."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from .conftest import MIB, Limited
from .simulated import CLIENTS, ROOM, from_outside, make_slice, run_clients

pytestmark = pytest.mark.sanitized


def test_clients_see_the_slice_and_not_the_card(on_card: Limited) -> None:
    run_clients(
        on_card,
        """
        context = start()
        assert ok(driver.cuDeviceGetCount()) == 1
        assert ok(driver.cuDeviceTotalMem(0)) == LIMIT
        assert ok(driver.cuMemGetInfo()) == (64 * MIB, LIMIT)
        address = ok(driver.cuMemAlloc(26 * MIB))
        assert driver.cuMemAlloc(39 * MIB)[0] == REFUSED
        assert ok(driver.cuMemGetInfo()) == (38 * MIB, LIMIT)

        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 1
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        assert pynvml.nvmlDeviceGetIndex(card) == 0
        for version in (None, pynvml.nvmlMemory_v2):
            memory = pynvml.nvmlDeviceGetMemoryInfo(card, version=version)
            seen = memory.total, memory.used, memory.free
            assert seen == (LIMIT, CONTEXT + 26 * MIB, 38 * MIB), version
        (process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
        assert (process.pid, process.usedGpuMemory) == (os.getpid(), CONTEXT + 26 * MIB)
        assert pynvml.nvmlDeviceGetGraphicsRunningProcesses(card) == []
        ok(driver.cuMemFree(address))
        assert ok(driver.cuMemGetInfo())[0] == 64 * MIB
        """,
    )


@pytest.mark.parametrize("by_uuid", [False, True])
def test_the_second_card_is_limited_like_the_first(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path, by_uuid: bool
) -> None:
    """The slice's only card is number 0 inside, whatever it is outside; the other one is not there."""
    uuids = from_outside(
        machine, "[pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in (0, 1)]"
    )
    assert isinstance(uuids, list)
    limited = make_slice(machine, native_dir, slice_home, device=uuids[1] if by_uuid else 1, card=1)
    out = run_clients(
        limited,
        """
        start()
        pynvml.nvmlInit()
        ok(driver.cuMemAlloc(50 * MIB))
        assert driver.cuMemAlloc(15 * MIB)[0] == REFUSED
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        assert pynvml.nvmlDeviceGetMemoryInfo(card).used == CONTEXT + 50 * MIB
        for look_up in (lambda: pynvml.nvmlDeviceGetHandleByIndex(1),
                        lambda: pynvml.nvmlDeviceGetHandleByUUID(sys.argv[1])):
            try:
                look_up()
            except pynvml.NVMLError:
                continue
            sys.exit("a card outside the slice is visible")
        print(pynvml.nvmlDeviceGetUUID(card))
        """.replace("sys.argv[1]", repr(uuids[0])),
    )
    assert out.strip() == uuids[1]


def test_nvitop_shows_the_slice(on_card: Limited) -> None:
    waiting = CLIENTS + "start(); ok(driver.cuMemAlloc(26 * MIB)); print(1, flush=True); sys.stdin.read()"
    with on_card.start(waiting) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        command = [str(Path(sys.executable).with_name("nvitop")), "-1"]
        env = {**on_card.env, "COLUMNS": "120", "TERM": "xterm"}
        shown = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        process.kill()
    context = int(on_card.env["CONTEXT_BYTES"]) // MIB
    assert re.search(rf"\b{context + 26}\.?0*MiB / {context + 64}\.?0*MiB", shown), shown
    assert re.search(rf"\b{process.pid}\b.*\b{context + 26}\.?0*MiB", shown), shown
    assert "T4" not in shown


def test_a_tenant_does_not_see_its_neighbours(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path, on_card: Limited
) -> None:
    neighbour = make_slice(machine, native_dir, slice_home)
    waiting = CLIENTS + "start(); ok(driver.cuMemAlloc(16 * MIB)); print(1, flush=True); sys.stdin.read()"
    with neighbour.start(waiting) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        run_clients(
            on_card,
            """
            start()
            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByIndex(0)
            (process,) = pynvml.nvmlDeviceGetComputeRunningProcesses(card)
            assert process.pid == os.getpid()
            assert pynvml.nvmlDeviceGetMemoryInfo(card).used == CONTEXT
            assert ok(driver.cuMemGetInfo()) == (64 * MIB, LIMIT)
            """,
        )
        process.kill()


def test_pools_are_charged_what_they_reserve(on_card: Limited) -> None:
    run_clients(
        on_card,
        """
        start()
        used = lambda: 64 * MIB - ok(driver.cuMemGetInfo())[0]  # beside the context
        stream = ok(driver.cuStreamCreate(0))
        address = ok(driver.cuMemAllocAsync(26 * MIB, stream))
        assert used() == 26 * MIB
        assert driver.cuMemAllocAsync(40 * MIB, stream)[0] == REFUSED
        ok(driver.cuMemFreeAsync(address, stream))
        ok(driver.cuStreamSynchronize(stream))
        assert used() == 0

        pool = ok(driver.cuDeviceGetDefaultMemPool(0))
        keep = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        ok(driver.cuMemPoolSetAttribute(pool, keep, driver.cuuint64_t(2**63)))
        for _ in range(5):
            address = ok(driver.cuMemAllocAsync(62 * MIB, stream))
            ok(driver.cuMemFreeAsync(address, stream))
            ok(driver.cuStreamSynchronize(stream))
            assert used() == 62 * MIB            # the pool keeps it, and it is used again without more
        assert driver.cuMemAlloc(4 * MIB)[0] == REFUSED
        ok(driver.cuMemPoolTrimTo(pool, 0))
        assert used() == 0
        ok(driver.cuMemFree(ok(driver.cuMemAlloc(64 * MIB))))

        properties = driver.CUmemPoolProps()
        properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        own = ok(driver.cuMemPoolCreate(properties))
        address = ok(driver.cuMemAllocFromPoolAsync(16 * MIB, own, stream))
        assert used() == 16 * MIB
        ok(driver.cuMemFree(address))
        ok(driver.cuMemPoolDestroy(own))
        assert used() == 0
        """,
    )


@pytest.mark.parametrize("end", ["destroy", "reset", "release"])
def test_the_end_of_a_context_refunds(on_card: Limited, end: str) -> None:
    ending = {
        "destroy": "ok(driver.cuCtxDestroy(context))",
        "reset": "ok(driver.cuDevicePrimaryCtxReset(0))",
        "release": "ok(driver.cuDevicePrimaryCtxRelease(0))",
    }[end]
    made = "ok(driver.cuCtxCreate(None, 0, 0))" if end == "destroy" else "start()"
    run_clients(
        on_card,
        f"""
        ok(driver.cuInit(0))
        context = {made}
        ok(driver.cuMemAlloc(50 * MIB))
        assert ok(driver.cuMemGetInfo())[0] == 14 * MIB
        {ending}
        start()
        assert ok(driver.cuMemGetInfo())[0] == 64 * MIB
        ok(driver.cuMemAlloc(64 * MIB))
        """,
    )


def test_the_device_agrees_on_what_a_slice_holds(on_card: Limited, machine: Mapping[str, str]) -> None:
    """Large allocations are charged exactly what the device's own record says that they take."""
    waiting = """
    start()
    print("started", flush=True)
    sys.stdin.readline()
    held = [ok(driver.cuMemAlloc(size)) for size in (2 * MIB, 3 * MIB + 1, 7 * MIB, 30 * MIB - 1)]
    print(64 * MIB - ok(driver.cuMemGetInfo())[0], flush=True)  # beside the context
    sys.stdin.read()
    """
    ask = "pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used"
    assert from_outside(machine, ask) == 0
    with on_card.start(CLIENTS + textwrap.dedent(waiting)) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "started\n"
        context = from_outside(machine, ask)
        process.stdin.write("go on\n")
        process.stdin.flush()
        held = int(process.stdout.readline())
        assert held == (2 + 4 + 8 + 30) * MIB
        assert from_outside(machine, ask) == context + held == on_card.slice.usage().vram_used_bytes
        process.kill()


def storm(native_build: Path, limited: Limited, *arguments: int) -> subprocess.CompletedProcess[str]:
    """Processes, threads, rounds and seed; the newcomer of each round needs a context, too."""
    (limit,) = limited.slice.limits()
    program = native_build / "native/limiter/limiter-storm"
    command = [program, limit.vram_bytes, *arguments, limited.env["CONTEXT_BYTES"]]
    env = {**limited.env, "ALIQUOT_LOG": "error"}
    return subprocess.run(
        list(map(str, command)), env=env, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_device_never_sees_more_than_the_limit(
    small_contexts: Mapping[str, str], native_dir: Path, slice_home: Path, native_build: Path
) -> None:
    """Six processes allocate as much as they get; the card's own record is read all the while.

    Nobody is killed here: the card counts the memory of the dead until it looks after them, which it does now
    and then.
    """
    limited = make_slice(small_contexts, native_dir, slice_home, contexts=7)
    watch = """
import pynvml, sys, threading
pynvml.nvmlInit()
card, most = pynvml.nvmlDeviceGetHandleByIndex(0), 0
print("watching", flush=True)
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while not done.is_set():
    most = max(most, pynvml.nvmlDeviceGetMemoryInfo(card).used)
print(most)
"""
    with subprocess.Popen(
        [sys.executable, "-c", watch],
        env=small_contexts,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as watcher:
        assert watcher.stdout
        assert watcher.stdin
        assert watcher.stdout.readline() == "watching\n"
        for seed in range(5):
            done = storm(native_build, limited, 6, 2, 1, seed)
            assert done.returncode == 0, done.stdout + done.stderr
        watcher.stdin.close()
        (limit,) = limited.slice.limits()
        assert limit.vram_bytes - ROOM // 2 < int(watcher.stdout.read()) <= limit.vram_bytes


def test_storm_of_kills_on_the_card(
    small_contexts: Mapping[str, str], native_dir: Path, slice_home: Path, native_build: Path
) -> None:
    limited = make_slice(small_contexts, native_dir, slice_home, contexts=4)
    done = storm(native_build, limited, 3, 2, 6, 5)
    assert done.returncode == 0, done.stdout + done.stderr
    assert limited.slice.usage().vram_used_bytes == 0
    ask = "pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used"
    assert from_outside(small_contexts, ask) == 0
