"""`aliquot simgpu mig|mps|timeslice|compute-mode|record|fault|events`: what people and scripts are told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def card(aliquot: Run) -> Run:
    """`aliquot simgpu`, on a machine with one card that can be divided and one that cannot."""
    assert aliquot("simgpu", "set", "h100:1", "t4:1").returncode == 0
    return lambda *arguments: aliquot("simgpu", *arguments)


def ask(card: Run, *arguments: str) -> Any:
    done = card(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(card: Run, *arguments: str) -> str:
    done = card(*arguments)
    assert done.returncode != 0
    return done.stderr


def test_a_card_is_divided_and_put_together(card: Run) -> None:
    assert card("mig", "on").returncode == 0
    uuids = ask(card, "mig", "create", "1g.10gb", "9")["uuids"]
    devices = ask(card, "mig", "list")["devices"]
    assert {device["uuid"] for device in devices} == set(uuids)
    assert {device["name"] for device in devices} == {"1g.10gb", "3g.40gb"}
    shown = card("mig", "list").stdout
    assert all(uuid in shown for uuid in uuids)
    profiles = {each["name"]: each for each in ask(card, "mig", "profiles")["profiles"]}
    assert profiles["7g.80gb"]["remaining"] == 0
    assert (profiles["3g.40gb"]["remaining"], profiles["2g.20gb"]["remaining"]) == (0, 1)
    assert ask(card, "show")["cards"][0]["mig"]
    assert card("mig", "destroy").returncode == 0
    assert card("mig", "off").returncode == 0
    assert ask(card, "mig", "list") == {"devices": []}


def test_what_cannot_be_divided_says_why(card: Run) -> None:
    assert "MIG mode is off" in refusal(card, "mig", "create", "1g.10gb")
    assert "cannot be divided" in refusal(card, "mig", "on", "--device", "1")
    card("mig", "on")
    assert "mig profiles" in refusal(card, "mig", "create", "5g.50gb")
    assert "no room" in refusal(card, "mig", "create", "7g.80gb", "7g.80gb")
    assert "in use" in refusal(card, "mig", "off")
    assert "no card 7" in refusal(card, "mig", "on", "--device", "7")


def test_settings_are_kept_by_card(card: Run) -> None:
    assert card("mps", "on", "--device", "1").returncode == 0
    assert ask(card, "mps")["cards"] == [{"card": 0, "mps": "off"}, {"card": 1, "mps": "on"}]
    assert card("timeslice", "5ms").returncode == 0
    assert [each["timeslice"] for each in ask(card, "timeslice")["cards"]] == ["5000us", "5000us"]
    assert card("timeslice", "default").returncode == 0
    assert ask(card, "timeslice")["cards"][0]["timeslice"] == "2000us"
    assert card("compute-mode", "exclusive-process").returncode == 0
    assert "exclusive-process" in card("compute-mode").stdout
    assert "from 100us" in refusal(card, "timeslice", "1us")
    assert refusal(card, "mps", "perhaps")


def test_faults_are_shown_reported_and_cleared(card: Run) -> None:
    assert card("fault", "ecc", "single", "--count", "2", "--location", "l2").returncode == 0
    assert card("fault", "xid", "79").returncode == 0
    assert card("fault", "throttle", "--clock", "30").returncode == 0
    state = ask(card, "fault", "list")["cards"][0]
    assert (state["lost"], state["ecc_corrected"], state["clock_percent"]) == (True, 2, 30)
    assert "lost" in card("fault", "list").stdout
    events = [json.loads(line) for line in card("events", "--json").stdout.splitlines()]
    assert [(event["kind"], event["data"]) for event in events] == [
        ("single-bit-ecc", 2),
        ("xid", 79),
        ("lost", 0),
        ("throttle", 0x48),
        ("clock", 30),
    ]
    assert [event["sequence"] for event in events] == [1, 2, 3, 4, 5]
    assert card("fault", "clear").returncode == 0
    state = ask(card, "fault", "list")["cards"][0]
    assert not state["lost"]
    assert (state["ecc_corrected"], state["ecc_corrected_aggregate"]) == (0, 2)
    assert refusal(card, "fault", "xid", "0")


def test_pages_of_an_older_card_are_retired(card: Run) -> None:
    assert card("fault", "ecc", "double", "--device", "1").returncode == 0
    state = ask(card, "fault", "list")["cards"][1]
    assert (state["retired_pages"], state["rows_remapped"], state["reset_needed"]) == (1, 0, True)


def test_an_empty_record_is_one(card: Run) -> None:
    assert ask(card, "record") == {"intervals": []}
    assert card("record", "--follow", "--seconds", "1").stdout == ""


@pytest.mark.parametrize("command", ["mig", "fault", "record"])
def test_each_has_help(card: Run, command: str) -> None:
    done = card(command, "--help")
    assert done.returncode == 0
    assert f"aliquot simgpu {command}" in done.stdout
