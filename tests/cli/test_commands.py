"""The commands beside `run`: what they show, as a table and as JSON, and how they refuse."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aliquot import __version__

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def ask(aliquot: Run, *arguments: str) -> object:
    done = aliquot(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_version(aliquot: Run) -> None:
    assert aliquot("version").stdout == aliquot("--version").stdout == f"aliquot {__version__}\n"
    assert ask(aliquot, "version") == {"version": __version__}


@pytest.mark.parametrize("command", ["run", "devices", "doctor", "bench", "simgpu", "version"])
def test_every_command_has_help(aliquot: Run, command: str) -> None:
    done = aliquot(command, "--help")
    assert done.returncode == 0
    assert f"aliquot {command}" in done.stdout


def test_shell_completion_is_offered(aliquot: Run) -> None:
    env = {**os.environ, "_ALIQUOT_COMPLETE": "source_bash"}  # as a shell asks for its script
    assert "complete" in aliquot(env=env).stdout


def test_faults_and_instances_are_completed(aliquot: Run, simgpu_env: Mapping[str, str]) -> None:
    def offered(typed: str) -> set[str]:
        line = f"aliquot simgpu {typed}"
        asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return set(aliquot(env={**simgpu_env, "_ALIQUOT_COMPLETE": "complete_bash", **asked}).stdout.split())

    assert aliquot("simgpu", "set", "a30", "t4").returncode == 0
    assert offered("fault al") == {"alloc-fail"}
    assert offered("fault ecc ") == {"single", "double"}
    assert offered("fault xid 4") == {"43", "45", "48"}
    assert offered("fault throttle --reason sw") == {"sw-thermal", "sw-power"}
    assert offered("fault lost --device ") == {"0", "1"}
    assert aliquot("simgpu", "mig", "on").returncode == 0
    assert offered("mig create 2") == {"2g.12gb", "2g.12gb+me"}
    assert offered("mig create --device 1 ") == set()


def test_cards_can_be_set_and_are_shown(aliquot: Run) -> None:
    assert aliquot("simgpu", "set", "h100:2", "t4").returncode == 0
    machine = ask(aliquot, "simgpu", "show")
    assert isinstance(machine, dict)
    assert [card["model"] for card in machine["cards"]] == ["h100", "h100", "t4"]
    assert len({card["uuid"] for card in machine["cards"]}) == 3
    devices = ask(aliquot, "devices", "--simulate")
    assert isinstance(devices, dict)
    assert [each["name"] for each in devices["devices"]] == [card["name"] for card in machine["cards"]]
    assert all(
        each["kind"] == "simulated" and each["name"].endswith("(simulated)") for each in devices["devices"]
    )
    shown = aliquot("simgpu", "show").stdout
    assert shown.count("H100") == 2
    assert shown.count("T4") == 1


def test_reset_gives_the_default_machine_back(aliquot: Run) -> None:
    aliquot("simgpu", "set", "t4:4")
    assert aliquot("simgpu", "reset").returncode == 0
    machine = ask(aliquot, "simgpu", "show")
    assert isinstance(machine, dict)
    assert all(card["busy_ns"] == 0 and card["vram_used_bytes"] == 0 for card in machine["cards"])


def test_an_unknown_model_is_refused_with_a_reason(aliquot: Run) -> None:
    done = aliquot("simgpu", "set", "h9000")
    assert done.returncode == 1
    assert "h9000" in done.stderr
    assert "h100" in aliquot("simgpu", "models").stdout


def test_processes_of_an_unused_machine(aliquot: Run) -> None:
    assert ask(aliquot, "simgpu", "processes", "--all") == {"processes": []}


def test_coverage_names_what_is_missing(aliquot: Run) -> None:
    answer = ask(aliquot, "simgpu", "coverage")
    assert isinstance(answer, dict)
    known = {entry["symbol"]: entry["implemented"] for entry in answer["symbols"]}
    assert known["cuMemAlloc_v2"] is True
    assert len(known) > 500
    missing = aliquot("simgpu", "coverage", "--missing").stdout.split()
    assert set(missing) == {symbol for symbol, implemented in known.items() if not implemented}
    assert "all" in aliquot("simgpu", "coverage").stdout


def test_doctor_finds_an_installation_whole(aliquot: Run) -> None:
    answer = ask(aliquot, "doctor")
    assert isinstance(answer, dict)
    assert all(finding["well"] for finding in answer["findings"])


def test_a_missing_native_part_is_an_error_that_says_what_to_do(aliquot: Run, tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin", "ALIQUOT_NATIVE_DIR": str(tmp_path)}
    done = aliquot("simgpu", "show", "--json", env=env)
    assert done.returncode == 4
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "native-part-missing"
    assert "ALIQUOT_NATIVE_DIR" in error["hint"]
    assert aliquot("doctor", env=env).returncode == 1


def test_the_projects_benchmarks_are_listed(aliquot: Run) -> None:
    assert "simgpu" in aliquot("bench", "--list").stdout.split()


def test_an_unknown_benchmark_is_refused(aliquot: Run) -> None:
    done = aliquot("bench", "nothing-like-it")
    assert done.returncode == 2
    assert "nothing-like-it" in done.stderr
