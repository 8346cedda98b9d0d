"""The card's own record: nothing is lost, damage is told, and nobody's descriptors are written to."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

SEGMENT_BYTES = 8 << 20
ENTRY_BYTES = 64


def _busy(record: list[dict[str, Any]]) -> dict[int, int]:
    busy: dict[int, int] = defaultdict(int)
    for interval in record:
        busy[interval["pid"]] += interval["busy_ns"]
    return busy


def _segments(home: Path, card: int = 0) -> list[Path]:
    return sorted(home.glob(f"machine-*.record-*-{card}.*"), key=lambda path: int(path.suffix[1:]))


def test_every_turn_is_in_it(probe: Any, show: Any) -> None:
    """Thousands of turns a second: what the record adds up to is what each process was charged."""
    workers = [probe(), probe()]
    for worker in workers:
        worker.send("kernels", 0, 2000, 50)
    for worker in workers:
        worker.answer()
    for worker in workers:
        worker.end()
    record = show("record", "--card", "0")
    assert len(record) > 300
    charged = {each["pid"]: each["busy_ns"] for each in show("processes", "--json")["departed"]}
    assert _busy(record) == charged
    end = 0
    for interval in record:
        assert end <= interval["start_ns"] < interval["end_ns"]
        assert interval["busy_ns"] <= interval["end_ns"] - interval["start_ns"]
        end = interval["end_ns"]


def test_killed_processes_leave_it_whole(probe: Any, show: Any) -> None:
    rng = random.Random(5)
    for _ in range(3):
        workers = [probe() for _ in range(3)]
        for worker in workers:
            worker.send("churn", rng.randrange(1000))
        time.sleep(0.3)
        for worker in workers:
            worker.kill()
    record = show("record", "--card", "0")
    assert record
    end = 0
    for interval in record:
        assert interval["start_ns"] >= end
        end = interval["end_ns"]


def test_old_segments_go_and_a_reader_is_told(probe: Any, tool: Any, simgpu_home: Path) -> None:
    worker = probe()
    worker.ask("kernels", 0, 5, 100)
    time.sleep(0.01)
    worker.ask("kernels", 0, 5, 100)
    for number in range(6):
        (segment,) = _segments(simgpu_home)[-1:]
        assert int(segment.suffix[1:]) == number
        with segment.open("ab") as file:
            file.truncate(SEGMENT_BYTES)
        time.sleep(0.001)
        worker.ask("kernels", 0, 2, 100)  # whoever finds it full begins the next
        time.sleep(0.001)
        worker.ask("kernels", 0, 2, 100)
    assert [int(path.suffix[1:]) for path in _segments(simgpu_home)] == [3, 4, 5, 6]
    done = tool("record", "--card", "0")
    assert done.returncode == 0
    assert "damaged" in done.stderr  # the zeros
    assert json.loads(done.stdout)


def test_damaged_entries_are_left_out_and_counted(probe: Any, tool: Any, simgpu_home: Path) -> None:
    workers = [probe(), probe()]
    for worker in workers:
        worker.send("spin", 0, 300)
    for worker in workers:
        worker.answer()
    whole = json.loads(tool("record").stdout)
    (segment,) = _segments(simgpu_home)
    with segment.open("r+b") as file:
        file.seek(ENTRY_BYTES * 5 + 20)
        file.write(b"\xff")
    done = tool("record")
    assert "1 are damaged" in done.stderr
    assert len(json.loads(done.stdout)) == len(whole) - 1


def test_a_program_that_closes_all_descriptors_is_not_written_into(
    probe: Any, show: Any, tmp_path: Path
) -> None:
    worker, other = probe(), probe()
    for _ in range(2):
        worker.send("spin", 0, 100)
        other.send("spin", 0, 100)
        worker.answer()
        other.answer()
        assert worker.ask("usurp", tmp_path / "mine") == "ok"
    assert (tmp_path / "mine").read_bytes() == b""
    record = show("record")
    assert {interval["pid"] for interval in record} == {worker.pid, other.pid}


def test_a_follower_sees_what_ends(probe: Any, tool: Any) -> None:
    workers = [probe(), probe()]
    for worker in workers:
        worker.send("spin", 0, 500)
    lines = [json.loads(line) for line in tool("record", "--follow", "--seconds", "1").stdout.splitlines()]
    for worker in workers:
        worker.answer()
    assert {"gap": True} not in lines
    assert {line["pid"] for line in lines} == {worker.pid for worker in workers}
    starts = {(line["pid"], line["start_ns"]) for line in lines}
    assert len(starts) == len(lines), "none twice"


def test_instances_never_share_a_place(tool: Any, show: Any) -> None:
    env = {"ALIQUOT_SIMGPU": "h100:1"}
    assert tool("mig", "on", **env).returncode == 0
    rng = random.Random(9)
    for _ in range(20):
        profile = rng.choice(["1g.10gb", "2g.20gb", "3g.40gb", "1g.20gb"])
        tool("mig", "create", profile, **env)
        if rng.random() < 0.3:
            tool("mig", "destroy", "--all", **env)
        (card,) = show("mig", "list", "--json", **env)
        taken: set[int] = set()
        sizes = {"1g.10gb": 1, "1g.20gb": 2, "2g.20gb": 2, "3g.40gb": 4}
        for instance in card["gpu_instances"]:
            place = range(instance["start"], instance["start"] + sizes[instance["profile"]])
            assert not taken & set(place)
            taken |= set(place)
        assert len({device["uuid"] for device in card["devices"]}) == len(card["devices"])
        assert len(card["devices"]) == len(card["gpu_instances"])
