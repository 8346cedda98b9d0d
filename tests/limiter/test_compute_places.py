"""Shares where a program has several cards, contexts or processes, and where a card serves several."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from .sharing import (
    DEEP,
    MS,
    Program,
    arbiter_of,
    intervals,
    lent,
    make_slice,
    shares,
    working_machine,
)

SECONDS = "3"
TOLERANCE = 0.1  # whoever is counted twice is off by more, and others use the machine


@pytest.fixture
def machine(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    return working_machine(simgpu_env)


@pytest.mark.sanitized
def test_each_card_of_a_process_is_shared_on_its_own(
    simgpu_env: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """30% of one card and 70% of another, by one process that works on both, beside one neighbour on each."""
    machine = working_machine(simgpu_env, "t4,t4")
    both = make_slice(machine, native_dir, slice_home, parts={0: 300_000, 1: 700_000})
    neighbours = [
        make_slice(machine, native_dir, slice_home, parts={card: part})
        for card, part in ((0, 700_000), (1, 300_000))
    ]
    text = """
    workers = [Worker(card) for card in (0, 1)]; say('ready')
    def work(worker):
        check(cu.cuCtxSetCurrent(worker.card.context))
        worker.nap_for(float(sys.argv[1]), 2_000_000)
    threads = [threading.Thread(target=work, args=(each,)) for each in workers]
    for each in threads: each.start()
    for each in threads: each.join()
    """
    with (
        arbiter_of(both, *neighbours),
        Program(both, text, SECONDS) as program,
        Program(neighbours[0], DEEP, SECONDS, str(2 * MS)) as first,
        Program(neighbours[1], DEEP, SECONDS, str(2 * MS)) as second,
    ):
        for each in (program, first, second):
            each.end()
        for card, part in ((0, 0.3), (1, 0.7)):
            got = shares(intervals(machine, native_dir, card))
            assert got[program.process.pid] == pytest.approx(part, abs=TOLERANCE), (card, got)
    devices = both.slice.usage().devices
    assert [each.held_back_ns > 0 for each in devices] == [True, True]


def test_a_slice_gets_no_more_by_several_contexts(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """All contexts of a process work in its turns, none is forgotten, and the neighbour has its half."""
    one, two = (make_slice(machine, native_dir, slice_home, compute=500_000) for _ in range(2))
    text = """
    from card_client import HEAD, NAP
    w = Worker(); done = [0, 0, 0]
    def work(number):
        context = w.card.context if number == 0 else check(cu.cuCtxCreate(None, 0, w.card.device))
        check(cu.cuCtxSetCurrent(context))
        module = check(cu.cuModuleLoadData((HEAD + NAP + '\\0').encode()))
        nap = check(cu.cuModuleGetFunction(module, b'nap'))
        stream = check(cu.cuStreamCreate(1)); begun.wait()
        until = time.monotonic() + float(sys.argv[1])
        while time.monotonic() < until:
            for _ in range(4):
                check(cu.cuLaunchKernel(nap, 1, 1, 1, 1, 1, 1, 0, stream, w.arguments(1_000_000), 0))
            check(cu.cuStreamSynchronize(stream)); done[number] += 4
    begun = threading.Barrier(3, lambda: say('ready'))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for each in threads: each.start()
    for each in threads: each.join()
    say(*done)
    """
    with (
        arbiter_of(one, two),
        Program(one, text, SECONDS) as several,
        Program(two, DEEP, SECONDS, str(2 * MS)) as single,
    ):
        single.wait_for("ready")
        several.wait_for("ready")
        assert lent([one, two], 2.0) == pytest.approx([0.5, 0.5], abs=TOLERANCE)
        several.end()
        single.end()
        got = shares(intervals(machine, native_dir))
        done = list(map(int, several.lines[-1][1].split()))
    assert got[several.process.pid] < 0.7  # three to one would be 0.75
    assert min(done) >= max(done) / 3 > 0, done


def test_the_processes_of_a_slice_share_its_part(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """Three of one slice, two of them forked before cuInit: half of the card, and each of them something."""
    one, two = (make_slice(machine, native_dir, slice_home, compute=500_000) for _ in range(2))
    forked = """
    children = []
    while len(children) < 2 and 0 not in children: children.append(os.fork())
    if 0 in children:
        Worker().nap_for(float(sys.argv[1]), 2_000_000)
        os._exit(0)
    say('forked'); assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    """
    with (
        arbiter_of(one, two),
        Program(one, forked, SECONDS) as parent,
        Program(one, DEEP, SECONDS, str(2 * MS)) as third,
        Program(two, DEEP, SECONDS, str(2 * MS)) as single,
    ):
        for each in (parent, third, single):
            each.wait_for("ready" if each is not parent else "forked")
        time.sleep(0.5)
        assert lent([one, two], 2.0) == pytest.approx([0.5, 0.5], abs=TOLERANCE)
        for each in (parent, third, single):
            each.end()
        got = shares(intervals(machine, native_dir))
    theirs = got.pop(single.process.pid)
    assert theirs > 0.3, got  # three to one would be 0.25
    assert len(got) == 3
    assert min(got.values()) > 0.05, got


@pytest.mark.sanitized
def test_a_child_forked_after_init_neither_works_nor_disturbs(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """The driver lets it do nothing; it is told so at once, whoever has the turn. What it executes works."""
    one, two = (make_slice(machine, native_dir, slice_home, compute=500_000) for _ in range(2))
    text = """
    w = Worker(); w.nap(1000); w.finish(); stop = threading.Event()
    def work():
        check(cu.cuCtxSetCurrent(w.card.context))
        while not stop.is_set(): w.nap(500_000); w.finish()
    worker = threading.Thread(target=work); worker.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            begun = time.monotonic()
            nap = w.function('nap')
            (answer,) = cu.cuLaunchKernel(nap, 1, 1, 1, 1, 1, 1, 0, w.stream, w.arguments(1000), 0)
            os._exit(0 if int(answer) != 0 and time.monotonic() - begun < 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
    child = os.fork()
    if child == 0:
        other = 'from work_calls import *; w = Worker(); w.nap(1000); w.finish()'
        os.execv(sys.executable, [sys.executable, '-c', other])
    assert os.waitpid(child, 0)[1] == 0
    stop.set(); worker.join(); say('done')
    """
    with arbiter_of(one, two), Program(two, DEEP, "60", str(2 * MS)) as neighbour:
        neighbour.wait_for("ready")
        with Program(one, text) as program:
            program.wait_for("done")
            program.end()
    (process,) = two.slice.usage().processes or [None]
    assert process is None or process.pid == neighbour.process.pid
    assert one.slice.usage().processes == ()


@pytest.mark.sanitized
def test_under_mps_slices_still_have_their_shares(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """The card would serve both at once, and then it would be theirs half and half."""
    tool = [str(native_dir / "bin" / "aliquot-simgpu"), "mps", "on"]
    subprocess.run(tool, env=dict(machine), check=True, capture_output=True, timeout=20)
    one, two = (make_slice(machine, native_dir, slice_home, compute=part) for part in (300_000, 700_000))
    with (
        arbiter_of(one, two),
        Program(one, DEEP, SECONDS, str(2 * MS)) as a,
        Program(two, DEEP, SECONDS, str(2 * MS)) as b,
    ):
        a.end()
        b.end()
        recorded = intervals(machine, native_dir)
    assert any(each["overlaps"] for each in recorded), "the card did not overlap anything"
    assert shares(recorded)[a.process.pid] == pytest.approx(0.3, abs=TOLERANCE)
