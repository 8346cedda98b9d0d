"""Host memory behind simulated VRAM: past the budget an allocation fails and says so, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20


def test_past_the_budget_is_refused_with_one_line(probe: Any) -> None:
    holder = probe(ALIQUOT_SIMGPU_HOST_BYTES="100Mi")
    asker = probe(ALIQUOT_SIMGPU_HOST_BYTES="100Mi")
    assert holder.ask("reserve", 0, 60 * MIB) == "ok"
    # All cards of the machine draw on one budget.
    for _ in range(3):
        assert asker.ask("reserve", 1, 41 * MIB) == "out-of-host-budget"
    assert asker.used(1) == 0
    assert asker.ask("reserve", 1, 40 * MIB) == "ok"
    (line,) = asker.end().splitlines()
    assert line.startswith("aliquot: refused 41 MiB")
    for part in ("100 MiB", "60 MiB are reserved", "ALIQUOT_SIMGPU_HOST_BYTES", "1GiB"):
        assert part in line
    assert holder.ask("reserve", 0, 40 * MIB) == "ok"  # what the other left is there again


def test_more_than_is_free_is_refused_whatever_the_budget(probe: Any) -> None:
    asker = probe(ALIQUOT_SIMGPU="h200:8")
    # A machine of 8 H200 has more VRAM than a test machine has memory.
    answers = [asker.ask("reserve", card, 140 << 30) for card in range(8)]
    assert "out-of-host-budget" in answers
    assert "are free" in asker.end()


def test_the_default_is_a_part_of_the_host(show: Any) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    limit = show("show", "--json", ALIQUOT_SIMGPU_HOST_BYTES=None)["host_budget"]["limit_bytes"]
    assert 0 < limit <= 0.7 * total


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("8GiB", 8 << 30),
        ("8gi", 8 << 30),
        ("500MB", 500_000_000),
        ("1k", 1000),
        ("12345", 12345),
        ("2 MiB", 2 << 20),
    ],
)
def test_sizes(text: str, limit: int, show: Any) -> None:
    assert show("show", "--json", ALIQUOT_SIMGPU_HOST_BYTES=text)["host_budget"]["limit_bytes"] == limit


@pytest.mark.parametrize("text", ["lots", "-1", "8X", "8GiBs", "99999999999999999999", "16777216Ti", "i"])
def test_nonsense_is_named_and_ignored(text: str, tool: Any) -> None:
    done = tool("show", "--json", ALIQUOT_SIMGPU_HOST_BYTES=text)
    assert done.returncode == 0
    assert f"ALIQUOT_SIMGPU_HOST_BYTES={text} is not a size" in done.stderr
