"""`aliquot slices` and `aliquot resize` on slices of this user, made by the tests and removed by them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.model import percent
from aliquot.node import arbiter

GIB = 2**30
PROGRAMS = Path(__file__).parents[1] / "limiter" / "programs"
PROBE = str(Path(__file__).with_name("probe.py"))
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def made() -> Iterator[Slice]:
    """A slice of a card that this machine has not."""
    name = f"test-{secrets.token_hex(4)}"
    uuid = "GPU-8f2c9d1e-0a1b-2c3d-4e5f-60718293a4b5"
    with Slice.create(vram_bytes=GIB, device=uuid, compute=percent(30), name=name) as slice_:
        yield slice_


def shown(aliquot: Run, name: str) -> dict:
    done = aliquot("slices", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = [each for each in json.loads(done.stdout)["slices"] if each["name"] == name]
    return found


def test_a_slice_is_shown_in_the_table_and_in_json(aliquot: Run, made: Slice) -> None:
    (row,) = [line for line in aliquot("slices").stdout.splitlines() if line.startswith(made.name)]
    assert row.split()[1:3] == ["GPU-8f2c9d1e", "medium"]
    assert "1.00 GiB" in row
    assert "30%" in row
    found = shown(aliquot, made.name)
    assert found["devices"][0]["limit"]["compute_request_ppm"] == 300_000
    assert found["processes"] == []
    # Other slices of this user may have one, which serves this one, too.
    assert found["arbiter"]["alive"] is arbiter.is_served(made)


def test_resize_says_what_was_and_what_is(aliquot: Run, made: Slice) -> None:
    done = aliquot("resize", made.name, "--vram", "2Gi", "--compute", "50%", "--qos", "high", "--hard")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{made.name}: VRAM 1.00 GiB -> 2.00 GiB",
        f"{made.name}: compute 30% -> 50%",
        f"{made.name}: at most what is free -> 50%",
        f"{made.name}: QoS medium -> high",
    ]
    limit = made.limits()[0]
    assert (limit.vram_bytes, limit.compute_request_ppm, limit.compute_limit_ppm) == (
        2 * GIB,
        500_000,
        500_000,
    )
    assert made.qos().preempts is False
    assert made.qos().rank == 2


def test_a_hard_slice_stays_hard_until_told_otherwise(aliquot: Run, made: Slice) -> None:
    made.set_compute(percent(30), percent(30))
    aliquot("resize", made.name, "--compute", "20%")
    assert made.limits()[0].compute_limit_ppm == 200_000
    done = aliquot("resize", made.name, "--no-hard", "--json")
    assert json.loads(done.stdout) == {
        "slice": made.name,
        "changes": [{"what": "at most", "old": "20%", "new": "what is free"}],
    }
    assert made.limits()[0].compute_limit_ppm == 0


def test_what_is_as_it_was_is_said(aliquot: Run, made: Slice) -> None:
    assert aliquot("resize", made.name, "--vram", "1Gi").stdout == f"{made.name}: as it was\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], "invalid-value"),
        (["--vram", "0"], "invalid-value"),
        (["--vram", "many"], "invalid-value"),
        (["--compute", "0.3"], "invalid-value"),
        (["--compute", "30%", "--tflops", "5"], "invalid-value"),
        (["--tflops", "20"], "invalid-value"),  # of a card that is not here
        (["--qos", "gold"], "invalid-value"),
        (["--vram", "2Gi", "--device", "1"], "invalid-value"),
    ],
)
def test_nothing_changes_where_something_is_wrong(
    aliquot: Run, made: Slice, arguments: list[str], code: str
) -> None:
    before = (made.path / "limits").read_bytes()
    done = aliquot("resize", made.name, "--json", *arguments)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == code
    assert (made.path / "limits").read_bytes() == before


def test_a_slice_that_is_not_there(aliquot: Run) -> None:
    for command in (("resize", "nobodys", "--vram", "1Gi"), ("slices", "remove", "nobodys")):
        done = aliquot(*command)
        assert done.returncode == 1
        assert "there is no slice nobodys" in done.stderr


def test_a_slice_is_removed_unless_programs_use_it(
    aliquot: Run, made: Slice, simgpu_env: Mapping[str, str]
) -> None:
    command = [
        sys.executable,
        "-m",
        "aliquot",
        "run",
        "-q",
        "--simulate",
        "--vram",
        "1Gi",
        "--compute",
        "25%",
    ]
    command += ["--qos", "low", "--", sys.executable, PROBE, "alloc=64", "sleep=30"]
    with subprocess.Popen(command, env=dict(simgpu_env), stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid = json.loads(program.stdout.readline())["pid"]
        program.stdout.readline()
        try:
            (running,) = [each for each in Slice.all() if pid in [of.pid for of in each.usage().processes]]
            found = shown(aliquot, running.name)
            assert found["qos"] == "low"
            assert found["devices"][0]["vram_used_bytes"] >= 64 << 20
            assert found["devices"][0]["limit"]["compute_request_ppm"] == 250_000
            done = aliquot("slices", "remove", running.name)
            assert done.returncode == 1
            assert "--force" in done.stderr
            assert aliquot("resize", running.name, "--tflops", "100").returncode == 0
            assert 0 < running.limits()[0].compute_request_ppm < 250_000
        finally:
            program.terminate()
    assert aliquot("slices", "remove", made.name).returncode == 0
    assert not made.path.exists()


def test_names_complete(aliquot: Run, made: Slice, simgpu_env: Mapping[str, str]) -> None:
    asked = {
        "_ALIQUOT_COMPLETE": "complete_bash",
        "COMP_WORDS": f"aliquot resize {made.name[:6]}",
        "COMP_CWORD": "2",
    }
    done = aliquot(env={**simgpu_env, **asked})
    assert made.name in done.stdout.split()


WORKS = """
import os
from work_calls import *
w = Worker(); say(os.getpid()); w.nap_for(60, 1_000_000)
"""


@contextmanager
def at_work(env: Mapping[str, str]) -> Iterator[int]:
    """A program on half of the card that works for as long as this lasts; its pid."""
    command = [sys.executable, "-m", "aliquot", "run", "--simulate", "--quiet", "--vram", "2Gi"]
    command += ["--compute", "50%", "--", sys.executable, "-c", WORKS]
    with subprocess.Popen(command, env=dict(env), stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout
        pid = int(runner.stdout.readline())
        yield pid
        os.kill(pid, signal.SIGKILL)


def test_it_is_seen_why_a_program_is_slow(aliquot: Run, simgpu_env: Mapping[str, str]) -> None:
    """Two that want the whole card: each has waited for about half of the time, and the figures say so."""
    env = {**simgpu_env, "PYTHONPATH": str(PROGRAMS)}
    del env["LD_LIBRARY_PATH"]
    with at_work(env) as one, at_work(env) as other:
        time.sleep(1.5)
        listed = json.loads(aliquot("slices", "--json").stdout)["slices"]
        table = aliquot("slices").stdout.splitlines()
    mine = {
        pid: each for each in listed for pid in (one, other) if pid in [p["pid"] for p in each["processes"]]
    }
    assert set(mine) == {one, other}
    (column,) = [line for line in table if "throttled" in line]
    for found in mine.values():
        (device,) = found["devices"]
        assert device["share_ppm"] == 500_000
        assert device["waited_ns"] > 200_000_000
        assert device["held_back_ns"] > 200_000_000
        assert found["processes"][0]["held_back_ns"] == [device["held_back_ns"]]
        assert 15 <= device["waited_percent"] <= 85
        (row,) = [line for line in table if line.startswith(found["name"])]
        assert row[column.index("throttled") :].split()[0] != "0"


def test_a_slice_is_made_joined_and_stays(aliquot: Run, simgpu_env: Mapping[str, str]) -> None:
    name = f"test-{secrets.token_hex(4)}"
    made = aliquot("slices", "create", name, "--simulate", "--vram", "1Gi", "--compute", "25%", "--hard")
    try:
        assert (made.returncode, made.stdout) == (0, f"{name}\n"), made.stderr
        again = aliquot("slices", "create", name, "--simulate", "--vram", "1Gi")
        assert "already" in again.stderr
        probe = (sys.executable, PROBE, "alloc=64", "alloc=2000")
        joined = aliquot("run", "-q", "--simulate", "--slice", name, "--", *probe)
        assert joined.returncode == 0, joined.stderr
        assert shown(aliquot, name)["devices"][0]["vram_peak_bytes"] >= 64 << 20
        both = aliquot("run", "--simulate", "--slice", name, "--vram", "1Gi", "--", "true")
        assert both.returncode == 2
        assert "aliquot resize" in both.stderr
        neither = aliquot("run", "--simulate", "--", "true")
        assert neither.returncode == 2
        assert "--slice" in neither.stderr
        stranger = aliquot("slices", "create", "x", "--simulate", "--vram", "1Gi", "--for", "nobody-at-all")
        assert stranger.returncode == 2
    finally:
        assert aliquot("slices", "remove", name).returncode == 0
