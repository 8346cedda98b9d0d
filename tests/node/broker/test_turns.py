"""One arbiter for several people: each connects to her own slices alone, and nobody has it to herself."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliquot import native
from aliquot.limits import Slice
from aliquot.model import percent
from aliquot.node import arbiter
from aliquot.node.broker import home as homes

from .conftest import eventually
from .people import ALICE, BOB, ROOT, Person, needs_root

pytestmark = [needs_root, pytest.mark.sanitized]

TURN_TAKER = ROOT / "tests/limiter/programs/turn_taker.py"
DESCRIPTORS = 256
"""Of the arbiter in these tests, so that they can be used up: a user then has 64 connections."""


@pytest.fixture
def people(ground: Path) -> Path:
    """The people's folder of a machine-wide home."""
    homes.prepare(ground / "home")
    return ground / "home" / "people"


@pytest.fixture
def lender(people: Path, native_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """The arbiter, with few descriptors."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))

    command = [native.program("aliquot-arbiter"), "--home", people, "--people"]
    env = {**os.environ, "ALIQUOT_LOG": "info"}
    process = subprocess.Popen(command, env=env, preexec_fn=few, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def make(people: Path, uid: int, name: str, request: int = 0) -> Slice:
    """A slice of that user, which is served."""
    home = homes.prepare_person(people.parent, uid)
    made = Slice.create(vram_bytes=1 << 20, compute=percent(request), name=name, home=home, tenant_uid=uid)
    eventually(lambda: arbiter.is_served(made))
    return made


def takers(person: Person, made: Slice, *arguments: str) -> subprocess.Popen[str]:
    return person.start(person.python, TURN_TAKER, made.path, *arguments)


def test_two_people_take_turns_by_weight(
    people: Path, lender: subprocess.Popen[str], alice: Person, bob: Person
) -> None:
    """As the arbiter charges them; a folder that appears later is found at once."""
    slices = [make(people, ALICE, "same", 30), make(people, BOB, "same", 70)]
    running = [takers(who, made, "3") for who, made in zip((alice, bob), slices, strict=True)]
    for process in running:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        out, error = process.communicate(timeout=30)
        assert process.returncode == 0, error
        assert json.loads(out)
    held = [made.usage().devices[0].held_ns for made in slices]
    assert abs(100 * held[0] / sum(held) - 30) <= 5, held
    status = subprocess.run(
        [native.program("aliquot-arbiter"), "--home", people, "--status"], capture_output=True, check=True
    )
    (card,) = json.loads(status.stdout)["devices"]
    assert {each["name"] for each in card["slices"]} == {f"{ALICE}/same", f"{BOB}/same"}


CONNECT = """
import os, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
held = []
for folder in sys.argv[2:]:
    for _ in range(int(sys.argv[1])):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.settimeout(5)
        try:
            made.connect(folder + "/arbiter")
        except OSError:
            continue
        held.append(made)
time.sleep(0.5)
alive = 0
for made in held:
    made.setblocking(False)
    try:
        made.recv(1)
    except BlockingIOError:
        alive += 1
    except OSError:
        pass
print(alive, flush=True)
sys.stdin.readline()
"""


def test_one_person_does_not_use_up_the_arbiters_descriptors(
    people: Path, lender: subprocess.Popen[str], alice: Person, bob: Person
) -> None:
    """Not with three slices, either; and when she has gone, all is as it was."""
    his = [make(people, BOB, f"his-{number}") for number in range(3)]
    hers = make(people, ALICE, "hers")
    crowd = bob.start(bob.python, "-c", CONNECT, "100", *(each.path for each in his))
    try:
        assert crowd.stdout
        assert int(crowd.stdout.readline()) == 64
        assert alice.answers(CONNECT, "10", hers.path, stdin=subprocess.DEVNULL) == 10
        assert bob.answers(CONNECT, "10", his[0].path, stdin=subprocess.DEVNULL) == 0
    finally:
        crowd.communicate("\n", timeout=30)
    eventually(lambda: bob.answers(CONNECT, "10", his[0].path, stdin=subprocess.DEVNULL) == 10)
    assert lender.poll() is None


AWAIT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from turn_taker import CLOSED, Tenant
tenant = Tenant(Path(sys.argv[2])).connect()
waits = []
for _ in range(40):
    waits.append(tenant.await_turn())
    tenant.say(CLOSED, tenant.grant().turn)
    time.sleep(0.02)
print(waits)
"""


def test_floods_on_many_slices_of_one_person_do_not_slow_another(
    people: Path, lender: subprocess.Popen[str], alice: Person, bob: Person
) -> None:
    hers = make(people, ALICE, "hers", 50)
    floods = [takers(bob, make(people, BOB, f"his-{number}"), "flood", "6") for number in range(4)]
    try:
        for each in floods:
            assert each.stdout
            assert each.stdout.readline() == "flooding\n"
        waits = alice.answers(AWAIT, TURN_TAKER.parent, hers.path)
        assert statistics.median(waits) <= 0.1, waits
    finally:
        for each in floods:
            each.kill()
            each.communicate()
    assert lender.poll() is None


def test_only_roots_folders_with_a_uid_for_a_name_are_served(
    people: Path, lender: subprocess.Popen[str]
) -> None:
    """Not a link, not somebody else's, not one that others can write to, no other name."""
    good = make(people, ALICE, "good")
    staging = people.parent / "staging"
    for kind, name in {"link": "1001", "theirs": "1002", "open": "1003", "named": "carol"}.items():
        Slice.create(vram_bytes=1 << 20, name=f"bad-{kind}", home=staging / name)
    Slice.create(vram_bytes=1 << 20, name="bad-beside", home=staging).path.rename(people / "bad-beside")
    os.chown(staging / "1002", BOB, BOB)
    (staging / "1003").chmod(0o777)
    for name in ("1002", "1003", "carol"):
        (staging / name).rename(people / name)
    (people / "1001").symlink_to(staging / "1001")
    time.sleep(2.5)  # more than the two seconds between two looks at all of it
    make(people, ALICE, "later")
    bad = [folder for folder in people.parent.rglob("bad-*") if (folder / "arbiter").exists()]
    assert bad == []
    assert arbiter.is_served(good)
