"""`aliquot bench limiter --preload`: another library that limits memory, measured as ours is."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("programs") / "interposer.c"
CALLS = 3 * 20_000
"""Of each kind in a quick run, at the least."""


@pytest.fixture(scope="module")
def build(native_build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the interposer and of a library that does nothing."""
    folder = tmp_path_factory.mktemp("interposers")
    compiler = native_build / "zig/cc"
    for name, source in (("other", str(SOURCE)), ("idle", "-xc /dev/null")):
        target = folder / f"{name}.so"
        command = [
            str(compiler) if compiler.is_file() else "gcc",
            "-O2",
            "-shared",
            "-fPIC",
            "-o",
            str(target),
        ]
        subprocess.run([*command, *source.split(" "), "-lpthread", "-ldl"], check=True, timeout=100)
    return folder


def bench(native_dir: Path, native_build: Path, file: Path, *arguments: str) -> str:
    """What a quick run of the part about calls said; its figures are in `file`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ALIQUOT_S")}
    env |= {"COLUMNS": "240", "ALIQUOT_NATIVE_DIR": str(native_dir), "ALIQUOT_BUILD_DIR": str(native_build)}
    command = ["bench", "limiter", "--quick", "--only", "calls", "--json", str(file), *arguments]
    done = subprocess.run(
        [sys.executable, "-m", "aliquot", *command],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figures(file: Path) -> dict[str, float]:
    return {each["name"]: each["value"] for each in json.loads(file.read_text())["results"]}


def test_another_library_is_measured_beside_ours(
    native_dir: Path, native_build: Path, build: Path, tmp_path: Path
) -> None:
    """Its lock, its total and its system calls are seen, ours has none; both ran on the same driver."""
    region = tmp_path / "region"
    settings = [f"OTHER_REGION={region}", "OTHER_LIMIT={vram}"]
    arguments = [f"--preload={build / 'other.so'}", *(f"--env={each}" for each in settings)]
    bench(native_dir, native_build, tmp_path / "other.json", *arguments)
    bench(native_dir, native_build, tmp_path / "ours.json")
    other, ours = figures(tmp_path / "other.json"), figures(tmp_path / "ours.json")
    assert set(other) < set(ours)
    assert "limiter.launch_limited_added_ns" not in other  # nobody said how it is told of a limit on compute
    for name in ("limiter.alloc_free_added_ns.live_0", "limiter.alloc_free_added_ns.live_10000"):
        assert other[name] > 100  # two system calls and two locks
        assert other[name] > ours[name]
    assert other["limiter.mem_info_added_ns"] > ours["limiter.mem_info_added_ns"]
    _, used, limit, allocations, launches, _ = struct.unpack("6Q", region.read_bytes()[:48])
    assert limit == 1 << 40  # what {vram} stands for
    assert allocations > CALLS
    assert launches > CALLS
    assert used < limit


def test_a_library_that_is_not_in_the_way_is_not_measured(
    native_dir: Path, native_build: Path, build: Path, tmp_path: Path
) -> None:
    said = bench(native_dir, native_build, tmp_path / "idle.json", f"--preload={build / 'idle.so'}")
    assert figures(tmp_path / "idle.json") == {}
    assert "does not stand between a program and its driver" in " ".join(said.split())
