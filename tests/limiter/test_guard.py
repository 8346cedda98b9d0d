"""Who goes past the limiter is found by the driver's own figures, and by policy stopped; the honest are not.

Each test runs the guard as a person does, beside real processes on the simulated card.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter
from aliquot.node import arbiter

from . import sharing
from .conftest import MIB, PROGRAMS, Limited
from .guarding import PROMISE_S, guarding, program

STRANGER = "me = Trespasser(); me.take(64); stay()"


def bare(on_card: Limited, machine: Mapping[str, str]) -> dict[str, str]:
    """What `env -u LD_PRELOAD` leaves of a slice's environment."""
    env = {name: value for name, value in on_card.env.items() if name != "LD_PRELOAD"}
    return {**env, "LD_LIBRARY_PATH": machine["LD_LIBRARY_PATH"]}


def test_who_drops_the_limiter_is_found_and_stopped_within_five_seconds(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    with guarding(machine, slice_home, "--policy", "stop", hurried=False) as guard:
        begin = time.monotonic()
        with program(bare(on_card, machine), STRANGER) as stranger, program(on_card.env, STRANGER) as honest:
            found_at, event = guard.wait_for(stranger.pid)
            assert event["kind"] == "stranger"
            assert event["vram_bytes"] >= 64 * MIB
            assert event["action"] == "stop"
            stopped_at, _ = guard.wait_for(stranger.pid, "stopped")
            assert stranger.wait(10) == -signal.SIGTERM
            assert found_at - begin < PROMISE_S
            assert stopped_at - begin < PROMISE_S
            time.sleep(1)
            assert honest.poll() is None
        assert not guard.of(honest.pid)
        assert guard.end() == 0


def test_by_default_it_is_only_reported(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    with guarding(machine, slice_home) as guard, program(bare(on_card, machine), STRANGER) as stranger:
        guard.wait_for(stranger.pid)
        time.sleep(1)
        assert stranger.poll() is None
        assert guard.said == ["found"]
        stranger.kill()
        guard.wait_for(stranger.pid, "gone")


def test_who_does_not_listen_is_killed(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + STRANGER
    with guarding(machine, slice_home, "--policy", "stop", hurried=False) as guard:
        begin = time.monotonic()
        with program(bare(on_card, machine), deaf) as stranger:
            killed_at, _ = guard.wait_for(stranger.pid, "killed")
            guard.wait_for(stranger.pid, "stopped")
            assert stranger.wait(10) == -signal.SIGKILL
            assert killed_at - begin < PROMISE_S


def test_who_is_stopped_by_a_signal_does_not_escape(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    with (
        guarding(machine, slice_home, "--policy", "stop") as guard,
        program(bare(on_card, machine), STRANGER) as stranger,
    ):
        stranger.send_signal(signal.SIGSTOP)
        guard.wait_for(stranger.pid, "stopped")
        assert stranger.wait(10) in (-signal.SIGTERM, -signal.SIGKILL)


def test_once_ends_with_what_it_found(on_card: Limited, machine: Mapping[str, str], slice_home: Path) -> None:
    with program(on_card.env, STRANGER), guarding(machine, slice_home, "--once") as guard:
        assert guard.process.wait(30) == 0
    with program(bare(on_card, machine), STRANGER) as stranger:
        with guarding(machine, slice_home, "--once") as guard:
            assert guard.process.wait(30) == 3
            guard._reader.join(10)
            assert guard.of(stranger.pid)
        with guarding(machine, slice_home, "--once", "--policy", "stop") as guard:
            assert guard.process.wait(30) == 3
        assert stranger.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("deed", "kind"),
    [
        ("account.say_held(account.own_place(), 0)", "unaccounted"),
        ("account.leave(account.own_place())", "stranger"),
        ("account.words[:8] = bytes(8)", "stranger"),
        ("account.say_held(account.own_place(), 0); assert me.take(512) == 0", "over-limit"),
    ],
)
def test_a_tenant_that_scribbles_over_its_account_is_found(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path, deed: str, kind: str
) -> None:
    text = f"""
        me = Trespasser()
        assert me.take(48) == 0
        account = Account(os.environ["ALIQUOT_SLICE"])
        {deed}
        stay()
    """
    with guarding(machine, slice_home, "--policy", "stop") as guard, program(on_card.env, text) as liar:
        guard.wait_for(liar.pid, kind=kind)
        guard.wait_for(liar.pid, "stopped")


@pytest.mark.parametrize(("said", "kind"), [(0, "unaccounted"), (1 << 40, "over-limit")])
def test_who_enters_himself_without_the_limiter_is_found(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path, said: int, kind: str
) -> None:
    text = """
        me = Trespasser()
        assert me.take(1024) == 0
        Account(os.environ["ALIQUOT_SLICE"]).enter(int(sys.argv[1]))
        stay()
    """
    env = bare(on_card, machine)
    with guarding(machine, slice_home) as guard, program(env, text, str(said)) as liar:
        _, event = guard.wait_for(liar.pid, kind=kind)
        assert event["slice"] == str(on_card.slice.path)
        assert not guard.of(liar.pid, kind="stranger")


@pytest.mark.slow
def test_who_works_out_of_turn_is_reported_and_stopped_only_by_a_rule(
    simgpu_env: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """It holds no more than it says, and never asks the arbiter for the card."""
    machine = sharing.working_machine(simgpu_env)
    limited = sharing.make_slice(machine, native_dir, slice_home)
    arbiter.Watch(limited.slice).ensure()
    env = {name: value for name, value in limited.env.items() if name != "LD_PRELOAD"}
    env["LD_LIBRARY_PATH"] = simgpu_env["LD_LIBRARY_PATH"]
    text = """
        me = Trespasser()
        Account(os.environ["ALIQUOT_SLICE"]).enter(1 << 30)
        say("here")
        me.work(30)
    """
    with guarding(machine, slice_home, "--policy", "stop", hurried=False) as guard:
        time.sleep(4)  # so that it knows how the slice used the card before
        begin = time.monotonic()
        with program(env, text) as thief:
            at, event = guard.wait_for(thief.pid)
            assert event["kind"] == "out-of-turn"
            assert event["has"] > 25
            assert event["may"] == 0
            assert event["action"] == "report"
            assert at - begin < PROMISE_S
            time.sleep(1)
            assert thief.poll() is None
    with (
        program(env, text) as thief,
        guarding(machine, slice_home, "--policy", "stop", rules='[kinds]\nout-of-turn = "stop"') as guard,
    ):
        guard.wait_for(thief.pid, "stopped")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_honest_are_never_accused(
    small_contexts: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """Starts, ends, kills, memory that comes and goes, work in turn, limits that change: 25 s of it."""
    machine = {**small_contexts, "PYTHONPATH": str(PROGRAMS)}
    driver, nvml = (native_dir / "simgpu" / name for name in ("libcuda.so.1", "libnvidia-ml.so.1"))
    dice = random.Random(20261123)
    text = """
        import random
        say("here")
        me = Trespasser()  # it ends here where its slice has no room for it
        dice, held = random.Random(int(sys.argv[1])), []
        end = time.monotonic() + dice.uniform(0.1, 3)
        while time.monotonic() < end:
            memory = c_uint64()
            size = dice.choice((1, 16, 200))
            if me.cuda.cuMemAlloc_v2(byref(memory), c_size_t(size * MIB)) == 0:
                held.append(memory)
            while len(held) > dice.randrange(4):
                ok(me.cuda.cuMemFree_v2(held.pop(dice.randrange(len(held)))))
            if dice.random() < 0.02:
                me.work(dice.uniform(0, 0.5))
    """
    base = {name: value for name, value in machine.items() if name != "LD_LIBRARY_PATH"}
    with guarding(machine, slice_home, hurried=False) as guard, ExitStack() as stack:
        slices = [
            Slice.create(vram_bytes=1024 * MIB, driver=driver, nvml=nvml, home=slice_home) for _ in range(2)
        ]
        for each in slices:
            arbiter.Watch(each).ensure()
        running: list[subprocess.Popen[str]] = []
        begun, end = 0, time.monotonic() + 25
        while time.monotonic() < end or begun < 20:  # a busy machine takes its time
            running = [each for each in running if each.poll() is None]
            if len(running) < 6:
                env = limiter.environment(dice.choice(slices), base)
                running.append(stack.enter_context(program(env, text, str(dice.random())[2:8])))
                begun += 1
            if dice.random() < 0.3:
                dice.choice(running).kill()
            if dice.random() < 0.1:
                dice.choice(slices).set_vram_limit(dice.choice((256, 512, 1024)) * MIB)
            time.sleep(0.05)
        assert guard.said == []
        assert guard.end() == 0


def test_a_process_of_a_slice_that_was_removed_belongs_to_none(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    with guarding(machine, slice_home) as guard, program(on_card.env, STRANGER) as left:
        on_card.slice.remove()
        guard.wait_for(left.pid, kind="stranger")


def test_slices_of_another_version_are_left_alone(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    """After an update, slices that were made before it still have programs."""
    with program(on_card.env, STRANGER) as older:
        limits = on_card.slice.path / "limits"
        limits.chmod(0o644)
        with limits.open("r+b") as file:
            file.seek(8)
            file.write(b"\x63")
        with guarding(machine, slice_home, "--policy", "stop") as guard:
            time.sleep(1.5)
            assert guard.said == ["slice-unreadable"]
            assert older.poll() is None


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_a_process_of_another_user_is_found(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    """It came on to the card as root, as one that a service started; it cannot hide in root's slice."""
    text = """
        me = Trespasser()
        os.setresuid(65534, 65534, 65534)
        stay()
    """
    claims = text.replace("os.setres", "Account(os.environ['ALIQUOT_SLICE']).enter(1 << 40); os.setres")
    env = bare(on_card, machine)
    with (
        guarding(machine, slice_home, "--policy", "stop") as guard,
        program(env, text) as other,
        program(env, claims) as hidden,
    ):
        for each in (other, hidden):
            _, event = guard.wait_for(each.pid, kind="stranger")
            assert event["uid"] == 65534
            guard.wait_for(each.pid, "stopped")
    with (
        guarding(machine, slice_home, "--policy", "stop", rules="[[exempt]]\nuid = 65534") as guard,
        program(env, text) as other,
    ):
        time.sleep(1.5)
        assert other.poll() is None
        assert not guard.said


def test_an_exempt_program_is_the_file_not_its_name(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path
) -> None:
    running = Path(sys.executable).resolve()
    rules = f'[[exempt]]\nprogram = "{running}"\n'
    with (
        guarding(machine, slice_home, "--policy", "stop", rules=rules) as guard,
        program(bare(on_card, machine), STRANGER) as allowed,
    ):
        time.sleep(1.5)
        assert allowed.poll() is None
        assert not guard.said
    renamed = "import ctypes; ctypes.CDLL(None).prctl(15, b'Xorg', 0, 0, 0);" + STRANGER  # PR_SET_NAME
    with guarding(machine, slice_home) as guard, program(bare(on_card, machine), renamed) as stranger:
        _, event = guard.wait_for(stranger.pid)
        assert event["command"] == "Xorg"


def test_a_log_is_kept_for_its_owner_alone(
    on_card: Limited, machine: Mapping[str, str], slice_home: Path, tmp_path: Path
) -> None:
    log = tmp_path / "guard.jsonl"
    with (
        program(bare(on_card, machine), STRANGER) as stranger,
        guarding(machine, slice_home, "--log", str(log)) as guard,
    ):
        guard.wait_for(stranger.pid)
    assert f'"pid": {stranger.pid}' in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
