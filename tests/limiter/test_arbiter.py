"""The arbiter's program: real processes take turns, die, stop, lie; and it dies and comes back itself."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aliquot.limits import DeviceLimit, Slice
from aliquot.model import Ppm

from .programs.turn_taker import BEGAN, CLOSED, IDLE, NEVER, RUNNING, WANT, Tenant

PROGRAM = Path(__file__).with_name("programs") / "turn_taker.py"
OTHER_USER = 65534
MIB = 2**20

pytestmark = pytest.mark.sanitized

Make = Callable[..., Slice]


class Arbiter:
    """The program, serving a home."""

    def __init__(self, program: Path, home: Path) -> None:
        self.program = program
        self.home = home
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [self.program, "--home", self.home, *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env={**os.environ, "ALIQUOT_LOG": "info"}, **pipes)  # type: ignore[call-overload]
        return self.process

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = [self.program, "--home", self.home, *options]
        env = {**os.environ, "ALIQUOT_LOG": "info"}
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=env)

    def status(self) -> dict[str, Any]:
        done = self.run("--status")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.communicate()


def eventually(holds: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Waits until it holds; fails if it does not."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.002)


@pytest.fixture
def arbiter(native_build: Path, slice_home: Path) -> Iterator[Arbiter]:
    program = native_build / "native/limiter/arbiter/aliquot-arbiter"
    assert program.is_file(), f"{program} is not built"
    started = Arbiter(program, slice_home)
    started.start()
    yield started
    started.kill()


@pytest.fixture
def make(slice_home: Path, arbiter: Arbiter) -> Make:
    """Makes a slice that the arbiter serves; shares in percent."""

    def make_slice(request: int = 0, limit: int = 0, **options: Any) -> Slice:
        made = Slice.create(
            vram_bytes=MIB,
            home=slice_home,
            compute=Ppm(request * 10_000),
            compute_limit=Ppm(limit * 10_000),
            **options,
        )
        eventually(lambda: (made.path / "arbiter").is_socket() and Tenant(made.path).alive_ns)
        return made

    return make_slice


@contextmanager
def taker(made: Slice, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the slice that takes turns; see its program."""
    command = [sys.executable, PROGRAM, made.path, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def let_go(processes: Sequence[subprocess.Popen[str]]) -> None:
    """They begin together, however long it took to start them."""
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()


@contextmanager
def holder(made: Slice) -> Iterator[subprocess.Popen[str]]:
    with taker(made, "hold") as process:
        assert process.stdout
        assert process.stdout.readline() == "holding\n"
        yield process


def take_turns(slices: Sequence[Slice], seconds: float) -> list[list[tuple[int, int]]]:
    """When each of them held the card, if a process of each always wants it."""
    with ExitStack() as stack:
        running = [stack.enter_context(taker(each, str(seconds))) for each in slices]
        let_go(running)
        return [json.loads(process.communicate(timeout=seconds + 30)[0]) for process in running]


def total(intervals: Sequence[tuple[int, int]], begin: int, end: int) -> int:
    """How much of the time between the two is in the intervals."""
    return sum(max(0, min(last, end) - max(first, begin)) for first, last in intervals)


def test_turns_by_weight(make: Make) -> None:
    """Three processes that always want the card hold it one at a time, each for its share.

    What they see leaves out the time that Python takes to wake up; what they are charged includes it.
    """
    slices = [make(20), make(30), make(50)]
    held = take_turns(slices, 3.0)
    begin = max(each[0][0] for each in held) + 200_000_000
    end = min(each[-1][1] for each in held)
    parts = [total(each, begin, end) for each in held]
    for part, share in zip(parts, (20, 30, 50), strict=True):
        assert abs(100 * part / sum(parts) - share) <= 10, parts
    every = sorted(interval for each in held for interval in each)
    overlap = sum(max(0, one[1] - two[0]) for one, two in pairwise(every))
    assert overlap <= 0.02 * (end - begin)
    grants = [Tenant(each.path).grant() for each in slices]
    charged = sum(grant.held_ns for grant in grants)
    for grant, share in zip(grants, (20, 30, 50), strict=True):
        assert abs(100 * grant.held_ns / charged - share) <= 5, grants
        assert grant.turns >= 10
        assert grant.waited_ns > 0


def test_a_turn_says_when_the_card_becomes_free(make: Make) -> None:
    """It opens before the last one's work has ended, by what that stated."""
    first, second = (Tenant(make(50).path).connect() for _ in range(2))
    first.await_turn()
    second.say(WANT, second.grant().turn)
    eventually(lambda: first.grant().ends_ns != NEVER and not first.holds())
    rest = 250_000
    before = time.monotonic_ns()
    first.say(CLOSED, first.grant().turn, rest)
    eventually(lambda: second.grant().turn & 1)
    assert before + rest <= second.grant().begins_ns <= time.monotonic_ns() + rest


@pytest.mark.parametrize(("worked", "most"), [(0, 0.30), (1, 0.40)])
def test_a_ceiling_bounds_what_a_false_claim_gains(make: Make, worked: int, most: float) -> None:
    """Who says that it did not work is not charged for 0.5 ms of each turn, which lasts 2 ms or more."""
    made = make(30, 30)
    tenant = Tenant(made.path).connect()
    begin, last = time.monotonic_ns(), 0
    while time.monotonic_ns() < begin + 2_000_000_000:
        tenant.await_turn(after=last)
        grant = tenant.grant()
        last = grant.turn
        time.sleep(max(0, grant.ends_ns - time.monotonic_ns()) / 1e9)
        tenant.say(CLOSED, last, worked=worked)
    passed = time.monotonic_ns() - begin
    held = tenant.grant().held_ns
    assert 0.2 * passed <= held <= most * passed + 25_000_000


def test_alone_it_has_the_card_without_an_end(make: Make) -> None:
    tenant = Tenant(make().path).connect()
    tenant.await_turn()
    grant = tenant.grant()
    assert (grant.ends_ns, grant.in_flight_ns, grant.flags, grant.share_ppm) == (NEVER, NEVER, 0, 1_000_000)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_others_go_on_when_a_holder_dies_or_stops(make: Make, end: signal.Signals) -> None:
    """Within 50 ms, most of the time; the machine may be busy."""
    first, second = make(50), make(50)
    waits = []
    for _ in range(5):
        with holder(first) as process:
            waiting = Tenant(second.path).connect()
            process.send_signal(end)
            waits.append(waiting.await_turn())
            waiting.close()
    assert statistics.median(waits) <= 0.05, waits


def test_a_stopped_process_gets_the_card_again_when_it_goes_on(make: Make) -> None:
    first, second = make(50), make(50)
    with taker(first, "3") as process:
        let_go([process])
        other = Tenant(second.path).connect()
        time.sleep(0.5)
        process.send_signal(signal.SIGSTOP)
        other.await_turn()
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
        other.close()
        held = json.loads(process.communicate(timeout=30)[0])
    assert held[-1][1] - held[-1][0] > 500_000_000  # the other one has hung up: it is alone


def test_an_arbiter_that_died_comes_back(make: Make, arbiter: Arbiter) -> None:
    """Its pages stay, turns are never numbered twice, and whoever connects again takes turns again."""
    slices = [make(50), make(50)]
    before = [Tenant(each.path) for each in slices]
    with ExitStack() as stack:
        running = [stack.enter_context(taker(each, "3.5")) for each in slices]
        let_go(running)
        eventually(lambda: all(each.grant().turns >= 3 for each in before))
        arbiter.kill()
        words = [each.grant().turn for each in before]
        epochs = [each.epoch for each in before]
        turns = [each.grant().turns for each in before]
        killed = time.monotonic_ns()
        arbiter.start()
        held = [json.loads(process.communicate(timeout=30)[0]) for process in running]
    for tenant, word, epoch, count in zip(before, words, epochs, turns, strict=True):
        assert tenant.epoch == epoch + 1
        assert tenant.grant().turn > word
        assert tenant.grant().turns > count
    end = min(each[-1][1] for each in held)
    parts = [total(each, killed + 500_000_000, end) for each in held]
    assert abs(parts[0] / sum(parts) - 0.5) <= 0.1


def test_good_bye(make: Make, arbiter: Arbiter) -> None:
    """SIGTERM: the pages say that nobody is there, sleepers are woken, and nothing is left in the folders."""
    made = make()
    tenant = Tenant(made.path).connect()
    tenant.await_turn()
    assert arbiter.process
    tenant.sleep_on(0, 0)  # maps the page
    begin = time.monotonic()
    late = threading.Timer(0.3, arbiter.process.send_signal, [signal.SIGTERM])
    late.start()
    tenant.sleep_on(tenant.grant().turn, 10)
    assert time.monotonic() - begin < 5
    late.join()
    assert arbiter.process.wait(timeout=5) == 0
    assert tenant.alive_ns == 0
    assert tenant.hung_up_on()
    assert not (made.path / "arbiter").exists()
    assert not (arbiter.home / ".arbiter").exists()


def test_one_arbiter_for_a_home(make: Make, arbiter: Arbiter) -> None:
    make()
    second = arbiter.run()
    assert second.returncode == 0
    assert "another arbiter serves" in second.stderr
    assert arbiter.process
    assert arbiter.status()["pid"] == arbiter.process.pid


def test_it_ends_when_nobody_needs_it(native_build: Path, slice_home: Path) -> None:
    lonely = Arbiter(native_build / "native/limiter/arbiter/aliquot-arbiter", slice_home)
    made = Slice.create(vram_bytes=MIB, home=slice_home)
    process = lonely.start("--linger", "0.3")
    eventually(lambda: (made.path / "arbiter").is_socket())
    time.sleep(0.6)
    assert process.poll() is None
    made.remove()
    process.communicate(timeout=5)
    assert process.returncode == 0
    assert {each.name for each in slice_home.iterdir()} == {".arbiter.lock"}
    assert lonely.run("--status").returncode == 1


def test_a_slice_that_is_removed_while_it_holds_the_card(make: Make, arbiter: Arbiter) -> None:
    """Its programs go on under its last limits, and it is forgotten with them."""
    first, second = make(50), make(50)
    gone, stays = Tenant(first.path).connect(), Tenant(second.path).connect()
    gone.await_turn()
    gone.sleep_on(0, 0)  # maps the page while it can be opened
    first.remove()
    stays.await_turn()
    stays.say(CLOSED, stays.grant().turn)
    gone.await_turn()
    gone.close()
    stays.await_turn()
    eventually(lambda: arbiter.status()["slices"] == 1)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        b"\0" * 32,
        b"\xff" * 32,
        b"\xff" * 33,
        WANT.to_bytes(4, "little") + (99).to_bytes(4, "little") + bytes(24),
        (7).to_bytes(4, "little") + bytes(28),
    ],
    ids=["empty", "short", "zeroes", "ones", "long", "no such device", "no such kind"],
)
@pytest.mark.parametrize("greeted", [True, False])
def test_what_is_no_message_is_hung_up_on(make: Make, message: bytes, greeted: bool) -> None:
    made = make()
    tenant = Tenant(made.path).connect() if greeted else Tenant(made.path).connect(hello=message)
    if greeted:
        assert tenant.socket
        tenant.socket.send(message)
    assert tenant.hung_up_on()
    assert Tenant(made.path).connect().await_turn() < 2


def test_false_messages_harm_nobody_else(make: Make) -> None:
    """Any kind, turn and value: another slice still gets its turns, and its page never goes back."""
    liar, honest = Tenant(make(50).path).connect(), Tenant(make(50).path).connect()
    word = 0
    for kind in (WANT, BEGAN, CLOSED, RUNNING, IDLE):
        for turn in (0, 1, 2, 3, liar.grant().turn, liar.grant().turn + 1, 2**63, NEVER):
            for value in (0, 1, 10**9, NEVER):
                liar.say(kind, turn, value)
    for _ in range(3):
        honest.await_turn(after=word)
        assert honest.grant().turn > word
        word = honest.grant().turn
        honest.say(CLOSED, word)
        honest.say(WANT, word)


def test_a_flood_of_messages_does_not_slow_the_others(make: Make, arbiter: Arbiter) -> None:
    flooding, quiet = make(50), make(50)
    tenant = Tenant(quiet.path).connect()
    waits = []
    with taker(flooding, "flood", "2") as process:
        assert process.stdout
        assert process.stdout.readline() == "flooding\n"
        while process.poll() is None:
            waits.append(tenant.await_turn())
            tenant.say(CLOSED, tenant.grant().turn)
            time.sleep(0.02)
    assert statistics.median(waits) <= 0.05, waits
    assert arbiter.process
    assert arbiter.process.poll() is None


def test_more_connections_than_processes_are_refused(make: Make) -> None:
    crowded, other = make(), make()
    crowd = [Tenant(crowded.path) for _ in range(600)]
    for each in crowd:
        with suppress(OSError):
            each.connect()
    assert crowd[-1].socket is None or crowd[-1].hung_up_on()
    assert Tenant(other.path).connect().await_turn() < 2
    for each in crowd:
        each.close()
    eventually(lambda: not _refused(crowded))


def _refused(made: Slice) -> bool:
    tenant = Tenant(made.path)
    try:
        return tenant.connect().hung_up_on(0.1)
    finally:
        tenant.close()


def test_changed_limits_hold_within_200_ms(make: Make) -> None:
    first, second = make(30), make(70)
    seen = Tenant(first.path).connect()
    with taker(first, "20") as one, taker(second, "20") as other:
        let_go([one, other])
        eventually(lambda: seen.grant().share_ppm == 300_000)
        begin = time.monotonic()
        first.set_compute(Ppm(630_000))
        eventually(lambda: seen.grant().share_ppm == 473_684)  # 63 of 63 and 70
        assert time.monotonic() - begin <= 0.2 + 0.1


def test_two_devices_are_two_cards(make: Make, slice_home: Path) -> None:
    """Slices on different cards do not wait for each other; the slice of both takes part in each."""
    both = Slice.create_on(
        [DeviceLimit(vram_bytes=MIB, device=0), DeviceLimit(vram_bytes=MIB, device=1)], home=slice_home
    )
    only = make(device=1)
    eventually(lambda: (both.path / "arbiter").is_socket())
    zero, one = Tenant(both.path, 0).connect(), Tenant(both.path, 1).connect()
    other = Tenant(only.path).connect()
    zero.await_turn()
    one.await_turn()
    other.say(WANT, other.grant().turn)
    eventually(lambda: one.grant().ends_ns != NEVER)
    assert zero.grant().ends_ns == NEVER


def test_status_says_who_holds_what(make: Make, arbiter: Arbiter) -> None:
    made = make(name="seen")
    tenant = Tenant(made.path).connect()
    tenant.await_turn()
    status = arbiter.status()
    assert status["slices"] == 1
    (card,) = status["devices"]
    assert card["device"] == "0"
    assert card["holder"] == "seen"
    (entry,) = card["slices"]
    assert (entry["name"], entry["state"], entry["processes"]) == ("seen", "works", 1)


def test_it_costs_next_to_nothing_while_nothing_happens(make: Make, arbiter: Arbiter) -> None:
    tenants = [Tenant(make().path).connect() for _ in range(5)]
    tenants[0].await_turn()
    assert arbiter.process
    stat = Path(f"/proc/{arbiter.process.pid}/stat")
    begin = sum(map(int, stat.read_text().split()[13:15]))
    time.sleep(2)
    spent_ticks = sum(map(int, stat.read_text().split()[13:15])) - begin
    assert spent_ticks <= 0.02 * 2 * os.sysconf("SC_CLK_TCK") + 1
    assert all(time.monotonic_ns() - each.alive_ns < 500_000_000 for each in tenants)


def test_unsafe_homes_and_slices_are_refused(make: Make, arbiter: Arbiter, tmp_path: Path) -> None:
    """A home that others may write to, and a slice with a link in the place of a file."""
    open_home = tmp_path / "open"
    open_home.mkdir()
    open_home.chmod(0o777)
    refused = Arbiter(arbiter.program, open_home).run()
    assert refused.returncode == 1
    assert "only this user can write to" in refused.stderr
    assert Arbiter(arbiter.program, tmp_path / "missing").run().returncode == 1
    other = Slice.create(vram_bytes=MIB, home=arbiter.home / ".elsewhere")
    (other.path / "grant").rename(arbiter.home / ".grant")
    (other.path / "grant").symlink_to(arbiter.home / ".grant")
    other.path.rename(arbiter.home / "linked")
    make()
    assert not (arbiter.home / "linked/arbiter").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_only_the_tenant_may_connect(make: Make, slice_home: Path) -> None:
    """Where a slice is another user's, that user's processes connect, and a third one's do not."""
    slice_home.chmod(0o711)
    made = make(tenant_uid=OTHER_USER)
    program = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(sys.argv[1])"
    for user, allowed in ((OTHER_USER, True), (OTHER_USER - 1, False)):
        command = ["/usr/bin/python3", "-c", program, str(made.path / "arbiter")]
        done = subprocess.run(command, user=user, capture_output=True, text=True, check=False, cwd="/")
        assert (done.returncode == 0) == allowed, done.stderr
        assert allowed or "PermissionError" in done.stderr
