"""The region is only bytes that this user can write: damage is refused or bounded, never a crash."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

HEADER_BYTES = 1104
COMMANDS = (
    ["show", "--json"],
    ["processes", "--json"],
    ["record", "--card", "1"],
    ["mig", "list", "--json"],
    ["mig", "profiles", "--json"],
    ["fault", "list", "--json"],
    ["events"],
)


@pytest.fixture
def region(tool: Any, simgpu_home: Path) -> Path:
    assert tool("show").returncode == 0
    (path,) = simgpu_home.iterdir()
    return path


@pytest.mark.parametrize(
    ("offset", "value", "told"),
    [
        (0, struct.pack("<Q", 1), "it is not one"),
        (8, struct.pack("<I", 99), "it has layout version 99, this library knows"),
        (12, struct.pack("<I", 8), "its header is damaged"),
        (16, struct.pack("<Q", 2**63), "its header is damaged"),
        (24, struct.pack("<I", 1 << 20), "its header is damaged"),
    ],
)
def test_another_layout_is_refused_with_a_way_out(
    offset: int, value: bytes, told: str, region: Path, tool: Any, probe: Any
) -> None:
    with region.open("r+b") as file:
        file.seek(offset)
        file.write(value)
    done = tool("show")
    assert done.returncode == 1
    assert told in done.stderr
    assert "reset" in done.stderr
    assert probe().greeting.startswith("unavailable ")
    assert tool("reset").returncode == 0
    assert tool("show").returncode == 0


@pytest.mark.parametrize("size", [0, 8, HEADER_BYTES - 1, HEADER_BYTES, 1 << 20])
def test_a_truncated_region_is_refused(size: int, region: Path, tool: Any) -> None:
    os.truncate(region, size)
    done = tool("show")
    assert done.returncode == 1
    assert "cut short" in done.stderr


def test_a_region_of_an_earlier_boot_is_replaced(region: Path, tool: Any, probe: Any) -> None:
    text = region.read_bytes()[:HEADER_BYTES]
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    at = text.index(boot_id)
    with region.open("r+b") as file:
        file.seek(at)
        file.write(b"0" * len(boot_id))
        file.seek(HEADER_BYTES)
        file.write(b"\xff" * 5000)
    newcomers = [probe(), probe()]
    assert [one.greeting for one in newcomers] == ["ready", "ready"]
    assert newcomers[0].ask("reserve", 0, 1 << 30) == "ok"
    assert newcomers[1].used() == 1 << 30


@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "missing target"])
def test_what_is_not_a_plain_file_is_refused(kind: str, region: Path, tool: Any) -> None:
    real = region.rename(region.with_name("real"))
    if kind == "folder":
        region.mkdir()
    elif kind == "fifo":
        os.mkfifo(region)
    else:
        region.symlink_to(real if kind == "link" else real.with_name("nothing"))
    done = tool("show")
    assert done.returncode == 1
    assert "cannot be used" in done.stderr


def test_a_home_that_others_can_write_is_refused(tool: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    done = tool("show", ALIQUOT_SIMGPU_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "others can write to it" in done.stderr
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    assert "not a folder" in tool("show", ALIQUOT_SIMGPU_HOME=str(tmp_path / "file")).stderr


@pytest.mark.sanitized
@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_are_bounded(seed: int, region: Path, tool: Any, probe: Any) -> None:
    """Behind the header is noise: readers answer, newcomers get in or are told, turns are taken."""
    rng = random.Random(seed)
    with region.open("r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(_noise(rng, 5_000_000))
    for command in COMMANDS:
        done = tool(*command)
        assert done.returncode in (0, 1), (command, done.returncode, done.stderr)
    newcomer = probe()
    if newcomer.greeting != "ready":
        assert newcomer.greeting.startswith("too-many-processes")
        return
    newcomer.ask("reserve", 0, 1 << 20)
    newcomer.ask("release", 0, 1 << 20)
    assert newcomer.ask("acquire", 0) == "ok"
    assert newcomer.ask("give", 0) == "ok"
    newcomer.kill()
    assert tool("processes", "--json").returncode == 0


@pytest.mark.sanitized
def test_flipped_bytes_under_a_live_process(region: Path, tool: Any, probe: Any) -> None:
    rng = random.Random(1)
    victim = probe()
    size = region.stat().st_size
    for _ in range(30):
        with region.open("r+b") as file:
            for _ in range(200):
                # Mostly where the words are that all processes read: slots and accounts.
                file.seek(HEADER_BYTES + int((size - HEADER_BYTES - 64) * rng.random() ** 6))
                file.write(rng.randbytes(rng.choice((1, 8, 64))))
        for command in (
            ("reserve", 0, 4096),
            ("release", 0, 4096),
            ("acquire", 0),
            ("yield?", 0),
            ("give", 0),
        ):
            assert victim.ask(*command) != ""
        assert tool("processes", "--json").returncode == 0
    assert victim.process.poll() is None


def _noise(rng: random.Random, size: int) -> bytes:
    """Half random words, half words that look plausible: small numbers, all ones, this process' pid."""
    words = [
        rng.choice((rng.getrandbits(64), rng.randrange(300), 2**64 - 1, os.getpid() << 42, 0))
        for _ in range(1 << 14)
    ]
    block = struct.pack(f"<{len(words)}Q", *words)
    return (block * (size // len(block) + 1))[:size]
