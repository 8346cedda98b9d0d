"""`aliquot guard` as a person calls it. What it finds is tested in tests/limiter/test_guard.py."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

PROBE = str(Path(__file__).with_name("probe.py"))
QUICK = "interval_ms = 50\ngrace_ms = 300\nkill_after_ms = 300\n"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """A file of rules that hurry, for which no slice of this machine's counts."""
    file = tmp_path / "rules.toml"
    file.write_text(f'{QUICK}homes = ["{tmp_path / "slices"}"]\n')
    return str(file)


def test_nobody_is_found_on_an_idle_card(aliquot: Run, rules: str) -> None:
    done = aliquot("guard", "--simulate", "--once", "--rules", rules)
    assert done.returncode == 0, done.stderr
    assert "nobody is on a card without a slice" in done.stderr
    assert "guarding 0 (" in done.stdout


def test_somebody_who_is_found_is_a_line_and_a_status(
    aliquot: Run, rules: str, simgpu_env: Mapping[str, str]
) -> None:
    command = [sys.executable, PROBE, "alloc=64", "sleep=60"]
    with subprocess.Popen(command, env=dict(simgpu_env), stdout=subprocess.PIPE, text=True) as stranger:
        try:
            assert stranger.stdout
            stranger.stdout.readline()
            done = aliquot("guard", "--simulate", "--once", "--rules", rules)
            assert done.returncode == 3
            (line,) = [each for each in done.stdout.splitlines() if "found" in each and "pid" in each]
            assert "found stranger" in line
            assert f"(pid {stranger.pid}, uid " in line
            assert "belongs to no slice" in line
            other = json.loads(aliquot("devices", "--simulate", "--json").stdout)["devices"][0]["uuid"]
            with Path(rules).open("a") as file:
                file.write(f'action = "stop"\n[[device]]\nuuid = "{other}"\naction = "report"\n')
            spared = aliquot("guard", "--simulate", "--once", "--rules", rules, "--json", "--device", "0")
            events = [json.loads(each) for each in spared.stdout.splitlines()]
            assert [each["event"] for each in events] == ["guarding", "found"]
            assert events[1]["action"] == "report"
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rules", "/nonexistent/rules.toml"], "cannot be read"),
        (["--device", "7"], "there is no device 7"),
    ],
)
def test_what_cannot_be_is_said(aliquot: Run, arguments: list[str], said: str) -> None:
    done = aliquot("guard", "--simulate", "--once", "--json", *arguments)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "invalid-value"
    assert said in error["reason"]


def test_wrong_rules_are_said(aliquot: Run, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("grace = 3\n")
    done = aliquot("guard", "--simulate", "--once", "--rules", str(file))
    assert done.returncode == 2
    assert "'grace' is not a rule of the guard" in done.stderr
    assert "grace_ms" in done.stderr  # the hint lists what there is


def test_a_log_that_cannot_be_written_is_said(aliquot: Run, rules: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for log in (tmp_path / "none" / "log", link):
        done = aliquot("guard", "--simulate", "--once", "--rules", rules, "--log", str(log))
        assert done.returncode == 1
        assert "cannot be written" in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_it_does_not_guard_from_within_a_slice(
    aliquot: Run, rules: str, simgpu_env: Mapping[str, str]
) -> None:
    env = {**simgpu_env, "ALIQUOT_SLICE": "/dev/shm/somewhere"}
    done = aliquot("guard", "--simulate", "--once", "--rules", rules, "--json", env=env)
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["code"] == "guard-impossible"


def test_policies_complete(aliquot: Run, simgpu_env: Mapping[str, str]) -> None:
    asked = {"_ALIQUOT_COMPLETE": "complete_bash", "COMP_WORDS": "aliquot guard --policy ", "COMP_CWORD": "3"}
    assert aliquot(env={**simgpu_env, **asked}).stdout.split() == ["report", "stop"]
