"""Two people on one machine: each has her slices, and neither can touch, read or outdo the other's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.limits.layout import load

from .conftest import Service, arbiters, eventually
from .people import ALICE, BOB, Person, needs_root

pytestmark = needs_root

GIB = 2**30
ALLOCATE = """
import ctypes, json, os, sys
cuda, where = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64()
context = ctypes.c_void_p()
codes = [cuda.cuInit(0), cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)]
cuda.cuCtxSetCurrent(context)
codes += [cuda.cuMemAlloc_v2(ctypes.byref(where), ctypes.c_size_t(int(each))) for each in sys.argv[1:]]
print(json.dumps(codes), flush=True)
"""
STAY = ALLOCATE + "sys.stdin.readline()\n"
OUT_OF_MEMORY = 2


def run(person: Person, *options: str, text: str = ALLOCATE, sizes: tuple[int, ...] = ()) -> list[int]:
    """What the driver's calls answered to a program on a slice of hers."""
    command = ["run", "-q", *options, "--", person.python, "-c", text, *map(str, sizes)]
    done = person.aliquot(*command)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(person: Person, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A program on a slice of hers, that has its context and waits."""
    command = [person.python, "-m", "aliquot", "run", "-q", *options, "--", person.python, "-c", STAY]
    process = person.start(*command)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("["), process.stderr.read() if process.stderr else ""
        yield process
    finally:
        process.communicate("\n", timeout=30)


def shown(person: Person) -> list[str]:
    """The names of the slices that she sees."""
    done = person.aliquot("slices", "--json")
    assert done.returncode == 0, done.stderr
    return [each["name"] for each in json.loads(done.stdout)["slices"]]


def folder_of(broker: Service, uid: int, name: str) -> Path:
    return broker.home / "people" / str(uid) / name


def test_each_gets_her_slice_and_no_more_memory_than_it_has(
    broker: Service, alice: Person, bob: Person
) -> None:
    """Both at a time on one card, through one arbiter; nothing is left of them after."""
    with running(alice, "--vram", "1Gi"):
        assert run(bob, "--vram", "2Gi", sizes=(GIB, GIB)) == [0, 0, 0, OUT_OF_MEMORY]
        assert len(arbiters(broker.home)) == 1
        (name,) = shown(alice)
        made = Slice.open(folder_of(broker, ALICE, name))
        assert made.tenant_uid == ALICE
        assert made.arbiter().alive
        (process,) = made.usage().processes
        assert Path(f"/proc/{process.pid}").stat().st_uid == ALICE
    assert shown(alice) == shown(bob) == []
    assert list((broker.home / "people" / str(ALICE)).iterdir()) == []


def test_root_is_a_person_too_and_the_cards_are_the_groups(
    broker: Service, alice: Person, root: Person
) -> None:
    """Root gets slices from the broker like everybody; who is not in the group gets a slice and no card."""
    assert run(root, "--vram", "1Gi", sizes=(GIB,)) == [0, 0, OUT_OF_MEMORY]
    outside = Person(ALICE, alice.python, alice.env, ())
    done = outside.aliquot("run", "-q", "--vram", "1Gi", "--", outside.python, "-c", ALLOCATE)
    assert done.returncode == 0, done.stderr
    assert 0 not in json.loads(done.stdout)
    assert "a group that this user is not in" in done.stderr


def test_one_sees_ones_own_and_root_all(broker: Service, alice: Person, bob: Person, root: Person) -> None:
    for person, name in ((alice, "mine"), (bob, "mine"), (bob, "other")):
        done = person.aliquot("slices", "create", name, "--vram", "1Gi")
        assert (done.returncode, done.stdout) == (0, f"{name}\n"), done.stderr
    assert shown(alice) == ["mine"]
    assert shown(bob) == ["mine", "other"]
    assert {f"{ALICE}/mine", f"{BOB}/mine", f"{BOB}/other"} <= set(shown(root))
    assert root.aliquot("resize", f"{BOB}/mine", "--vram", "2Gi").returncode == 0
    assert Slice.open(folder_of(broker, BOB, "mine")).limits()[0].vram_bytes == 2 * GIB
    assert Slice.open(folder_of(broker, ALICE, "mine")).limits()[0].vram_bytes == GIB
    assert bob.aliquot("slices", "remove", "mine").returncode == 0
    assert shown(alice) == ["mine"]


def test_a_running_slice_is_resized_by_whose_it_is(broker: Service, alice: Person, bob: Person) -> None:
    with running(alice, "--vram", "1Gi", "--compute", "30%"):
        (name,) = shown(alice)
        done = alice.aliquot("resize", name, "--vram", "2Gi", "--compute", "50%", "--qos", "high")
        assert done.returncode == 0, done.stderr
        made = Slice.open(folder_of(broker, ALICE, name))
        before = made.limits()
        assert (before[0].vram_bytes, before[0].compute_request_ppm) == (2 * GIB, 500_000)
        assert made.qos().name == "high"
        assert bob.refusal("resize", name, "--vram", "1Gi") == "slice-not-found"
        assert bob.refusal("resize", f"{ALICE}/{name}", "--vram", "1Gi") == "slice-not-found"
        assert alice.refusal("resize", name, "--vram", "12Gi", "--qos", "critical") == "allowance-exceeded"
        assert made.limits() == before


def test_the_allowance_and_the_card_bound_what_people_get(
    service: Service, alice: Person, bob: Person
) -> None:
    """The T4 has 15 GiB and a bit; one person may have 60% of a card."""
    service.start("--vram", "60%", "--compute", "60%", "--slices", "2", "--qos", "medium")
    make = ("slices", "create")
    for name, options, person, refused in (
        ("much", ("--vram", "10Gi"), alice, True),
        ("a", ("--vram", "6Gi", "--compute", "50%"), alice, False),
        ("more", ("--vram", "4Gi"), alice, True),
        ("time", ("--vram", "1Gi", "--compute", "11%"), alice, True),
        ("level", ("--vram", "1Gi", "--qos", "high"), alice, True),
        ("b", ("--vram", "1Gi", "--compute", "10%"), alice, False),
        ("third", ("--vram", "1Mi"), alice, True),
        ("full", ("--vram", "9Gi"), bob, True),
        ("busy", ("--vram", "1Gi", "--compute", "45%"), bob, True),
        ("c", ("--vram", "7Gi", "--compute", "40%"), bob, False),
    ):
        done = person.aliquot(*make, name, *options)
        assert (done.returncode == 5) == refused, (name, done.stderr)
        assert refused == ("aliquot:" in done.stderr), done.stderr
    refusal = alice.aliquot("resize", "a", "--vram", "9Gi")
    assert "are left" in refusal.stderr
    assert alice.aliquot("resize", "a", "--vram", "2Gi").returncode == 0
    assert bob.aliquot("resize", "c", "--vram", "9Gi").returncode == 0


def test_what_root_makes_for_a_person_is_used_and_not_changed_by_her(
    broker: Service, alice: Person, bob: Person, root: Person
) -> None:
    made = root.aliquot("slices", "create", "lab", "--vram", "1Gi", "--qos", "critical", "--for", str(ALICE))
    assert (made.returncode, made.stdout) == (0, f"{ALICE}/lab\n"), made.stderr
    assert run(alice, "--slice", "lab", sizes=(GIB,)) == [0, 0, OUT_OF_MEMORY]
    assert alice.refusal("resize", "lab", "--vram", "2Gi") == "slice-access-denied"
    removed = alice.aliquot("slices", "remove", "lab")
    assert removed.returncode == 1
    assert "root made this slice" in removed.stderr
    assert shown(alice) == ["lab"]
    assert "there is no slice lab" in bob.aliquot("run", "--slice", "lab", "--", "true").stderr
    mine = bob.aliquot("slices", "create", "for-her", "--vram", "1Gi", "--for", str(ALICE))
    assert mine.returncode == 1
    assert "are not those of uid" in mine.stderr
    assert root.aliquot("slices", "remove", f"{ALICE}/lab").returncode == 0


def test_a_broker_that_is_killed_and_comes_back(
    broker: Service, alice: Person, bob: Person, root: Person
) -> None:
    """Programs go on, new ones are told; all is as it was when it is back, and what was left is removed."""
    assert bob.aliquot("slices", "create", "kept", "--vram", "1Gi", "--compute", "40%").returncode == 0
    with running(alice, "--vram", "1Gi", "--compute", "30%") as program:
        (name,) = shown(alice)
        made = Slice.open(folder_of(broker, ALICE, name))
        broker.kill()
        assert bob.refusal("resize", "kept", "--vram", "2Gi") == "broker-failed"
        for command in (("run", "--vram", "1Gi", "--", "true"), ("doctor",)):
            done = bob.aliquot(*command)
            assert done.returncode != 0
            assert "broker does not answer" in done.stdout + done.stderr
        assert made.arbiter().alive
        epoch = made.arbiter().epoch
        (arbiter,) = arbiters(broker.home)
        os.kill(arbiter, signal.SIGKILL)
        broker.start()
        eventually(lambda: made.arbiter().alive and made.arbiter().epoch > epoch)
        assert program.poll() is None
        assert shown(bob) == ["kept"]
        assert bob.refusal("resize", "kept", "--compute", "71%") == "allowance-exceeded"
        assert bob.aliquot("resize", "kept", "--compute", "70%").returncode == 0
        broker.kill()
    assert made.path.is_dir()  # nobody was there to remove it
    broker.start()
    eventually(lambda: not made.path.exists())
    assert f"{BOB}/kept" in shown(root)


def test_it_is_one_for_the_machine_and_leaves_nothing(broker: Service, alice: Person, root: Person) -> None:
    done = root.aliquot("broker", "--simulate", env=broker.env)
    assert "another broker serves" in done.stderr
    assert alice.aliquot("broker", "--simulate").returncode == 5
    assert "broker: shares out Tesla T4" in alice.aliquot("doctor").stdout
    assert run(alice, "--vram", "1Gi") == [0, 0]
    assert broker.stop() == 0
    assert [each.name for each in broker.home.iterdir()] == [".broker.lock"]


@pytest.fixture
def own_home() -> Iterator[Path]:
    """The folder of alice's own slices, which goes again unless it was there."""
    folder = Path(f"/dev/shm/aliquot-slices-{ALICE}")
    was_there = os.path.lexists(folder)
    yield folder
    if not was_there:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def test_without_a_broker_a_person_is_alone(
    ground: Path, alice: Person, settings: dict[str, str], own_home: Path
) -> None:
    cards = ground / "hers"
    cards.mkdir()
    os.chown(cards, ALICE, ALICE)
    person = Person(ALICE, alice.python, {**settings, "ALIQUOT_SIMGPU_HOME": str(cards)}, ())
    assert run(person, "--vram", "1Gi", sizes=(GIB,)) == [0, 0, OUT_OF_MEMORY]
    done = person.aliquot("slices", "create", "hers", "--vram", "1Gi", "--for", str(BOB), "--simulate")
    assert "made by this machine's broker" in done.stderr
    assert own_home.stat().st_uid == ALICE


def time_of(
    person: Person, kernel_ns: int, seconds: float, program: Path, *options: str
) -> Callable[[], None]:
    """Starts a program that floods the card with kernels of that length; returns what ends it."""
    command = [person.python, "-m", "aliquot", "run", "-q", *options, "--"]
    tenant = [program, "--kernel", str(kernel_ns), "--depth", "16"]
    process = person.start(*command, *tenant)
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == "ready\n", process.stderr.read() if process.stderr else ""
    process.stdin.write("\n")
    process.stdin.flush()

    def end() -> None:
        process.communicate(timeout=30)
        assert process.returncode == 0

    return end


def recorded(broker: Service) -> list[dict[str, int]]:
    """The card's own record: who had its engine, and when."""
    command = [sys.executable, "-m", "aliquot", "simgpu", "record", "--device", "0", "--json"]
    done = subprocess.run(command, env=broker.env, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)["intervals"]


@pytest.mark.slow
def test_two_people_share_a_card_by_weight(
    broker: Service, alice: Person, bob: Person, native_build: Path
) -> None:
    """30% and 70% of what the card recorded, within 3 points; then 60 and 40, changed by each herself."""
    program = native_build / "native/limiter/bench/limiter-bench-tenant"
    assert program.is_file(), f"{program} is not built"
    ends = [
        time_of(alice, 500_000, 20, program, "--vram", "1Gi", "--compute", "30%"),
        time_of(bob, 1_000_000, 20, program, "--vram", "1Gi", "--compute", "40%"),
    ]
    (hers,), (his,) = shown(alice), shown(bob)
    pids = {}
    for uid, name in ((ALICE, hers), (BOB, his)):
        (process,) = Slice.open(folder_of(broker, uid, name)).usage().processes
        pids[process.pid] = uid
    assert bob.aliquot("resize", his, "--compute", "70%").returncode == 0
    windows = [watched(6.0)]
    assert bob.aliquot("resize", his, "--compute", "40%").returncode == 0
    assert alice.aliquot("resize", hers, "--compute", "60%").returncode == 0
    windows.append(watched(6.0))
    for end in ends:
        end()
    found = recorded(broker)
    for (begin, until), expected in zip(windows, (30, 60), strict=True):
        busy = dict.fromkeys((ALICE, BOB), 0)
        for each in found:
            inside = min(until, each["end_ns"]) - max(begin, each["start_ns"])
            if inside > 0 and each["pid"] in pids:
                busy[pids[each["pid"]]] += inside
        share = 100 * busy[ALICE] / sum(busy.values())
        assert abs(share - expected) <= 3, (share, expected)
        assert sum(busy.values()) >= 0.8 * (until - begin), busy


def watched(seconds: float) -> tuple[int, int]:
    """A stretch of time from half a second from now on: CLOCK_MONOTONIC, ns."""
    time.sleep(0.5)
    begin = time.monotonic_ns()
    time.sleep(seconds)
    return begin, time.monotonic_ns()


def test_the_account_is_the_size_that_it_was_made(broker: Service, alice: Person) -> None:
    """What a tenant appends to it is taken away again; what she cuts off harms herself."""
    assert alice.aliquot("slices", "create", "mine", "--vram", "1Gi").returncode == 0
    account = folder_of(broker, ALICE, "mine") / "account"
    size = load().structures["Account"].size
    assert (account.stat().st_size, account.stat().st_blocks * 512 >= size) == (size, True)
    grow = "import os, sys; f = os.open(sys.argv[1], os.O_RDWR); os.ftruncate(f, 1 << 30); print(1)"
    alice.answers(grow, account)
    eventually(lambda: account.stat().st_size == size)
