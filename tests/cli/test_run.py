"""`aliquot run`: a share is what was asked for, the program is itself, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

PROBE = str(Path(__file__).with_name("probe.py"))
MIB = 1 << 20
OUT_OF_MEMORY = 2
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def deeds(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def run_probe(
    aliquot: Run, vram: str, *words: str, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return aliquot("run", "--simulate", "--vram", vram, *before, "--", sys.executable, PROBE, *words)


def slices() -> set[str]:
    home = Path(f"/dev/shm/aliquot-slices-{os.getuid()}")
    return {entry.name for entry in home.iterdir()} if home.is_dir() else set()


def test_the_program_sees_its_share_through_the_driver_and_nvml(aliquot: Run) -> None:
    done = run_probe(aliquot, "512Mi", "info", "nvml")
    assert done.returncode == 0, done.stderr
    start, info, nvml = deeds(done.stdout)
    assert str(start["name"]).endswith("(simulated)")
    assert info["total"] == nvml["total"] == 512 * MIB
    assert nvml["count"] == 1


def test_memory_beyond_the_share_is_refused_with_the_drivers_own_error(aliquot: Run) -> None:
    done = run_probe(aliquot, "1Gi", "alloc=256", "alloc=512", "free", "alloc=256", "copy=1")
    assert done.returncode == 0, done.stderr
    statuses = [deed["status"] for deed in deeds(done.stdout) if deed["deed"] == "alloc"]
    assert statuses == [0, OUT_OF_MEMORY, 0]
    assert deeds(done.stdout)[-1] == {"deed": "copy", "same": True}
    assert "refused 1 allocation" in done.stderr


def test_the_summary_tells_what_was_used(aliquot: Run, tmp_path: Path) -> None:
    done = run_probe(aliquot, "1Gi", "alloc=64", "copy=2", "status=9", before=("--json", "summary.json"))
    assert done.returncode == 9, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == 9
    assert summary["signal"] is None
    assert summary["command"][:2] == [sys.executable, PROBE]
    assert summary["device"]["simulated"] is True
    use = summary["use"]
    assert use["vram_limit"] == 1024 * MIB
    assert 64 * MIB <= use["vram_peak"] < 1024 * MIB
    assert use["copied_to_device"] == use["copied_to_host"] == 2 * MIB
    assert use["gpu_time_ns"] >= 0
    assert "VRAM peak" in done.stderr
    assert "2.00 MiB to the device" in done.stderr


def test_quiet_says_nothing_and_output_stays_the_programs(aliquot: Run) -> None:
    done = run_probe(aliquot, "1Gi", "info", before=("--quiet",))
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 2


def test_a_program_that_dies_of_a_signal_leaves_no_slice(aliquot: Run, tmp_path: Path) -> None:
    before = slices()
    done = run_probe(
        aliquot, "1Gi", "alloc=64", f"kill={signal.SIGKILL.value}", before=("--json", "summary.json")
    )
    assert done.returncode == 128 + signal.SIGKILL
    assert json.loads((tmp_path / "summary.json").read_text())["signal"] == signal.SIGKILL
    assert slices() <= before


def test_the_card_is_empty_after_the_program(aliquot: Run) -> None:
    run_probe(aliquot, "1Gi", "alloc=512", "copy=1")
    machine = json.loads(aliquot("simgpu", "show", "--json").stdout)
    assert [card["vram_used_bytes"] for card in machine["cards"]] == [0]


def test_a_slice_whose_maker_was_killed_goes_with_the_next_run(
    aliquot: Run, simgpu_env: Mapping[str, str]
) -> None:
    before = slices()
    command = [sys.executable, "-m", "aliquot", "run", "--simulate"]
    command += ["--vram", "1Gi", "--", sys.executable, PROBE, "sleep=0.5"]
    with subprocess.Popen(command, env=dict(simgpu_env), stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        program = json.loads(maker.stdout.readline())
        maker.kill()
    abandoned = slices() - before
    assert len(abandoned) == 1
    wait_until_gone(int(program["pid"]))
    run_probe(aliquot, "1Gi")
    assert slices() <= before


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the program did not end"
        time.sleep(0.05)


def test_two_programs_do_not_see_each_other(aliquot: Run, simgpu_env: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "aliquot", "run", "--simulate", "-q"]
    command += ["--vram", "768Mi", "--", sys.executable, PROBE, "alloc=128", "sleep=1"]
    with subprocess.Popen(command, env=dict(simgpu_env), stdout=subprocess.PIPE, text=True) as neighbour:
        assert neighbour.stdout is not None
        neighbour.stdout.readline()
        assert json.loads(neighbour.stdout.readline()) == {"deed": "alloc", "status": 0}
        done = run_probe(aliquot, "768Mi", "info", "alloc=128")
    assert neighbour.returncode == 0
    _, info, alloc = deeds(done.stdout)
    assert info["total"] == 768 * MIB
    assert alloc["status"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--vram", "2Gi"), 2, "no program to run"),
        (("--vram", "2Xi", "--", "true"), 2, "is not a size"),
        (("--vram", "0", "--", "true"), 2, "share of no memory"),
        (("--vram", "8Ti", "--", "true"), 5, "no card has 8.00 TiB"),
        (("--vram", "8Ti", "--device", "0", "--", "true"), 2, "was asked for"),
        (("--vram", "1Gi", "--device", "99", "--", "true"), 2, "no device 99"),
        (("--vram", "1Gi", "--", "no-such-program-at-all"), 127, "no program no-such-program-at-all"),
    ],
)
def test_what_cannot_be_run(aliquot: Run, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = aliquot("run", "--simulate", *arguments)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
