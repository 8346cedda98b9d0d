"""The benchmark of the limiter: what it makes of a card's record, and what its programs measure."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000


@pytest.fixture(scope="module")
def parts() -> Iterator[ModuleType]:
    """`benchmarks.limiter_parts`, which is no part of the package."""
    sys.path.insert(0, str(ROOT))
    try:
        for name in ("record", "options", "plot", "programs", "shares", "tenants", "stage"):
            importlib.import_module(f"benchmarks.limiter_parts.{name}")
        yield importlib.import_module("benchmarks.limiter_parts")
    finally:
        sys.path.remove(str(ROOT))


def test_shares_are_of_the_busy_time(parts: ModuleType) -> None:
    record = parts.record
    seen = record.clipped(
        [record.Interval(0, 40, "a"), record.Interval(50, 70, "b"), record.Interval(90, 200, "b")], 10, 100
    )
    assert record.busy(seen) == {"a": 30, "b": 30}
    assert record.union(seen) == 60
    assert record.shares(record.busy(seen), ["a", "b", "idle"]) == {"a": 50.0, "b": 50.0, "idle": 0.0}


def test_gaps_belong_to_whoever_worked_before_and_behind_them(parts: ModuleType) -> None:
    record = parts.record
    seen = [record.Interval(*each) for each in ((0, 10, "a"), (30, 40, "a"), (60, 80, "b"), (90, 95, "a"))]
    assert record.at_disposal(seen) == {"a": 40 + 5, "b": 20}


def test_overlaps_count_once_in_the_cards_busy_time(parts: ModuleType) -> None:
    record = parts.record
    seen = [record.Interval(0, 50, "a"), record.Interval(10, 20, "b"), record.Interval(40, 60, "b")]
    assert record.union(seen) == 60


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 300), st.sampled_from("abc")), max_size=30))
def test_no_time_is_invented(parts: ModuleType, entries: list[tuple[int, int, str]]) -> None:
    record = parts.record
    seen = record.clipped([record.Interval(at, at + lasts, who) for at, lasts, who in entries], 100, 900)
    assert record.union(seen) <= 800
    assert record.union(seen) <= sum(record.busy(seen).values())
    assert all(record.at_disposal(seen)[who] >= 0 for who in record.busy(seen))
    percents = record.shares(record.busy(seen), ["a", "b", "c"])
    assert not seen or sum(percents.values()) == pytest.approx(100)


def test_shares_over_time(parts: ModuleType) -> None:
    record = parts.record
    seen = [record.Interval(0, 10, "a"), record.Interval(10, 20, "b")]
    assert record.shares_over_time(seen, ["a", "b"], 0, 25, 10) == [{"a": 100, "b": 0}, {"a": 0, "b": 100}]


def test_without_a_record_what_was_launched_counts(parts: ModuleType) -> None:
    tenants = [
        parts.tenants.Tenant(name=name, part=parts.stage.Part(percent=50), manner="") for name in ("a", "b")
    ]
    told = {
        "a": [{"kernel_ns": 20, "launches": 2}, {"kernel_ns": 10, "launches": 1}],
        "b": [{"kernel_ns": 70}],
    }
    seen = parts.tenants.Observation(
        tenants=tenants, begin=0, end=200, intervals=[], reports=told, recorded=False
    )
    assert seen.shares() == {"a": 30.0, "b": 70.0}
    assert seen.busy_percent() == 50.0
    assert seen.busy_percent("a") == 15.0
    assert seen.kernels("a") == 3


def test_the_grid_asks_for_whole_cards(parts: ModuleType) -> None:
    names = [cell.name for cell in parts.shares.GRID]
    assert len(set(names)) == len(names)
    assert set(parts.shares.QUICK) < set(names)
    for cell in parts.shares.GRID:
        assert sum(tenant.part.percent for tenant in cell.tenants) == 100


def test_what_may_be_said(parts: ModuleType, tmp_path: Path) -> None:
    library = tmp_path / "other.so"
    library.write_bytes(b"")
    given_ = parts.options.parse(
        ["--only", "calls,shares", "--preload", str(library), "--env", "A={percent}", "--env", "B=x=y"],
        quick=True,
    )
    assert given_.parts == ("calls", "shares")
    assert given_.env == (("A", "{percent}"), ("B", "x=y"))
    for wrong in (
        ["--only", "calls,tea"],
        ["--preload", "/nonexistent.so"],
        ["--env", "A"],
        ["--seconds", "0"],
        ["x"],
    ):
        with pytest.raises(InvalidValueError):
            parts.options.parse(wrong, quick=True)


def test_a_picture_is_drawn(parts: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curve = [{"t0": 30.0, "t1": 70.0}, {"t0": 31.0, "t1": 69.0}]
    parts.plot.draw(
        {"30_70": curve, "change": curve, "none": [], "more": curve}, tmp_path / "new" / "shares.png"
    )
    assert (tmp_path / "new" / "shares.png").read_bytes().startswith(b"\x89PNG")


def talk(program: Path, env: Mapping[str, str], *lines: str) -> list[str]:
    done = subprocess.run(
        [program],
        env=dict(env),
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_calls_are_timed_by_the_batch(native_build: Path) -> None:
    folder = native_build / "native/limiter"
    env = {"LD_LIBRARY_PATH": str(folder / "null_driver")}
    program = folder / "bench/limiter-bench-calls"
    ready, *answers = talk(
        program, env, "launch 1000", "launch 1000000", "live 100 4096", "pair 1000 4096", "info 9"
    )
    assert ready == "ready"
    times = [[int(word) for word in answer.split()] for answer in answers]
    assert all(wall > 0 and cpu > 0 for wall, cpu in times)
    assert times[1][1] > 20 * times[0][1]  # a thousand times as many calls


def test_a_tenant_loads_the_card_as_it_is_told(
    native_build: Path, native_dir: Path, simgpu_env: Mapping[str, str]
) -> None:
    program = native_build / "native/limiter/bench/limiter-bench-tenant"
    command = [program, "--kernel", "2000000", "--sync", "--think", "1000000"]
    with subprocess.Popen(
        command, env=dict(simgpu_env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tenant:
        assert tenant.stdout is not None
        assert tenant.stdout.readline() == "ready\n"
        assert tenant.stdin is not None
        try:
            tenant.stdin.write("go\n")
            tenant.stdin.flush()
            time.sleep(0.2)
            report, _ = tenant.communicate(timeout=60)
        finally:
            tenant.kill()
    found = json.loads(report)
    assert found["launches"] >= 1
    assert len(found["latencies_ns"]) == found["launches"]
    assert min(found["latencies_ns"]) >= 2 * MS * 0.99
    record = subprocess.run(
        [native_dir / "bin/aliquot-simgpu", "processes", "--json"],
        env=dict(simgpu_env),
        capture_output=True,
        check=True,
    )
    (seen,) = json.loads(record.stdout)["departed"]
    assert seen["launches"] == found["launches"]
    assert seen["busy_ns"] >= 2 * MS * found["launches"] * 0.99


def repeat(program: Path, text: str, runs: int) -> tuple[int, list[str], str]:
    """Status, answers and complaints of a program that is run again and again."""
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/limiter_parts/repeated.py", program, "0.05"],
        input="run\n" * runs,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_program_is_timed_run_by_run(tmp_path: Path) -> None:
    """Importing it is not counted, and what it prints is not mixed up with the answers."""
    text = """
import sys, time
time.sleep(0.5)
def main():
    print("12345")
    time.sleep(float(sys.argv[1]))
    return 0
"""
    status, (ready, *times), _ = repeat(tmp_path / "program.py", text, 3)
    assert status == 0
    assert ready == "ready"
    assert len(times) == 3
    assert 0.05 <= min(map(float, times)) < 0.5


def test_a_program_that_fails_is_not_timed(tmp_path: Path) -> None:
    status, answers, complaints = repeat(tmp_path / "program.py", "def main():\n    return 7\n", 2)
    assert status == 1
    assert answers == ["ready"]
    assert "ended with 7" in complaints


def test_a_round_is_compared_with_the_bare_runs_around_it(parts: ModuleType) -> None:
    round_ = parts.programs.Times((1.0, 3.0), 2.5)
    assert round_.ratio == 1.25
    assert round_.noise == 3.0
    assert all((ROOT / each.file).is_file() for each in parts.programs.PROGRAMS)
