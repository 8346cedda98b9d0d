"""The guard where several people share a card: it finds strangers of any, and nobody has others accused."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aliquot.limits import Slice

from .conftest import Service, eventually
from .people import ALICE, BOB, Person, needs_root
from .test_people import STAY, running

pytestmark = needs_root

RULES = "interval_ms = 100\ngrace_ms = 800\nkill_after_ms = 300\n"
CLAIM = """
import json, mmap, os, struct, sys
from aliquot.limits.layout import load
pid, start, namespace = (int(each) for each in sys.argv[1:])
shape = load().structures
descriptor = os.open(os.environ["ALIQUOT_SLICE"] + "/account", os.O_RDWR)
words = mmap.mmap(descriptor, shape["Account"].size)
def put(at, value):
    struct.pack_into("<Q", words, at, value)
account = shape["Account"]
put(account.offset("pid_namespaces"), namespace)
put(account.offset("slots_used"), 1)
put(account.offset("processes") + shape["Process"].offset("owner"), pid | 1 << 22 | start << 28)
print(json.dumps([]), flush=True)
sys.stdin.readline()
"""


@contextmanager
def guarding(root: Person, service: Service, folder: Path, *options: str) -> Iterator[list[dict[str, Any]]]:
    """Root's guard with the broker's cards and its slices; what it says so far."""
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    command = [root.python, "-m", "aliquot", "guard", "--simulate", "--json", "--rules", rules, *options]
    events: list[dict[str, Any]] = []
    with root.start(*command, env=service.env) as process:

        def follow() -> None:
            assert process.stdout
            for line in process.stdout:
                events.append(json.loads(line))

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            eventually(lambda: events or process.poll() is not None, 30)
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            yield events
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
            follower.join(10)


@contextmanager
def trespassing(person: Person, service: Service, native_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A program of hers on the broker's card, without the limiter."""
    simulated: Mapping[str, str] = {
        name: value for name, value in service.env.items() if name.startswith("ALIQUOT_SIMGPU")
    }
    env = {**person.env, **simulated, "LD_LIBRARY_PATH": str(native_dir / "simgpu")}
    process = person.start(person.python, "-c", STAY, "67108864", env=env)
    try:
        assert process.stdout
        assert json.loads(process.stdout.readline()) == [0, 0, 0]
        yield process
    finally:
        process.kill()
        process.communicate()


def found(events: list[dict[str, Any]]) -> set[int]:
    return {each["pid"] for each in events if each["event"] == "found"}


def test_a_stranger_is_stopped_and_the_neighbour_is_not(
    broker: Service, alice: Person, bob: Person, root: Person, native_dir: Path, ground: Path
) -> None:
    with (
        guarding(root, broker, ground, "--policy", "stop") as events,
        running(alice, "--vram", "2Gi") as honest,
        trespassing(bob, broker, native_dir) as stranger,
    ):
        assert stranger.wait(20) == -signal.SIGTERM
        eventually(lambda: any(each["event"] == "stopped" for each in events))
        time.sleep(1)
        assert found(events) == {stranger.pid}
        assert {each["uid"] for each in events if each["event"] == "found"} == {BOB}
        assert honest.poll() is None


def test_nobody_has_the_neighbour_accused_by_naming_her(
    broker: Service, alice: Person, bob: Person, root: Person, ground: Path
) -> None:
    """Bob's account says that Alice's process is his and holds nothing."""
    with running(alice, "--vram", "2Gi"), guarding(root, broker, ground, "--policy", "stop") as events:
        (slice_,) = broker.home.glob(f"people/{ALICE}/*")
        (member,) = Slice(slice_).standing().members
        numbers = [str(each) for each in (member.pid, member.start_ticks, member.pid_namespace)]
        command = ["run", "-q", "--vram", "1Gi", "--", bob.python, "-c", CLAIM, *numbers]
        liar = bob.start(bob.python, "-m", "aliquot", *command)
        try:
            assert liar.stdout
            assert liar.stdout.readline() == "[]\n"
            time.sleep(2.5)
            assert found(events) == set()
        finally:
            liar.communicate("\n", timeout=30)


@pytest.mark.parametrize("alive", [True, False])
def test_it_guards_whether_or_not_the_broker_lives(
    broker: Service, bob: Person, root: Person, native_dir: Path, ground: Path, alive: bool
) -> None:
    if not alive:
        broker.kill()
    with guarding(root, broker, ground) as events, trespassing(bob, broker, native_dir) as stranger:
        eventually(lambda: found(events) == {stranger.pid}, 20)
