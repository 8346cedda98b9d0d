"""What a launch is charged where a kernel's length depends on its arguments, and when it may begin."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .conftest import Limited
from .fake_arbiter import NO_END, WANT, FakeArbiter
from .sharing import DEEP, MS, Program, arbiter_of, intervals, make_slice, shares, wait_until, working_machine

pytestmark = pytest.mark.sanitized

# Launches of one kernel whose only argument says how long it takes, by the three ways to give arguments.
WAYS = {
    "pointers": "w.nap(ns)",
    "packed": """
            buffer = np.array([ns], dtype=np.uint64); size = np.array([8], dtype=np.uint64)
            extra = np.array([1, buffer.ctypes.data, 2, size.ctypes.data, 0], dtype=np.uint64)
            nap = w.function('nap')
            check(cu.cuLaunchKernel(nap, 1, 1, 1, 1, 1, 1, 0, w.stream, 0, extra.ctypes.data))""",
    "configured": "check(cu.cuLaunchKernelEx(config, w.function('nap'), w.arguments(ns), 0))",
}
MIXED = """
    from card_client import np
    w = Worker(); say('ready')
    config = cu.CUlaunchConfig()
    for axis in 'XYZ':
        setattr(config, 'gridDim' + axis, 1); setattr(config, 'blockDim' + axis, 1)
    config.hStream = w.stream
    events = []; until = time.monotonic() + 7
    while time.monotonic() < until:
        for ns in (20_000, 50_000, 200_000, 1_000_000, 5_000_000):
            {way}
        event = check(cu.cuEventCreate(2)); check(cu.cuEventRecord(event, w.stream)); events.append(event)
        if len(events) > 8: check(cu.cuEventSynchronize(events.pop(0)))
    w.finish()
"""
# Two kernels of one name, with eight parameters and with one, whose list of arguments ends where memory does.
HANDLES = """
    import ctypes, mmap
    from card_client import np
    w = Worker(); libc = ctypes.CDLL(None)
    page = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    assert libc.mprotect(ctypes.c_void_p(start + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
    last = start + mmap.PAGESIZE - 8
    value = np.zeros(1, dtype=np.uint64)
    ctypes.c_uint64.from_address(last).value = value.ctypes.data
    many = np.full(8, value.ctypes.data, dtype=np.uint64)
    body = (".reg .u64 %a, %b; .reg .pred %p; ld.param.u64 %a, [p0]; mov.u64 %b, %globaltimer;"
            "add.u64 %a, %a, %b; again: nanosleep.u32 5000; mov.u64 %b, %globaltimer;"
            "setp.lt.u64 %p, %b, %a; @%p bra again; ret;")
    def load(count):
        given = ', '.join(f'.param .u64 p{number}' for number in range(count))
        head = '.version 7.0\\n.target sm_70\\n.address_size 64\\n'
        text = head + f'.visible .entry nap({given}) {{ {body} }}'
        return check(cu.cuModuleLoadData(text.encode() + bytes(1)))
    handles = [set(), set()]
    for _ in range(6):
        for kind, arguments in enumerate((many.ctypes.data, last)):
            module = load((8, 1)[kind])
            nap = check(cu.cuModuleGetFunction(module, b'nap'))
            handles[kind].add(int(nap))
            for number in range(40):
                value[0] = 2_000_000 if number % 4 == 3 else 20_000
                check(cu.cuLaunchKernel(nap, 1, 1, 1, 1, 1, 1, 0, w.stream, arguments, 0))
                w.finish()
            check(cu.cuModuleUnload(module))
    say('a handle came again' if handles[0] & handles[1] else 'all handles were new')
    say('done')
"""


@pytest.fixture
def machine(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    return working_machine(simgpu_env)


@pytest.fixture
def on_card(machine: Mapping[str, str], native_dir: Path, slice_home: Path) -> Limited:
    return make_slice(machine, native_dir, slice_home)


@pytest.fixture
def fake(on_card: Limited) -> Iterator[FakeArbiter]:
    with FakeArbiter(on_card.slice.path) as arbiter:
        yield arbiter


@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_that_takes_what_its_argument_says_has_its_share(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path, way: str
) -> None:
    """From 20 us to 5 ms, beside kernels of 1 ms: half of the card each, by the card's record."""
    one, two = (make_slice(machine, native_dir, slice_home, compute=500_000) for _ in range(2))
    text = MIXED.format(way=WAYS[way])
    with arbiter_of(one, two), Program(one, text) as mixed, Program(two, DEEP, "7", str(MS)) as even:
        mixed.end()
        even.end()
        got = shares(intervals(machine, native_dir))
        assert got[mixed.process.pid] == pytest.approx(0.5, abs=0.04)


def test_no_argument_is_read_that_the_function_does_not_have(on_card: Limited, fake: FakeArbiter) -> None:
    """Functions come again under the handles of others that had more parameters."""
    fake.lend(1, in_flight_ns=2 * MS, contended=True)
    with Program(on_card, HANDLES) as program:
        program.wait_for("done")
        program.end()


def test_work_begins_when_the_last_turns_work_has_ended(
    on_card: Limited, fake: FakeArbiter, machine: Mapping[str, str], native_dir: Path
) -> None:
    """A turn is open a little before the card is free. A time that is far off is not believed."""
    with Program(
        on_card, "w = Worker(); say('ready'); w.nap(1000); w.finish(); w.nap(1000); w.finish()"
    ) as program:
        program.wait_for("ready")
        fake.wait_for(WANT)
        begins = time.monotonic_ns() + 900_000
        fake.lend(1, ends_ns=begins + 50 * MS, contended=True, begins_ns=begins)
        wait_until(lambda: len(intervals(machine, native_dir)) > 0)
        begins_late = time.monotonic_ns() + 3600 * 10**9
        fake.lend(3, ends_ns=NO_END, contended=True, begins_ns=begins_late)
        program.end()
    assert min(each["start_ns"] for each in intervals(machine, native_dir)) >= begins - 100_000
