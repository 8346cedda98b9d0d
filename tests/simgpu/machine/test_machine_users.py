"""Several users of one machine: a folder of root's that a group shares, and every other one refused."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from .conftest import Probe

GROUP = 54321
ALICE, BOB = 12345, 65534
GIB = 1 << 30

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs to become other users")

Start = Callable[..., Probe]


@pytest.fixture
def shared_home(simgpu_home: Path) -> Path:
    os.chown(simgpu_home, 0, GROUP)
    simgpu_home.chmod(0o2770)
    return simgpu_home


@pytest.fixture
def start(native_build: Path, machine_env: Mapping[str, str]) -> Iterator[Start]:
    """Starts a probe as a user, with a mask that takes everything from others."""
    started: list[Probe] = []
    program = native_build / "native/simgpu/machine/probe/aliquot-machine-probe"

    def run(uid: int, *groups: int) -> Probe:
        who = ["setpriv", f"--reuid={uid}", f"--regid={uid}"]
        who += [f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"]
        command = ["sh", "-c", 'umask 077; exec "$@"', "sh", *who, str(program)]
        started.append(Probe(command, dict(machine_env)))
        return started[-1]

    # The machine keeps an account of host memory for each user.
    accounts = [Path(f"/dev/shm/aliquot-simgpu-{uid}") for uid in (ALICE, BOB)]
    new = [each for each in accounts if not each.exists()]
    yield run
    for each in started:
        each.kill()
    for folder in new:
        shutil.rmtree(folder, ignore_errors=True)


def test_two_users_have_the_same_cards(shared_home: Path, start: Start, show: Callable[..., object]) -> None:
    """Memory and turns are counted over both, whoever made the files; the record has everything."""
    alice, bob = start(ALICE, GROUP), start(BOB, GROUP)
    assert (alice.greeting, bob.greeting) == ("ready", "ready")
    assert alice.ask("reserve", 0, GIB) == "ok"
    assert bob.used() == GIB
    for each in (bob, alice):
        each.send("kernels", 0, 300, 50)
    for each in (alice, bob):
        each.answer()
    for each in (alice, bob):
        each.end()
    record = show("record", "--card", "0")
    departed = show("processes", "--json")["departed"]  # type: ignore[index]
    charged = {each["pid"]: each["busy_ns"] for each in departed}
    assert len(charged) == 2
    found = dict.fromkeys(charged, 0)
    for interval in record:  # type: ignore[attr-defined]
        found[interval["pid"]] += interval["busy_ns"]
    assert found == charged
    modes = {stat.S_IMODE(each.stat().st_mode) for each in shared_home.iterdir()}
    assert modes == {0o660}
    assert {each.stat().st_gid for each in shared_home.iterdir()} == {GROUP}
    assert len({each.stat().st_uid for each in shared_home.iterdir()} - {0}) >= 1


def test_whoever_is_not_in_the_group_gets_nothing(shared_home: Path, start: Start) -> None:
    assert start(ALICE, GROUP).greeting == "ready"
    assert "a group that this user is not in" in refusal(start, BOB)


def refusal(start: Start, uid: int, *groups: int) -> str:
    """What the machine says to a user who does not get it."""
    probe = start(uid, *groups)
    assert probe.greeting != "ready"
    return probe.greeting


@pytest.mark.parametrize("mode", [0o2777, 0o770, 0o2775, 0o755, 0o777, 0o3770])
def test_any_other_mode_is_refused(simgpu_home: Path, start: Start, mode: int) -> None:
    os.chown(simgpu_home, 0, GROUP)
    simgpu_home.chmod(mode)
    assert "cannot be used" in refusal(start, ALICE, GROUP)


def test_a_folder_that_another_user_shares_is_refused(simgpu_home: Path, start: Start) -> None:
    """Its owner could make every file anew."""
    os.chown(simgpu_home, BOB, GROUP)
    simgpu_home.chmod(0o2770)
    assert "belongs to another user" in refusal(start, ALICE, GROUP)
    assert start(BOB, GROUP).greeting == "ready"


def test_a_file_of_another_group_is_refused(shared_home: Path, start: Start) -> None:
    assert start(BOB, GROUP).greeting == "ready"
    (region,) = [each for each in shared_home.iterdir() if len(each.name) == 24]
    os.chown(region, BOB, BOB)
    region.chmod(0o666)
    assert "belongs to another user" in refusal(start, ALICE, GROUP)


def test_a_home_for_one_stays_so(simgpu_home: Path, start: Start, tool: Callable[..., object]) -> None:
    done = tool("show")
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0
    assert {stat.S_IMODE(each.stat().st_mode) for each in simgpu_home.iterdir()} == {0o600}
    assert "cannot be used" in refusal(start, ALICE, GROUP)
