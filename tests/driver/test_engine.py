"""The engine of a card, between processes and between the streams of one, judged by the card's own record."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .tenants import CLIENT, Start, Tool, busy_ms, card_env, overlap_ms, read_record, start, tool

__all__ = ["card_env", "start", "tool"]  # fixtures


def test_ten_tenants_that_wait_take_turns_and_burn_no_core(start: Start, tool: Tool) -> None:
    clients = [start() for _ in range(10)]
    before, since = sum(client.cpu_s() for client in clients), time.monotonic_ns()
    begin = time.monotonic()
    for client in clients:
        client.send("sleep 2 50")
    took = [float(client.answer()) for client in clients]
    wall = time.monotonic() - begin
    record = read_record(tool, since)
    busy = busy_ms(record)
    assert sorted(busy) == sorted(client.pid for client in clients)
    assert overlap_ms(record) == 0
    # One after another: the whole is the sum, and everybody is done at about the same time.
    assert sum(busy.values()) >= 10 * 50 * 2 * 0.999
    assert wall >= 1.0
    assert min(took) >= 0.6 * max(took)
    mean = sum(busy.values()) / len(busy)
    assert all(abs(each - mean) <= 0.25 * mean for each in busy.values()), busy
    # Waiting costs little; most of this is Python's own.
    assert sum(client.cpu_s() for client in clients) - before <= 0.75 * 2 * wall


def test_under_mps_processes_overlap(start: Start, tool: Tool) -> None:
    clients = [start() for _ in range(5)]
    assert tool("mps", "on") == ""
    since, begin = time.monotonic_ns(), time.monotonic()
    for client in clients:
        client.send("sleep 20 20")
    for client in clients:
        client.answer()
    wall = time.monotonic() - begin
    record = read_record(tool, since)
    busy = busy_ms(record)
    assert len(busy) == 5
    assert all(each >= 20 * 20 * 0.999 for each in busy.values())
    assert overlap_ms(record) >= 0.5 * (sum(busy.values()) - max(busy.values()))
    assert wall < 0.7 * sum(busy.values()) / 1000
    assert {interval["overlaps"] for interval in record} == {True}
    tool("mps", "off")
    since = time.monotonic_ns()
    for client in clients:
        client.send("sleep 5 5")
    for client in clients:
        client.answer()
    assert overlap_ms(read_record(tool, since)) == 0


def test_mps_clients_see_their_part_of_the_card(start: Start, tool: Tool) -> None:
    tool("mps", "on")
    part = start(CUDA_MPS_ACTIVE_THREAD_PERCENTAGE="25", CUDA_MPS_PINNED_DEVICE_MEM_LIMIT="0=1G")
    assert part.ask("sm") == "33"
    assert part.ask(f"alloc {768 << 20}") == "SUCCESS"
    assert part.ask(f"alloc {512 << 20}") == "OUT_OF_MEMORY"
    assert start().ask("sm") == "132"


def test_elapsed_time_includes_the_neighbours_turns(start: Start, tool: Tool) -> None:
    one, neighbour = start(), start()
    assert float(one.ask("elapsed 30")) >= 30
    one.ask("elapsed_work 1000000")  # the first pays for what is made once
    for _ in range(3):
        neighbour.ask("launch work 10000000")
    assert float(one.ask("elapsed 30")) >= 30  # waiting goes on while it is suspended
    since = time.monotonic_ns()
    elapsed_ms = float(one.ask("elapsed_work 5000000"))
    record = read_record(tool, since)
    mine = [interval for interval in record if interval["pid"] == one.pid]
    first, last = mine[0]["start_ns"], mine[-1]["end_ns"]
    busy = busy_ms([each for each in record if first <= each["start_ns"] and each["end_ns"] <= last])
    assert busy[neighbour.pid] >= 0.5 * busy[one.pid]
    # From its first turn to its last, less what the events' own work of the first turn took.
    assert 0.9 * sum(busy.values()) <= elapsed_ms <= 1.1 * (last - first) / 1e6, busy


def test_short_kernels_beside_a_long_one(start: Start, tool: Tool) -> None:
    """50 ms of work in one kernel is suspended for a neighbour's kernels of some microseconds."""
    long, short = start(), start()
    since = time.monotonic_ns()
    long.send("launch work 2000000")
    long.answer()
    long.send("sync")
    for _ in range(5):
        short.ask("spin 200")
    long.answer()
    record = read_record(tool, since)
    mine = [interval for interval in record if interval["pid"] == long.pid]
    assert overlap_ms(record) == 0
    assert len(mine) >= 3, "it was never suspended"


def test_a_time_slice_is_a_setting_of_the_card(start: Start, tool: Tool) -> None:
    tool("timeslice", "20ms")
    clients = [start(), start()]
    since = time.monotonic_ns()
    for client in clients:
        client.ask("launch work 6000000")
    for client in clients:
        client.send("sync")
    for client in clients:
        assert client.answer() == "SUCCESS"
    spans = sorted(each["end_ns"] - each["start_ns"] for each in read_record(tool, since))
    assert spans[len(spans) // 2] >= 15e6


def test_exclusive_and_prohibited_compute_modes(start: Start, tool: Tool) -> None:
    tool("compute-mode", "exclusive-process")
    first = start()
    assert first.greeting == "ready"
    assert start().greeting == "DEVICE_UNAVAILABLE"
    tool("mps", "on")
    assert start().greeting == "ready"
    tool("mps", "off")
    tool("compute-mode", "prohibited")
    assert start().greeting == "DEVICE_UNAVAILABLE"
    tool("compute-mode", "default")
    assert start().greeting == "ready"


def test_the_record_outlives_processes_and_names_them(start: Start, tool: Tool, tmp_path: Path) -> None:
    slice_path = tmp_path / "tenant-7"
    client = start(ALIQUOT_SLICE=str(slice_path))
    client.ask("spin 100")
    client.kill()
    names = {(each["pid"], each["slice"]) for each in read_record(tool)}
    assert names == {(client.pid, "tenant-7")}


def test_the_record_can_be_followed(start: Start, tool: Tool) -> None:
    clients = [start(), start()]
    for client in clients:
        client.send("spin 600")
    lines = [json.loads(line) for line in tool("record", "--follow", "--seconds", "2").splitlines()]
    for client in clients:
        client.answer()
    assert {"gap": True} not in lines
    assert {line["pid"] for line in lines} == {client.pid for client in clients}
    assert len(lines) >= 40


@pytest.mark.parametrize("threads", ["1", "2"])
def test_streams_of_a_process_overlap(threads: str, card_env: dict[str, str]) -> None:
    """Whatever the number of host threads and the priorities: nobody who waits for another shuts it out."""
    done = subprocess.run(
        [sys.executable, CLIENT.with_name("stream_client.py")],
        env=card_env | {"ALIQUOT_SIMGPU_THREADS": threads},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert len(measured["flags_ms"]) == 3
    assert measured["high_ms"] < measured["low_ms"] / 2
    assert measured["low_was_running"]
    assert measured["naps_ms"] < 3.5 * 50
