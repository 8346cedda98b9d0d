"""Several programs on one simulated card, the tool that looks at it, and its record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..lines import LineProgram

CLIENT = Path(__file__).with_name("engine_client.py")


Start = Callable[..., LineProgram]
Tool = Callable[..., str]


@pytest.fixture
def card_env(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    return dict(simgpu_env) | {"ALIQUOT_SIMGPU": "h100:1", "ALIQUOT_SIMGPU_HOST_BYTES": "1Ti"}


@pytest.fixture
def start(card_env: dict[str, str]) -> Iterator[Start]:
    started: list[LineProgram] = []

    def one(**env: str) -> LineProgram:
        started.append(LineProgram([sys.executable, CLIENT], card_env | env))
        return started[-1]

    yield one
    for client in started:
        client.kill()


@pytest.fixture
def tool(native_dir: Path, card_env: dict[str, str]) -> Tool:
    """Runs aliquot-simgpu on the same machine; a refusal is an error."""

    def run(*arguments: str) -> str:
        program = native_dir / "bin" / "aliquot-simgpu"
        done = subprocess.run(
            [program, *arguments], env=card_env, capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout

    return run


def read_record(tool: Tool, since_ns: int = 0) -> list[dict[str, Any]]:
    return json.loads(tool("record", "--since", str(since_ns)))


def busy_ms(record: list[dict[str, Any]]) -> dict[int, float]:
    busy: dict[int, float] = defaultdict(float)
    for interval in record:
        busy[interval["pid"]] += interval["busy_ns"] / 1e6
    return busy


def overlap_ms(record: list[dict[str, Any]]) -> float:
    end = total = 0
    for interval in sorted(record, key=lambda each: each["start_ns"]):
        total += max(0, min(end, interval["end_ns"]) - interval["start_ns"])
        end = max(end, interval["end_ns"])
    return total / 1e6
