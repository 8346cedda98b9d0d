"""A short soak on the product build; `make soak` is the long one, under sanitizers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .abi import ROOT
from .soak import growth

SECONDS = 20


def test_random_calls_and_kills_leave_nothing_behind(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tests.soak.soak", "--processes", "6", "--kill-every", "1"]
    command += ["--seconds", str(SECONDS), "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    outcome = json.loads(report.read_text())
    assert not outcome["crashed"], done.stderr[-8000:]
    assert not outcome["hung"], done.stderr[-8000:]
    assert outcome["bytes_left"] == 0
    assert outcome["processes_left"] == 0
    assert outcome["killed"] >= 5
    assert outcome["symbols_succeeded"] > 250, "the calls no longer get far enough to try much"


def test_growth_compares_the_last_quarter_with_the_second(tmp_path: Path) -> None:
    notes = tmp_path / "heap-1"
    notes.write_text("".join(f"{calls} {1000 + 10 * calls}\n" for calls in range(16)))
    assert growth(notes) == 80
    notes.write_text("1 5\n2 9\n")
    assert growth(notes) == 0, "too few notes to tell"
