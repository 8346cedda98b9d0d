"""VRAM is accounted exactly over all processes, and comes back from those that die in any way."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GIB = 1 << 30
T4_GIB = 15  # NVML on a T4 reports 15360 MiB
ROUNDS = int(os.environ.get("ALIQUOT_TEST_ROUNDS", "60"))
"""Kills in the storm; a thousand take about half a minute."""


@pytest.mark.sanitized
def test_reserves_to_the_last_byte_and_not_one_more(probe: Any) -> None:
    first, second = probe(), probe()
    assert first.ask("reserve", 0, 10 * GIB) == "ok"
    assert second.ask("reserve", 0, 5 * GIB) == "ok"
    assert second.ask("vram", 0) == f"{T4_GIB * GIB} {T4_GIB * GIB}"
    assert first.ask("reserve", 0, 1) == "out-of-vram"
    assert second.ask("release", 0, 1) == "ok"
    assert first.ask("reserve", 0, 2) == "out-of-vram"
    assert first.ask("reserve", 0, 1) == "ok"
    # The other card is another account.
    assert first.ask("vram", 1) == f"0 {T4_GIB * GIB}"


def test_release_never_underflows_and_takes_nothing_from_others(probe: Any) -> None:
    first, second = probe(), probe()
    first.ask("reserve", 0, 3 * GIB)
    second.ask("reserve", 0, GIB)
    second.ask("release", 0, 100 * GIB)
    assert first.used() == 3 * GIB
    assert second.ask("reserve", 0, 2**64 - 1) == "out-of-vram"
    assert second.ask("reserve", 7, 1) == "unavailable"
    assert first.used() == 3 * GIB


@pytest.mark.parametrize("end", ["kill", "exit", "exec"])
def test_memory_of_the_departed_comes_back(end: str, probe: Any, until: Any) -> None:
    leaver, stayer = probe(), probe()
    leaver.ask("reserve", 0, 15 * GIB)
    stayer.ask("reserve", 1, GIB)
    if end == "kill":
        leaver.process.send_signal(signal.SIGKILL)  # not waited for: a zombie holds nothing either
    elif end == "exit":
        leaver.end()
    else:
        leaver.send("exec")
        assert until(lambda: Path(f"/proc/{leaver.pid}/comm").read_text() == "sleep\n", 5)
    assert until(lambda: stayer.used(0) == 0, 2)
    assert stayer.ask("reserve", 0, 15 * GIB) == "ok"
    assert stayer.used(1) == GIB


def test_a_full_card_is_freed_by_a_kill_without_anybody_looking_first(probe: Any) -> None:
    holder, asker = probe(), probe()
    holder.ask("reserve", 0, 15 * GIB)
    assert asker.ask("reserve", 0, GIB) == "out-of-vram"
    holder.kill()
    assert asker.ask("reserve", 0, 15 * GIB) == "ok"


def test_racing_processes_get_exactly_what_there_is(probe: Any) -> None:
    racers = [probe() for _ in range(6)]
    for _ in range(15):
        # Everybody asks for 2 GiB three times at once: 36 GiB wanted, seven requests fit, one GiB stays.
        for _ in range(3):
            for racer in racers:
                racer.send("reserve", 0, 2 * GIB)
        granted = [[racer.answer() for _ in range(3)].count("ok") for racer in racers]
        assert sum(granted) == T4_GIB // 2
        assert racers[0].used() == sum(granted) * 2 * GIB
        for racer, count in zip(racers, granted, strict=True):
            racer.ask("release", 0, count * 2 * GIB)
        assert racers[0].used() == 0


@pytest.mark.sanitized
def test_eight_processes_killed_at_random_leave_nothing(probe: Any, show: Any) -> None:
    rng = random.Random(20)
    churners = [probe() for _ in range(8)]
    for seed, churner in enumerate(churners):
        churner.send("churn", seed)
    for turn in range(ROUNDS):
        victim = rng.randrange(8)
        time.sleep(rng.uniform(0, 0.04))
        churners[victim].kill()
        churners[victim] = probe()
        churners[victim].send("churn", 100 + turn)
    for churner in churners:
        churner.kill()
    machine = show("show", "--json")
    assert [card["vram_used_bytes"] for card in machine["cards"]] == [0, 0]
    assert machine["host_budget"]["reserved_bytes"] == 0
    assert machine["processes"] == []
    survivor = probe()
    assert survivor.ask("acquire", 0) == "ok"  # no turn was lost either
    assert survivor.ask("reserve", 0, T4_GIB * GIB) == "ok"


def test_stopped_processes_block_nobody(probe: Any) -> None:
    rng = random.Random(5)
    other = probe()
    for seed in range(8):
        churner = probe()
        churner.send("churn", seed)
        time.sleep(rng.uniform(0.005, 0.03))
        churner.signal(signal.SIGSTOP)
        start = time.monotonic()
        assert other.ask("reserve", 0, 1 << 20) == "ok"
        assert time.monotonic() - start < 0.5
        churner.kill()


def test_a_forked_child_is_not_its_parent(probe: Any) -> None:
    parent = probe()
    parent.ask("reserve", 0, 5 * GIB)
    assert parent.ask("fork") == "unavailable refused exited"
    assert parent.used() == 5 * GIB
    assert parent.ask("acquire", 0) == "ok"


def test_a_reused_pid_is_told_apart(probe: Any, simgpu_home: Path) -> None:
    """Turns a live process' slot into that of an earlier process with the same pid, by its start time."""
    holder, other = probe(), probe()
    holder.ask("reserve", 0, 5 * GIB)
    assert other.used() == 5 * GIB
    (region,) = (path for path in simgpu_home.iterdir() if path.name.startswith("machine-"))
    _rewrite_words(region, lambda word: word ^ 1 if word >> 42 == holder.pid else word)
    time.sleep(0.02)  # the dead are looked for every 10 ms
    assert other.used() == 0
    assert other.ask("reserve", 0, T4_GIB * GIB) == "ok"


def test_what_a_process_did_can_be_read_after_it_ended(probe: Any, show: Any) -> None:
    worker = probe(ALIQUOT_SLICE="/run/somewhere/blue-7")
    worker.ask("reserve", 1, 3 * GIB)
    worker.ask("release", 1, 3 * GIB)
    worker.ask("reserve", 1, GIB)
    worker.ask("spin", 1, 60)
    for _ in range(5):
        worker.ask("launch", 1)
    worker.ask("copy", 1, 0, 1000)
    worker.ask("copy", 1, 1, 200)
    worker.ask("copy", 1, 2, 30)
    (live,) = show("processes", "--json")["live"]
    worker.kill()
    report = show("processes", "--json")
    assert report["live"] == []
    (record,) = report["departed"]
    assert record == live | {"vram_bytes": 0}
    assert record["pid"] == worker.pid
    assert (record["card"], record["slice"], record["command"]) == (1, "blue-7", "aliquot-machine")
    assert (record["peak_vram_bytes"], live["vram_bytes"]) == (3 * GIB, GIB)
    assert (record["copied_to_device"], record["copied_to_host"], record["copied_on_device"]) == (
        1000,
        200,
        30,
    )
    assert record["launches"] == 5
    assert 55e6 < record["busy_ns"] < 75e6


def _rewrite_words(path: Path, change: Callable[[int], int]) -> None:
    with path.open("r+b") as file:
        head = file.read(1 << 16)
        words = struct.unpack(f"<{len(head) // 8}Q", head)
        file.seek(0)
        file.write(struct.pack(f"<{len(words)}Q", *(change(word) for word in words)))
