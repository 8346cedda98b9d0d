"""Work that waits for its turn: the tenant's side of the sharing of a card, on the simulated one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from .conftest import Limited
from .fake_arbiter import BEGAN, CLOSED, HELLO, IDLE, NO_END, RUNNING, WANT, FakeArbiter
from .sharing import (
    DEEP,
    MS,
    Program,
    arbiter_of,
    busy_ns,
    intervals,
    make_slice,
    shares,
    wait_until,
    working_machine,
)

pytestmark = pytest.mark.sanitized


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


KINDS = {
    "kernel": "w.nap(1000)",
    "legacy stream": "w.nap(1000, 0)",
    "per-thread stream": "w.nap(1000, 2)",
    "ex": """config = cu.CUlaunchConfig()
for axis in 'XYZ':
    setattr(config, 'gridDim' + axis, 1); setattr(config, 'blockDim' + axis, 1)
config.hStream = w.stream
check(cu.cuLaunchKernelEx(config, w.function('nap'), w.arguments(1000), 0))""",
    "cooperative": """nap = w.function('nap')
check(cu.cuLaunchCooperativeKernel(nap, 1, 1, 1, 1, 1, 1, 0, w.stream, w.arguments(1000)))""",
    "graph": "check(cu.cuGraphLaunch(graph, w.stream))",
    "copy": "check(cu.cuMemcpyHtoD(memory, bytes(4096), 4096))",
    "copy back": "check(cu.cuMemcpyDtoH(bytearray(4096), memory, 4096))",
    "asynchronous copy": "check(cu.cuMemcpyDtoDAsync(memory, memory + 4096, 4096, w.stream))",
    "copy within": "check(cu.cuMemcpyDtoD(memory, memory + 4096, 4096))",
    "set": "check(cu.cuMemsetD32(memory, 1, 100))",
    "asynchronous set": "check(cu.cuMemsetD8Async(memory, 1, 100, w.stream))",
    "set of rows": "check(cu.cuMemsetD2D8(memory, 128, 1, 10, 10))",
}


def test_everything_that_works_on_the_device_waits_for_a_turn(on_card: Limited, fake: FakeArbiter) -> None:
    """Each kind of call, one after the other: not before the turn opens, and at once then."""
    steps = "\n".join(
        f"sys.stdin.readline(); say({name!r}, 'begins')\n{code}\nsay({name!r}, 'done')"
        for name, code in KINDS.items()
    )
    setup = "w = Worker(); graph = w.capture(2, 1000); memory = int(check(cu.cuMemAlloc(1 << 20)))\n"
    setup += "say('ready')\n"
    with Program(on_card, setup + steps) as program:
        program.wait_for("ready")  # and captured in a closed turn: nothing ran
        for number, name in enumerate(KINDS):
            before = len(fake.messages)
            program.tell("go")
            program.wait_for(f"{name} begins")
            asked = fake.wait_for(WANT, beyond=before) if number else fake.wait_for(WANT)
            assert asked.turn == 2 * number
            time.sleep(0.05)
            assert not program.has_said(f"{name} done"), name
            fake.lend(2 * number + 1)
            program.wait_for(f"{name} done")
            fake.lend(2 * number + 2)
        program.end()
    assert fake.messages[0].kind == HELLO
    held_back = on_card.slice.usage().devices[0].held_back_ns
    assert held_back >= len(KINDS) * 0.05 * 1e9


STREAMS_AND_THREADS = {
    "remembered prices": "for _ in range(500): w.nap(20_000)",
    "remembered prices, synchronised": "for _ in range(500): w.nap(20_000)\nw.finish()",
    "a failed call": """for _ in range(20):
    w.nap(20_000)
    error, = cu.cuLaunchKernel(w.function('nap'), 1, 1, 1, 1, 1, 1, 0, w.stream, 0, 0)
    assert error != 0""",
    "a call that was never known": """error, = cu.cuLaunchKernel(
    w.function('nap'), 1, 1, 1, 5000, 1, 1, 0, w.stream, w.arguments(1000), 0)
assert error != 0""",
    "captures": """for _ in range(5):
    w.nap(20_000); other = w.capture(5, 20_000)
    check(cu.cuGraphLaunch(other, w.stream)); check(cu.cuGraphLaunch(other, w.stream)); w.nap(20_000)""",
    "threads that end": """def work(stream):
    check(cu.cuCtxSetCurrent(w.card.context))
    for _ in range(50): w.nap(20_000, stream)
threads = [threading.Thread(target=work, args=(stream,)) for stream in (w.stream, 2, 0, 2)]
for each in threads: each.start()
for each in threads: each.join()""",
    "streams that end": """for _ in range(5):
    stream = check(cu.cuStreamCreate(1))
    for _ in range(20): w.nap(20_000, stream)
    check(cu.cuStreamDestroy(stream))""",
}


@pytest.mark.parametrize("contended", [True, False])
def test_what_has_ended_is_not_in_flight(on_card: Limited, fake: FakeArbiter, contended: bool) -> None:
    """To the nanosecond, after each kind of work, without any help: what is left stays for ever, and a slice
    that seems to be at work never gives its turn back."""
    kinds = {**KINDS, **STREAMS_AND_THREADS}
    setup = "w = Worker(); graph = w.capture(2, 1000); memory = int(check(cu.cuMemAlloc(1 << 20)))\n"
    steps = "\n".join(f"{code}\nsay({name!r}); sys.stdin.readline()" for name, code in kinds.items())
    fake.lend(1, contended=contended, in_flight_ns=2 * MS if contended else NO_END)
    with Program(on_card, setup + steps) as program:
        for name in kinds:
            program.wait_for(name)
            until = time.monotonic() + 5
            left = -1
            while left != 0 and time.monotonic() < until:
                time.sleep(0.01)
                (process,) = on_card.slice.usage().processes
                left = process.in_flight_ns[0]
            assert left == 0, name
            program.tell("go")
        program.end()


def test_a_wrong_prediction_is_corrected(on_card: Limited, fake: FakeArbiter) -> None:
    """Kernels of one kind that take turns to be long: whoever is late says so, and when it has ended."""
    text = """
    w = Worker()
    for _ in range(20): w.nap(1_000_000)
    w.finish(); say('ready'); sys.stdin.readline()
    w.nap(50_000_000); say('launched'); time.sleep(30)
    """
    fake.lend(1, contended=True, in_flight_ns=4 * MS)
    with Program(on_card, text) as program:
        program.wait_for("ready")
        seen = len(fake.messages)
        fake.lend(3, contended=True, in_flight_ns=4 * MS)
        program.tell("go")
        launched = program.wait_for("launched")
        fake.lend(3, contended=True, in_flight_ns=4 * MS, ends_ns=time.monotonic_ns())
        first = fake.wait_for(CLOSED, beyond=seen)
        if first.value:
            late = fake.wait_for(RUNNING, beyond=fake.messages.index(first))
            assert late.turn == first.turn
            assert late.at - first.at < 0.01
            last = fake.wait_for(CLOSED, beyond=fake.messages.index(late))
        else:
            last = first
        assert (last.turn, last.value) == (3, 0)
        assert 0.04 < last.at - launched < 0.2


def test_a_turn_that_is_over_is_given_back_when_its_work_has_ended(
    on_card: Limited, fake: FakeArbiter
) -> None:
    text = """
    w = Worker(); say('ready'); w.nap(300_000_000); say('launched'); w.finish()
    w.nap(1000); say('more')
    """
    fake.lend(1, contended=True, in_flight_ns=4 * MS)
    with Program(on_card, text) as program:
        launched = program.wait_for("launched")
        fake.lend(1, contended=True, in_flight_ns=4 * MS, ends_ns=time.monotonic_ns())
        closed = fake.wait_for(CLOSED)
        assert closed.turn == 1
        assert closed.at - launched > 0.25, "it was given back while the kernel ran"
        assert fake.wait_for(RUNNING).at < closed.at
        fake.wait_for(WANT)
        assert not program.has_said("more")
        fake.lend(3)
        program.wait_for("more")
        program.end()


def test_an_idle_holder_says_so_and_takes_part_again(on_card: Limited, fake: FakeArbiter) -> None:
    text = (
        "w = Worker(); w.nap(1000); w.finish(); say('idle'); sys.stdin.readline(); w.nap(1000); say('again')"
    )
    fake.lend(1, contended=True, in_flight_ns=4 * MS)
    with Program(on_card, text) as program:
        program.wait_for("idle")
        assert fake.wait_for(IDLE).turn == 1
        assert fake.wait_for(BEGAN).turn == 1
        seen = len(fake.messages)
        fake.lend(3, contended=True, in_flight_ns=4 * MS)
        program.tell("go")
        program.wait_for("again")
        assert fake.wait_for(BEGAN, beyond=seen).turn == 3
        program.end()


def test_in_flight_work_is_bounded(on_card: Limited, fake: FakeArbiter) -> None:
    """Calls return before their kernels end, but not by more than the bound and one kernel."""
    text = """
    w = Worker()
    for _ in range(6): w.nap(20_000_000)
    w.finish()
    begun = time.monotonic()
    for _ in range(10): w.nap(20_000_000)
    say('ahead', round(begun + 0.2 - time.monotonic(), 3))
    w.finish()
    """
    fake.lend(1, contended=True, in_flight_ns=50 * MS)
    with Program(on_card, text) as program:
        program.end()
        ((_, line),) = program.lines
    assert -0.2 < float(line.split()[1]) < 0.09


def test_a_kernel_that_waits_for_a_later_launch_is_not_held_for_ever(
    on_card: Limited, fake: FakeArbiter
) -> None:
    text = """
    w = Worker(); memory = int(check(cu.cuMemAlloc(4096)))
    other = check(cu.cuStreamCreate(1))
    for _ in range(3):
        check(cu.cuMemsetD32(memory, 0, 1))
        w.launch('wait', memory); w.launch('signal', memory, other); w.finish()
    say('done')
    """
    fake.lend(1, contended=True, in_flight_ns=0)
    with Program(on_card, text) as program:
        program.wait_for("done")
        program.end()


def test_programs_go_on_when_the_arbiter_dies_and_find_the_next_one(on_card: Limited) -> None:
    text = """
    w = Worker(); say('ready'); w.nap(1000); say('first'); w.finish()
    while not os.path.exists(sys.argv[1]): w.nap(1000); w.finish(); time.sleep(0.01)
    say('seen')
    while True: w.nap(1000); w.finish(); time.sleep(0.01); say('launch')
    """
    marker = on_card.slice.path.parent / "marker"
    first = FakeArbiter(on_card.slice.path)
    with Program(on_card, text, str(marker)) as program:
        first.wait_for(WANT)
        assert not program.has_said("first")
        died = time.monotonic()
        first.vanish()
        assert program.wait_for("first") - died < 1
        with FakeArbiter(on_card.slice.path) as second:
            second.lend(1)  # which it may already have asked for
            wait_until(lambda: any(each.kind in (BEGAN, WANT) for each in second.messages))
            second.lend(2)
            before = len(second.messages)
            marker.touch()
            second.wait_for(WANT, beyond=before)
            count = len(program.lines)
            time.sleep(0.1)
            assert len(program.lines) <= count + 1
            second.lend(3)
            program.wait_for("launch")


def test_a_fork_keeps_no_connection_alive(on_card: Limited, fake: FakeArbiter) -> None:
    text = """
    w = Worker(); w.nap(1000); w.finish()
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent: time.sleep(0.01)
        time.sleep(4); os._exit(0)
    w.nap(1000); w.finish(); say('ready'); time.sleep(30)
    """
    fake.lend(1)
    with Program(on_card, text) as program:
        program.wait_for("ready")
        os.kill(program.process.pid, signal.SIGKILL)
        until = time.monotonic() + 3  # its child lives on for longer
        while not fake.hung_up and time.monotonic() < until:
            time.sleep(0.01)
        assert fake.hung_up == 1


def test_streams_threads_and_contexts_come_and_go(on_card: Limited, fake: FakeArbiter) -> None:
    """Markers are out while streams are destroyed, threads end, and the context is reset."""
    text = """
    w = Worker()
    def work():
        check(cu.cuCtxSetCurrent(w.card.context))
        for _ in range(10):
            stream = check(cu.cuStreamCreate(1))
            for _ in range(10): w.nap(1000 * 100, stream)
            check(cu.cuStreamDestroy(stream))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
    check(cu.cuCtxSynchronize())
    for _ in range(3):
        for _ in range(20): w.nap(1000 * 100)
        check(cu.cuModuleUnload(w.card.module))
        check(cu.cuDevicePrimaryCtxReset(0))
        w = Worker()
    say('done')
    """
    fake.lend(1, contended=True, in_flight_ns=2 * MS)
    with Program(on_card, text) as program:
        program.wait_for("done")
        program.end()
    assert on_card.slice.usage().work.launches >= 400


def test_captures_go_on_while_work_is_watched(on_card: Limited, fake: FakeArbiter) -> None:
    """Events of the limiter are recorded and asked for all the while, in the mode that forbids most."""
    text = """
    w = Worker(); over = threading.Event()
    def work():
        check(cu.cuCtxSetCurrent(w.card.context))
        stream = check(cu.cuStreamCreate(1))
        while not over.is_set(): w.nap(200_000, stream)
    threads = [threading.Thread(target=work) for _ in range(2)]
    for each in threads: each.start()
    for _ in range(30):
        graph = w.capture(20, 1000)
        check(cu.cuGraphLaunch(graph, w.stream)); w.finish()
        check(cu.cuGraphExecDestroy(graph))
    over.set()
    for each in threads: each.join()
    say('done')
    """
    fake.lend(1, contended=True, in_flight_ns=2 * MS)
    with Program(on_card, text) as program:
        program.wait_for("done")
        program.end()
    assert on_card.slice.usage().work.graph_launches == 30


def test_the_watcher_comes_with_the_first_work_and_takes_no_signals(on_card: Limited) -> None:
    text = """
    def watchers():
        tasks = [f'/proc/self/task/{task}/' for task in os.listdir('/proc/self/task')]
        return [task for task in tasks if open(task + 'comm').read() == 'aliquot-watch\\n']
    w = Worker(); check(cu.cuMemAlloc(4096))
    assert not watchers()
    w.nap(1000)
    until = time.monotonic() + 10
    while not watchers(): assert time.monotonic() < until
    (only,) = watchers()
    (blocked,) = [line for line in open(only + 'status') if line.startswith('SigBlk')]
    # All but SIGKILL, SIGSTOP and the two that the C library keeps for itself.
    assert int(blocked.split()[1], 16) | 0x180040100 == 2**64 - 1, blocked
    say('done')
    """
    with Program(on_card, text) as program:
        program.wait_for("done")
        program.end()


@pytest.mark.parametrize("how", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 15)"])
def test_processes_end_while_work_is_in_flight(on_card: Limited, fake: FakeArbiter, how: str) -> None:
    text = f"""
    w = Worker()
    for _ in range(5): w.nap(5_000_000)
    threading.Thread(target=lambda: w.nap_for(60, 100_000), daemon=True).start()
    time.sleep(0.1); say('ready')
    {how}
    """
    fake.lend(1, contended=True, in_flight_ns=2 * MS)
    with Program(on_card, text) as program:
        program.wait_for("ready")
        assert program.process.wait(timeout=10) in (0, -signal.SIGTERM)


def test_counts_are_exact_when_the_program_synchronises(on_card: Limited) -> None:
    text = """
    w = Worker()
    def work():
        check(cu.cuCtxSetCurrent(w.card.context))
        for _ in range(500): w.nap(0)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
    check(cu.cuCtxSynchronize()); say('synchronised'); sys.stdin.readline()
    for _ in range(7): w.nap(0)
    say('launched'); time.sleep(30)
    """
    with Program(on_card, text) as program:
        program.wait_for("synchronised")
        assert on_card.slice.usage().work.launches == 2000
        program.tell("go")
        program.wait_for("launched")
        time.sleep(0.3)
        assert on_card.slice.usage().work.launches == 2007


def test_without_an_arbiter_a_ceiling_holds_and_changes_within_200_ms(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    limited = make_slice(machine, native_dir, slice_home, ceiling=300_000)
    with Program(limited, DEEP, "4", str(8 * MS)) as program:
        ready = program.wait_for("ready")
        time.sleep(max(0, ready + 2 - time.monotonic()))
        limited.slice.set_compute(0, 800_000)  # type: ignore[arg-type]
        changed = time.monotonic_ns()
        program.end()
    recorded = intervals(machine, native_dir)

    def busy(begin: float, end: float) -> float:
        return busy_ns(recorded, begin, end) / (end - begin)

    begin = min(i["start_ns"] for i in recorded)
    assert busy(begin + 0.3e9, changed) == pytest.approx(0.3, abs=0.06)
    assert busy(changed + 0.2e9, changed + 1.2e9) == pytest.approx(0.8, abs=0.12)


Pair = tuple[Limited, Limited]


@pytest.fixture
def pair(
    request: pytest.FixtureRequest, machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> Iterator[Pair]:
    """Two slices of one card, with the parts that the parameter states, and the arbiter that lends it."""
    one, two = (make_slice(machine, native_dir, slice_home, compute=part) for part in request.param)
    with arbiter_of(one, two):
        yield one, two


@pytest.mark.parametrize("pair", [(300_000, 700_000)], indirect=True)
def test_two_deep_tenants_get_their_shares(pair: Pair, machine: Mapping[str, str], native_dir: Path) -> None:
    """Judged by the card's record, whatever the counters say."""
    with Program(pair[0], DEEP, "7", str(MS)) as a, Program(pair[1], DEEP, "7", str(MS)) as b:
        a.end()
        b.end()
        got = shares(intervals(machine, native_dir))
        assert got[a.process.pid] == pytest.approx(0.3, abs=0.04)
    assert pair[0].slice.usage().devices[0].gpu_ns > 0.5e9


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize("pair", [(500_000, 500_000)], indirect=True)
def test_a_holder_that_is_stopped_or_killed_blocks_nobody(pair: Pair, how: signal.Signals) -> None:
    text = """
    w = Worker(); w.nap(1000); w.finish(); say('ready')
    while True: w.nap(500_000); w.finish(); say('step')
    """
    with Program(pair[0], DEEP, "60", str(MS)) as holder, Program(pair[1], text) as other:
        holder.wait_for("ready")
        other.wait_for("step")
        holder.process.send_signal(how)
        time.sleep(1)
        steps = len(other.lines)
        time.sleep(1)
        assert len(other.lines) > steps + 50
        if how is signal.SIGSTOP:
            holder.process.send_signal(signal.SIGCONT)
