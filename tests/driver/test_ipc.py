"""Memory and events shared between real processes, which are killed at every step."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .sharing import Process

MIB = 1 << 20
INVALID_VALUE, INVALID_CONTEXT, INVALID_HANDLE, MAP_FAILED = 1, 201, 400, 205
NOT_READY, PEER_ACCESS_UNSUPPORTED = 600, 217

Start = Callable[..., Process]


@pytest.fixture
def start(simgpu_env: Mapping[str, str]) -> Iterator[Start]:
    """start(device=0): another process on a machine with two H100 and a T4."""
    env = {**simgpu_env, "ALIQUOT_SIMGPU": "h100:2,t4:1", "ALIQUOT_SIMGPU_THREADS": "1"}
    started: list[Process] = []

    def make(device: int = 0) -> Process:
        started.append(Process(env, device=device))
        return started[-1]

    yield make
    for process in started:
        process.kill()


def test_memory_is_the_same_for_both(start: Start) -> None:
    owner, guest = start(), start()
    address = owner.do(f"p := alloc({4 * MIB})")
    owner.do(f"fill({address}, 7, {4 * MIB})")
    there = guest.do(f"open_handle({owner.do('export(p)')!r})")
    assert guest.do(f"read({there}, 4) + read({there} + {4 * MIB - 4}, 4)") == b"\7" * 8
    guest.do(f"fill({there} + 1, 9, 2)")
    assert owner.do("read(p, 4)") == b"\7\11\11\7"
    owner.do("fill(p, 1, 4)")
    assert guest.do(f"read({there}, 4)") == b"\1" * 4
    assert guest.do(f"close({there})") == 0
    assert owner.do("read(p, 4)") == b"\1" * 4  # the original is not affected


def test_small_allocations(start: Start) -> None:
    """Several share a block of 2 MiB; a guest gets the one that was exported, and sees no other."""
    owner, guest = start(), start()
    owner.do("a, b = alloc(1000), alloc(1000)")
    owner.do("fill(a, 1, 1000), fill(b, 2, 1000)")
    there = guest.do(f"open_handle({owner.do('export(b)')!r})")
    assert guest.do(f"read({there}, 1000)") == b"\2" * 1000
    assert guest.do(f"cuda.cuMemcpyDtoH_v2(ctypes.create_string_buffer(9), u64({there} - 512), size(8))") == 1
    first = guest.do(f"open_handle({owner.do('export(a)')!r})")
    assert guest.do(f"read({first}, 1000)") == b"\1" * 1000
    assert owner.do(f"export(b + 17) == {owner.do('export(b)')!r}")  # any address of it will do


def test_export_keeps_what_kernels_of_the_owner_do(start: Start) -> None:
    """Contents move to a file at the first export: not a byte that is written meanwhile may be lost."""
    owner = start()
    owner.do(f"p, s = alloc({8 * MIB}), stream()")
    owner.do(f"for value in range(1, 200): cuda.cuMemsetD8Async(u64(p), value, size({8 * MIB}), s)")
    handle = owner.do("export(p)")
    owner.do("cuda.cuStreamSynchronize(s)")
    assert owner.do(f"read(p, {8 * MIB})") == bytes([199]) * (8 * MIB)
    guest = start()
    assert guest.do(f"read(open_handle({handle!r}), 16)") == bytes([199]) * 16


def test_opened_twice_closed_twice(start: Start) -> None:
    owner, guest = start(), start()
    handle = owner.do(f"export(alloc({2 * MIB}))")
    first, second = guest.do(f"open_handle({handle!r})"), guest.do(f"open_handle({handle!r})")
    assert first == second
    assert guest.do(f"close({first})") == 0
    assert len(guest.do(f"read({first}, 8)")) == 8
    assert guest.do(f"close({first})") == 0
    assert guest.do(f"close({first})") == INVALID_VALUE
    assert guest.do(f"cuda.cuMemcpyDtoH_v2(ctypes.create_string_buffer(9), u64({first}), size(8))") == 1


def test_refusals(start: Start) -> None:
    owner, guest = start(), start()
    handle = owner.do(f"export(p := alloc({2 * MIB}))")
    assert owner.do(f"try_open({handle!r})[0]") == INVALID_CONTEXT  # one does not open what is one's own
    assert guest.do(f"try_open({handle!r}, 0)[0]") == INVALID_VALUE
    assert guest.do(f"try_open({handle!r}, 2)[0]") == INVALID_VALUE
    assert guest.do("try_open('00' * 64)[0]") == INVALID_HANDLE
    assert guest.do("cuda.cuIpcOpenMemHandle_v2(None, Handle(), 1)") == INVALID_VALUE
    assert guest.do("close(0), close(1 << 40)") == (INVALID_VALUE, INVALID_VALUE)
    assert owner.do("close(p)") == INVALID_VALUE
    for address in ("0", "1 << 40", "ctypes.addressof(Handle())"):
        assert owner.do(f"cuda.cuIpcGetMemHandle(ctypes.byref(Handle()), u64({address}))") == INVALID_VALUE
    assert owner.do("cuda.cuIpcGetMemHandle(None, u64(p))") == INVALID_VALUE
    there = guest.do(f"open_handle({handle!r})")
    assert guest.do(f"cuda.cuMemFree_v2(u64({there}))") == INVALID_VALUE
    assert guest.do(f"cuda.cuIpcGetMemHandle(ctypes.byref(Handle()), u64({there}))") == INVALID_VALUE


def test_handles_of_what_is_gone(start: Start) -> None:
    owner, guest = start(), start()
    freed = owner.do(f"export(p := alloc({2 * MIB}))")
    owner.do("cuda.cuMemFree_v2(u64(p))")
    assert guest.do(f"try_open({freed!r})[0]") == INVALID_HANDLE
    again = owner.do(f"export(q := alloc({2 * MIB}))")
    assert again != freed
    assert guest.do(f"try_open({freed!r})[0]") == INVALID_HANDLE
    owner.kill()
    assert guest.do(f"try_open({again!r})[0]") == INVALID_HANDLE


def test_what_was_opened_outlives_its_owner_and_is_counted_once(start: Start) -> None:
    owner, guests, witness = start(), [start(), start()], start()
    before = witness.do("used()")
    owner.do(f"p := alloc({16 * MIB})")
    owner.do(f"fill(p, 5, {16 * MIB})")
    handle = owner.do("export(p)")
    there = [each.do(f"open_handle({handle!r})") for each in guests]
    held = witness.do("used()")
    assert held - before == 16 * MIB
    owner.kill()
    assert guests[0].do(f"read({there[0]}, 4)") == b"\5" * 4
    guests[0].kill()
    assert guests[1].do(f"read({there[1]} + 5, 4)") == b"\5" * 4
    time.sleep(0.05)  # the machine looks for the dead every 10 ms
    orphaned = witness.do("used()")
    assert guests[1].do(f"close({there[1]})") == 0
    assert orphaned - witness.do("used()") == 16 * MIB


def test_killed_at_every_step(start: Start) -> None:
    """Owner or guest is killed after each step; the other goes on, and nothing stays charged."""
    witness = start()
    before = witness.do("used()")
    steps = [
        ("owner", f"p := alloc({4 * MIB})"),
        ("owner", f"fill(p, 3, {4 * MIB})"),
        ("owner", "handle := export(p)"),
        ("guest", "q := open_handle({handle!r})"),
        ("guest", "read(q, 8)"),
        ("guest", "fill(q, 4, 100)"),
        ("owner", "read(p, 8)"),
        ("guest", "close(q)"),
        ("owner", "cuda.cuMemFree_v2(u64(p))"),
    ]
    for victim in ("owner", "guest"):
        for last in range(len(steps)):
            who = {"owner": start(), "guest": start()}
            handle = ""
            for role, line in steps[: last + 1]:
                result = who[role].do(line.format(handle=handle))
                handle = result if line.startswith("handle") else handle
            who[victim].kill()
            survivor = who["guest" if victim == "owner" else "owner"]
            survivor.do("cuda.cuCtxSynchronize()")
            survivor.kill()
            time.sleep(0.02)
            assert witness.do("used()") == before, (victim, last)


def test_across_cards(start: Start) -> None:
    """The flag gives a context on another card of the kind access to the memory."""
    owner, guest, stranger = start(0), start(1), start(2)
    handle = owner.do(f"export(p := alloc({2 * MIB}))")
    owner.do("fill(p, 6, 100)")
    there = guest.do(f"open_handle({handle!r})")
    assert guest.do(f"read({there}, 4)") == b"\6" * 4
    ordinal = "(v := ctypes.c_int(), cuda.cuPointerGetAttribute(ctypes.byref(v), 9, u64({})), v.value)[1:]"
    assert guest.do(ordinal.format(there)) == (0, 0)
    assert stranger.do(f"try_open({handle!r})[0]") == MAP_FAILED


def test_a_context_takes_what_it_opened_with_it(start: Start) -> None:
    owner, guest = start(), start()
    handle = owner.do(f"export(p := alloc({2 * MIB}))")
    there = guest.do(f"open_handle({handle!r})")
    guest.do("check(cuda.cuDevicePrimaryCtxReset_v2(0))")
    guest.do("context = start()")
    assert guest.do(f"close({there})") == INVALID_VALUE
    assert len(guest.do(f"read(open_handle({handle!r}), 4)")) == 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_handles(shared_pair: tuple[Process, str, str], data: st.DataObject) -> None:
    """Noise, and true handles with some bytes changed: a code, and never memory."""
    guest, memory, event = shared_pair
    text = bytearray(bytes.fromhex(data.draw(st.sampled_from([memory, event]))))
    if data.draw(st.booleans()):
        text[:] = data.draw(st.binary(min_size=64, max_size=64))
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, 63))
            text[at] ^= data.draw(st.integers(1, 255))
    if text.hex() in (memory, event):
        return
    assert guest.do(f"try_open({text.hex()!r})[0]") in (INVALID_HANDLE, MAP_FAILED)
    assert guest.do(f"try_open_event({text.hex()!r})[0]") == INVALID_HANDLE


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_forged_handles(shared_pair: tuple[Process, str, str], data: st.DataObject) -> None:
    """Handles with a right checksum and wrong contents open nothing but what their file holds."""
    guest, memory, event = shared_pair
    text = bytearray(bytes.fromhex(data.draw(st.sampled_from([memory, event]))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(range(8, 64, 4)))
        text[at : at + 4] = data.draw(st.integers(0, (1 << 32) - 1)).to_bytes(4, "little")
    text[4:8] = bytes(4)
    checksum = 2166136261
    for byte in text:
        checksum = (checksum ^ byte) * 16777619 % (1 << 32)
    text[4:8] = checksum.to_bytes(4, "little")
    code, address = guest.do(f"try_open({text.hex()!r})")
    assert code in (0, INVALID_HANDLE, MAP_FAILED, INVALID_CONTEXT)
    if code == 0:
        assert guest.do(f"len(read({address}, 1))") == 1
        assert guest.do(f"close({address})") == 0
    assert guest.do(f"try_open_event({text.hex()!r})[0]") in (0, INVALID_HANDLE)


@pytest.fixture
def shared_pair(start: Start) -> tuple[Process, str, str]:
    """A guest, and the handles of memory and of an event of an owner that lives."""
    owner, guest = start(), start()
    return guest, owner.do(f"export(alloc({2 * MIB}))"), owner.do("export_event(e := event())")


# ---- events


def test_an_event_of_one_process_holds_a_stream_of_another(start: Start) -> None:
    owner, guest = start(), start()
    owner.do("e, s, gate = event(), stream(), alloc(4)")
    owner.do("fill(gate, 0, 4)")
    guest.do(f"e, s, p = open_event({owner.do('export_event(e)')!r}), stream(), alloc(4)")
    guest.do("fill(p, 0, 4)")
    assert guest.do("cuda.cuEventQuery(e)") == 0  # never recorded
    owner.do("check(cuda.cuStreamWaitValue32_v2(s, u64(gate), 1, 1))")
    owner.do("check(cuda.cuEventRecord(e, s))")
    assert owner.do("cuda.cuEventQuery(e)") == guest.do("cuda.cuEventQuery(e)") == NOT_READY
    guest.do("check(cuda.cuStreamWaitEvent(s, e, 0))")
    guest.do("check(cuda.cuMemsetD8Async(u64(p), 8, size(4), s))")
    time.sleep(0.05)
    assert guest.do("cuda.cuStreamQuery(s)") == NOT_READY
    guest.begin("cuda.cuEventSynchronize(e)")
    owner.do("check(cuda.cuMemsetD32_v2(u64(gate), 1, size(1)))")
    assert guest.answer() == 0
    guest.do("check(cuda.cuStreamSynchronize(s))")
    assert guest.do("read(p, 4)") == b"\10" * 4
    assert owner.do("cuda.cuEventSynchronize(e)") == 0


def test_the_guest_may_record_too(start: Start) -> None:
    owner, guest = start(), start()
    owner.do("e, s = event(), stream()")
    guest.do(f"e, s, gate = open_event({owner.do('export_event(e)')!r}), stream(), alloc(4)")
    guest.do("fill(gate, 0, 4)")
    guest.do("check(cuda.cuStreamWaitValue32_v2(s, u64(gate), 1, 1))")
    guest.do("check(cuda.cuEventRecord(e, s))")
    assert owner.do("cuda.cuEventQuery(e)") == NOT_READY
    guest.do("check(cuda.cuMemsetD32_v2(u64(gate), 1, size(1)))")
    assert owner.do("cuda.cuEventSynchronize(e)") == 0


def test_ping_pong_of_events_and_memory(start: Start) -> None:
    """Two processes take turns on one buffer, ordered by events alone."""
    owner, guest = start(), start()
    owner.do(f"p, e, s = alloc({2 * MIB}), event(), stream()")
    guest.do(f"p, s = open_handle({owner.do('export(p)')!r}), stream()")
    guest.do(f"e = open_event({owner.do('export_event(e)')!r})")
    for number in range(1, 40):
        one, other = (owner, guest) if number % 2 else (guest, owner)
        one.do(f"check(cuda.cuMemsetD8Async(u64(p), {number}, size({2 * MIB}), s))")
        one.do("check(cuda.cuEventRecord(e, s))")
        other.do("check(cuda.cuStreamWaitEvent(s, e, 0))")
        other.do("check(cuda.cuStreamSynchronize(s))")
        assert other.do(f"read(p, 2) + read(p + {2 * MIB - 2}, 2)") == bytes([number]) * 4


@pytest.mark.parametrize("stopped_first", [False, True])
def test_nobody_waits_for_the_dead(start: Start, stopped_first: bool) -> None:
    owner, guest = start(), start()
    owner.do("e, s, gate = event(), stream(), alloc(4)")
    owner.do("fill(gate, 0, 4)")
    guest.do(f"e, s = open_event({owner.do('export_event(e)')!r}), stream()")
    owner.do("check(cuda.cuStreamWaitValue32_v2(s, u64(gate), 1, 1))")
    owner.do("check(cuda.cuEventRecord(e, s))")
    guest.do("check(cuda.cuStreamWaitEvent(s, e, 0))")
    guest.begin("(cuda.cuEventSynchronize(e), cuda.cuStreamSynchronize(s))")
    before = guest.cpu_seconds()
    if stopped_first:
        owner.signal(signal.SIGSTOP)
    time.sleep(1)
    assert guest.cpu_seconds() - before < 0.2  # waiting costs no core
    owner.kill()
    assert guest.answer() == (0, 0)
    assert guest.do("cuda.cuEventRecord(e, s), cuda.cuEventSynchronize(e)") == (0, 0)


def test_event_refusals(start: Start) -> None:
    owner, guest = start(), start()
    assert owner.do("cuda.cuEventCreate(ctypes.byref(u64()), 4)") == INVALID_VALUE  # without DISABLE_TIMING
    assert owner.do("cuda.cuIpcGetEventHandle(ctypes.byref(Handle()), event(2))") == INVALID_HANDLE
    assert owner.do("cuda.cuIpcGetEventHandle(ctypes.byref(Handle()), ctypes.c_void_p(5))") == INVALID_HANDLE
    assert owner.do("cuda.cuIpcGetEventHandle(None, event())") == INVALID_VALUE
    handle = owner.do("export_event(e := event())")
    assert guest.do(f"cuda.cuIpcOpenEventHandle(None, Handle.of({handle!r}))") == INVALID_VALUE
    assert owner.do("cuda.cuEventElapsedTime(ctypes.byref(ctypes.c_float()), e, e)") == INVALID_HANDLE
    guest.do(f"e = open_event({handle!r})")
    assert owner.do("cuda.cuEventDestroy_v2(e)") == 0
    assert guest.do("cuda.cuEventQuery(e), cuda.cuEventSynchronize(e)") == (0, 0)
    assert guest.do(f"try_open_event({handle!r})[0]") == INVALID_HANDLE
    other = owner.do("export_event(f := event())")  # at the same place
    assert guest.do(f"try_open_event({handle!r})[0]") == INVALID_HANDLE
    assert guest.do(f"try_open_event({other!r})[0]") == 0


def test_a_thousand_events(start: Start) -> None:
    """More than a process may have descriptors for one each."""
    owner, guest = start(), start()
    owner.do("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))")
    owner.do("events = [event() for _ in range(1000)]")
    handles = owner.do("[export_event(each) for each in events]")
    assert len(set(handles)) == 1000
    assert guest.do(f"len([open_event(each) for each in {handles!r}])") == 1000
