"""Faults on demand, as programs that run see them, and MIG instances as CUDA enumerates them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .tenants import Start, Tool, card_env, read_record, start, tool

__all__ = ["card_env", "start", "tool"]  # fixtures


def events(tool: Tool) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tool("events").splitlines()]


def xids(tool: Tool) -> list[tuple[int, int]]:
    return [(event["data"], event["pid"]) for event in events(tool) if event["kind"] == "xid"]


def fault_while_running(start: Start, tool: Tool, *fault: str) -> tuple[str, float]:
    """What a program that works on the card is told, and after how many seconds."""
    client = start()
    client.send("spin 20000")
    time.sleep(0.3)
    tool("fault", *fault)
    begin = time.monotonic()
    answer = client.answer()
    assert client.ask("alloc 1000") == answer, "the error is sticky"
    return answer, time.monotonic() - begin


@pytest.mark.parametrize(
    ("fault", "error", "reported"),
    [
        (["ecc", "double"], "ECC_UNCORRECTABLE", [63, 48, 95]),
        (["xid", "13"], "LAUNCH_FAILED", [13]),
        (["xid", "31"], "ILLEGAL_ADDRESS", [31]),
        (["xid", "94"], "CONTAINED", [94]),
        (["lost"], "UNKNOWN", [79]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_running_programs_are_told(
    fault: list[str], error: str, reported: list[int], start: Start, tool: Tool
) -> None:
    answer, seconds = fault_while_running(start, tool, *fault)
    assert answer == error
    assert seconds < 2  # tens of milliseconds, where the host has a core to spare
    assert [xid for xid, _ in xids(tool)] == reported


def test_what_ends_no_work_ends_none(start: Start, tool: Tool) -> None:
    client = start()
    tool("fault", "ecc", "single", "--count", "3")
    tool("fault", "xid", "63")
    assert client.ask("spin 50") == "SUCCESS"
    state = json.loads(tool("fault", "list", "--json"))[0]
    assert (state["ecc_corrected"], state["ecc_corrected_aggregate"], state["ecc_uncorrected"]) == (3, 3, 0)
    tool("fault", "clear")
    state = json.loads(tool("fault", "list", "--json"))[0]
    assert (state["ecc_corrected"], state["ecc_corrected_aggregate"]) == (0, 3)


def test_a_fault_of_one_process_is_no_others(start: Start, tool: Tool) -> None:
    victim, neighbour = start(), start()
    tool("fault", "xid", "31", "--pid", str(victim.pid))
    assert victim.ask("sync") == "ILLEGAL_ADDRESS"
    assert neighbour.ask("spin 20") == "SUCCESS"
    assert start().greeting == "ready"


def test_a_kernel_that_does_wrong_is_reported(start: Start, tool: Tool) -> None:
    client, neighbour = start(), start()
    client.ask("launch wild 0")
    assert client.ask("sync") == "ILLEGAL_ADDRESS"
    assert xids(tool) == [(31, client.pid)]
    assert neighbour.ask("spin 20") == "SUCCESS"


def test_a_lost_card_takes_no_context_until_it_is_cleared(start: Start, tool: Tool) -> None:
    tool("fault", "lost")
    assert start().greeting == "DEVICE_UNAVAILABLE"
    tool("fault", "clear")
    assert start().greeting == "ready"


def test_a_hung_kernel_blocks_the_others_until_the_watchdog(start: Start, tool: Tool) -> None:
    culprit, other = start(), start()
    tool("fault", "hang", "--pid", str(culprit.pid), "--watchdog-ms", "1500")
    culprit.ask("launch work 10")
    culprit.send("sync")
    time.sleep(0.3)
    begin = time.monotonic()
    other.ask("launch work 10")
    assert other.ask("sync") == "SUCCESS"
    assert time.monotonic() - begin > 0.5
    assert culprit.answer() == "LAUNCH_TIMEOUT"
    assert xids(tool) == [(8, culprit.pid)]


def test_a_hung_kernel_ends_with_its_process_or_when_cleared(start: Start, tool: Tool) -> None:
    culprit, other = start(), start()
    tool("fault", "hang", "--pid", str(culprit.pid))
    culprit.ask("launch work 10")
    culprit.send("sync")
    time.sleep(0.3)
    assert json.loads(tool("fault", "list", "--json"))[0]["hung_pid"] == culprit.pid
    culprit.kill()
    assert other.ask("spin 20") == "SUCCESS"
    tool("fault", "hang", "--pid", str(other.pid))
    other.ask("launch work 10")
    other.send("sync")
    time.sleep(0.3)
    tool("fault", "clear")
    assert other.answer() == "SUCCESS"


def test_a_throttled_card_is_slower(start: Start, tool: Tool) -> None:
    client = start()
    quick = min(float(client.ask("elapsed 20")) for _ in range(3))
    tool("fault", "throttle", "--clock", "25")
    slow = min(float(client.ask("elapsed 20")) for _ in range(3))
    assert slow >= 3.5 * quick * 20 / max(quick, 20)
    tool("fault", "throttle", "--reason", "none")
    assert min(float(client.ask("elapsed 20")) for _ in range(3)) < 0.75 * slow
    assert [event["data"] for event in events(tool) if event["kind"] == "clock"] == [25, 100]


def test_the_nth_allocation_fails(start: Start, tool: Tool) -> None:
    one, other = start(), start()
    tool("fault", "alloc-fail", "--nth", "3", "--times", "2", "--pid", str(one.pid))
    assert [other.ask("alloc 1000") for _ in range(5)] == ["SUCCESS"] * 5
    expected = ["SUCCESS", "SUCCESS", "OUT_OF_MEMORY", "OUT_OF_MEMORY", "SUCCESS"]
    assert [one.ask("alloc 1000") for _ in range(5)] == expected


def test_instances_are_cards_of_their_own(start: Start, tool: Tool) -> None:
    tool("mig", "on")
    small, large = tool("mig", "create", "1g.10gb", "3g.40gb").split()
    first, second = start(CUDA_VISIBLE_DEVICES=small), start(CUDA_VISIBLE_DEVICES=large[:20])
    assert (first.ask("count"), first.ask("sm")) == ("1", "16")
    assert first.ask("name") == "NVIDIA H100 80GB HBM3 MIG 1g.10gb (simulated)"
    assert int(first.ask("total")) == 9984 << 20
    assert (second.ask("count"), second.ask("sm"), int(second.ask("total"))) == ("1", "60", 40448 << 20)
    # Memory of its own.
    assert first.ask(f"alloc {2 << 30}") == "SUCCESS"
    assert first.ask(f"alloc {8 << 30}") == "OUT_OF_MEMORY"
    devices = json.loads(tool("mig", "list", "--json"))[0]["devices"]
    used = {device["uuid"]: device["vram_used_bytes"] for device in devices}
    assert used[small] >= 2 << 30 > used[large]
    # An engine of its own: both are busy at once.
    since = time.monotonic_ns()
    for client in (first, second):
        client.send("sleep 100 5")
    for client in (first, second):
        client.answer()
    record = read_record(tool, since)
    assert len({interval["unit"] for interval in record}) == 2
    assert sum(each["busy_ns"] for each in record) >= 1e9 * 0.99
    ends, starts = max(each["end_ns"] for each in record), min(each["start_ns"] for each in record)
    assert ends - starts < 0.9e9


def test_without_a_name_the_first_instance_is_seen(start: Start, tool: Tool) -> None:
    tool("mig", "on")
    assert start().greeting == "NO_DEVICE"
    uuid = tool("mig", "create", "2g.20gb").strip()
    assert start().ask("name") == "NVIDIA H100 80GB HBM3 MIG 2g.20gb (simulated)"
    assert start(CUDA_VISIBLE_DEVICES="MIG-00000000").greeting == "NO_DEVICE"
    holder = start(CUDA_VISIBLE_DEVICES=uuid)
    with pytest.raises(RuntimeError, match="in use"):
        tool("mig", "destroy", "--all")
    holder.kill()
    for client in (start(),):
        client.kill()


def test_an_instance_goes_once_its_processes_have(start: Start, tool: Tool) -> None:
    tool("mig", "on")
    tool("mig", "create", "19", "19")
    client = start()
    with pytest.raises(RuntimeError, match="in use"):
        tool("mig", "off")
    client.kill()
    tool("mig", "destroy", "--all")
    tool("mig", "off")
    assert start().ask("sm") == "132"
