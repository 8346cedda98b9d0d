"""One process at a time on a card's engine: fair, never lost, never held up by the dead or the stopped.

Shares are taken from the device's own record, not from what the processes think they had.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from typing import Any

import pytest

Record = list[dict[str, int]]


def _busy_by_pid(record: Record) -> dict[int, int]:
    busy: dict[int, int] = defaultdict(int)
    for interval in record:
        busy[interval["pid"]] += interval["busy_ns"]
    return busy


def _within(record: Record, start: int, end: int) -> Record:
    """The parts of intervals that lie in a span of time."""
    parts: Record = []
    for one in record:
        first, last = max(one["start_ns"], start), min(one["end_ns"], end)
        if first < last:
            busy = one["busy_ns"] * (last - first) // (one["end_ns"] - one["start_ns"])
            parts.append(one | {"start_ns": first, "end_ns": last, "busy_ns": busy})
    return parts


def _overlap(record: Record) -> int:
    """Nanoseconds for which two intervals say that they had the engine."""
    overlap, end = 0, 0
    for interval in sorted(record, key=lambda one: one["start_ns"]):
        overlap += max(0, min(end, interval["end_ns"]) - interval["start_ns"])
        end = max(end, interval["end_ns"])
    return overlap


@pytest.mark.parametrize("count", [2, 4])
def test_contending_processes_share_equally(count: int, probe: Any, show: Any) -> None:
    workers = [probe() for _ in range(count)]
    for worker in workers:
        worker.send("spin", 0, 2200)
    for worker in workers:
        worker.answer()
    record = show("record", "--card", "0")
    # The last and first moments have one worker only: the two seconds in the middle count.
    start = min(interval["start_ns"] for interval in record) + 100_000_000
    middle = _within(record, start, start + 2_000_000_000)
    busy = _busy_by_pid(middle)
    assert sorted(busy) == sorted(worker.pid for worker in workers)
    fair = sum(busy.values()) / count
    assert all(abs(ns - fair) <= 0.1 * fair for ns in busy.values()), busy
    assert sum(busy.values()) >= 1.0e9  # what hand-overs cost depends on how busy the host's cores are
    assert _overlap(record) == 0
    # Turns of about 2 ms, more where a holder waits for a core of the host; not one long one each.
    assert len(middle) >= 20
    assert min(one["end_ns"] - one["start_ns"] for one in middle) < 6e6


def test_short_kernels_are_not_shut_out_by_long_ones(probe: Any, show: Any) -> None:
    short, long = probe(), probe()
    short.send("kernels", 0, 600, 100)
    long.send("spin", 0, 600)
    kernels = int(short.answer())
    long.answer()
    assert kernels > 600 / 2.1 / 3  # about one kernel for each slice of the other
    assert _overlap(show("record", "--card", "0")) == 0


def test_slice_length_is_a_setting(probe: Any) -> None:
    env = {"ALIQUOT_SIMGPU_SLICE_US": "20000"}
    workers = [probe(**env), probe(**env)]
    for worker in workers:
        worker.send("spin", 0, 600)
    turns = sum(int(worker.answer()) for worker in workers)
    assert 10 <= turns <= 60  # 30 of 20 ms; turns of 2 ms would be 300


def test_alone_the_engine_stays_and_nothing_asks_for_it(probe: Any) -> None:
    worker = probe()
    assert worker.ask("acquire", 0) == "ok"
    time.sleep(0.01)
    assert worker.ask("yield?", 0) == "no"
    assert worker.ask("give", 0) == "ok"
    assert int(worker.ask("spin", 0, 100)) == 1
    # Well under a microsecond each, on this machine or a slow one.
    assert float(worker.ask("time-engine", 200_000)) < 1000
    assert float(worker.ask("time-poll", 200_000)) < 500


@pytest.mark.sanitized
@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_turn_is_taken_from_the_dead_and_the_stopped(fate: int, probe: Any, show: Any, until: Any) -> None:
    holder, waiter = probe(), probe()
    assert holder.ask("acquire", 0) == "ok"
    holder.signal(fate)
    start = time.monotonic()
    assert waiter.ask("acquire", 0) == "ok"
    assert time.monotonic() - start < 0.3
    if fate == signal.SIGKILL:
        return
    holder.signal(signal.SIGCONT)
    assert holder.ask("yield?", 0) == "yes"  # it finds out when it polls
    assert holder.ask("give", 0) == "ok"
    assert waiter.ask("yield?", 0) == "no"  # and what it gives up is no longer the other's turn
    holder.send("acquire", 0)
    assert until(lambda: waiter.ask("yield?", 0) == "yes", 2)
    waiter.ask("give", 0)
    assert holder.answer() == "ok"


def test_the_time_of_a_stopped_holder_is_not_counted_as_busy(probe: Any, show: Any) -> None:
    holder, waiter = probe(), probe()
    holder.send("spin", 0, 1000)
    time.sleep(0.2)
    holder.signal(signal.SIGSTOP)
    waiter.ask("spin", 0, 300)
    holder.signal(signal.SIGCONT)
    holder.answer()
    record = show("record", "--card", "0")
    assert _overlap(record) == 0
    busy = _busy_by_pid(record)
    assert busy[holder.pid] < 0.8e9
    assert busy[waiter.pid] > 0.2e9


def test_a_stopped_waiter_holds_nobody_up(probe: Any) -> None:
    first, second, stopped = probe(), probe(), probe()
    first.ask("acquire", 0)
    stopped.send("acquire", 0)
    time.sleep(0.05)
    stopped.signal(signal.SIGSTOP)
    first.ask("give", 0)
    for worker in (first, second):
        worker.send("kernels", 0, 500, 1000)
    assert all(int(worker.answer()) > 60 for worker in (first, second))
    stopped.signal(signal.SIGCONT)
    assert stopped.answer() == "ok"  # its wish was not forgotten


def test_no_wakeup_is_lost_in_many_hand_overs(probe: Any) -> None:
    """Three processes hand over after every kernel; a lost wake-up would cost 10 ms each."""
    workers = [probe() for _ in range(3)]
    for worker in workers:
        worker.send("kernels", 0, 1000, 50)
    assert sum(int(worker.answer()) for worker in workers) > 1500


def test_utilisation_is_of_the_last_second(probe: Any, show: Any) -> None:
    worker = probe()
    assert show("show", "--json")["cards"][0]["utilisation_percent"] == 0
    worker.ask("spin", 0, 500)
    cards = show("show", "--json")["cards"]
    assert 40 <= cards[0]["utilisation_percent"] <= 52
    assert cards[1]["utilisation_percent"] == 0
    assert 490e6 < cards[0]["busy_ns"] < 520e6
    time.sleep(1.1)
    assert show("show", "--json")["cards"][0]["utilisation_percent"] == 0
