"""Which cards there are: the setting, what a person is told, and what stays the same."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("h100", ["h100"]),
        ("h100:2,t4:1", ["h100", "h100", "t4"]),
        ("  H100:1 , t4:2 ", ["h100", "t4", "t4"]),
        ("a100 v100", ["a100-80", "v100-16"]),
        ("t4:64", ["t4"] * 64),
    ],
)
def test_settings_that_are_understood(text: str, models: list[str], show: Any) -> None:
    assert [card["model"] for card in show("show", "--json", ALIQUOT_SIMGPU=text)["cards"]] == models


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("h10", "did you mean h100?"),
        ("rtx409:2", "did you mean rtx4090?"),
        ("cerebras", "Known: a10, a100-40"),
        ("h100:0", "as in h100:2"),
        ("h100:-1", "as in h100:2"),
        ("h100:two", "as in h100:2"),
        ("t4:65", "at most 64"),
        ("t4:4294967297", "as in h100:2"),
        (",", "h100:2,t4:4"),
        ("\x1b[31mred", "?[31mred"),
        ("mi300x", "unknown card model"),
    ],
)
def test_settings_that_are_not(text: str, told: str, tool: Any) -> None:
    for command in (["show"], ["set", text]):
        done = tool(*command, ALIQUOT_SIMGPU=text)
        assert done.returncode in (1, 2)
        assert told in done.stderr
        assert "\x1b" not in done.stderr


def test_the_default_is_one_h100(show: Any) -> None:
    (card,) = show("show", "--json", ALIQUOT_SIMGPU=None)["cards"]
    assert card["name"] == "NVIDIA H100 80GB HBM3 (simulated)"
    assert card["vram_bytes"] == 81559 << 20


def test_the_stored_setting_counts_unless_the_environment_has_one(tool: Any, show: Any) -> None:
    done = tool("set", "l4:2", "t4", ALIQUOT_SIMGPU=None)
    assert (done.returncode, done.stdout, done.stderr) == (0, "l4:2,t4:1\n", "")
    assert show("show", "--json", ALIQUOT_SIMGPU=None)["setting"] == "l4:2,t4:1"
    assert show("show", "--json")["setting"] == "t4:2"
    assert "overrides" in tool("set", "l4").stderr


def test_each_setting_is_a_machine_of_its_own(probe: Any, show: Any) -> None:
    holder = probe()
    holder.ask("reserve", 0, 1 << 30)
    assert show("show", "--json")["cards"][0]["vram_used_bytes"] == 1 << 30
    other = show("show", "--json", ALIQUOT_SIMGPU="t4:1")
    assert (other["cards"][0]["vram_used_bytes"], other["processes"]) == (0, [])
    # Both draw on the same host, though.
    assert other["host_budget"]["reserved_by_user_bytes"] >= 1 << 30


def test_setting_is_not_changed_under_running_processes(probe: Any, tool: Any) -> None:
    stored = {"ALIQUOT_SIMGPU": None}
    assert tool("set", "t4:2", **stored).returncode == 0
    holder = probe()
    refused = tool("set", "h100", **stored)
    assert refused.returncode == 1
    assert "1 process uses the simulated machine" in refused.stderr
    assert tool("set", "t4:2", **stored).returncode == 0  # no change is none
    assert tool("set", "h100", "--force", **stored).returncode == 0
    assert tool("reset").returncode == 1
    assert holder.ask("reserve", 0, 1) == "ok"
    holder.end()
    assert tool("reset").returncode == 0


def test_identity_of_cards_is_stable_and_unique(show: Any, tool: Any, tmp_path: Path) -> None:
    def cards(**env: str) -> list[tuple[str, str]]:
        return [(card["uuid"], card["pci_bus_id"]) for card in show("show", "--json", **env)["cards"]]

    before = cards()
    assert len(set(before)) == 2
    assert tool("reset").returncode == 0
    assert cards() == before
    assert not set(cards(ALIQUOT_SIMGPU_HOME=str(tmp_path / "other"))) & set(before)


def test_processes_that_start_together_agree_on_one_machine(probe: Any, show: Any, simgpu_home: Path) -> None:
    with ThreadPoolExecutor(12) as pool:
        probes = list(pool.map(lambda _: probe(), range(12)))
    assert {one.greeting for one in probes} == {"ready"}
    for one in probes:
        assert one.ask("reserve", 0, 1 << 30) == "ok"
    assert show("show", "--json")["cards"][0]["vram_used_bytes"] == 12 << 30
    assert len(list(simgpu_home.iterdir())) == 1  # nothing is left of the race
    (region,) = simgpu_home.iterdir()
    assert stat.S_IMODE(region.stat().st_mode) == 0o600


def test_a_home_is_made_private(show: Any, tmp_path: Path) -> None:
    home = tmp_path / "a" / "b"
    assert show("show", "--json", ALIQUOT_SIMGPU_HOME=str(home))["home"] == str(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
