"""Several programs on one simulated card, the tool that looks at it, and its record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

CLIENT = Path(__file__).with_name("engine_client.py")


class Client:
    """One program on the card: a line in, a line out."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, CLIENT],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.greeting = self.answer()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.send(line)
        return self.answer()

    def cpu_s(self) -> float:
        """Processor time so far, of user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Client]
Tool = Callable[..., str]


@pytest.fixture
def card_env(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    return dict(simgpu_env) | {"ALIQUOT_SIMGPU": "h100:1", "ALIQUOT_SIMGPU_HOST_BYTES": "1Ti"}


@pytest.fixture
def start(card_env: dict[str, str]) -> Iterator[Start]:
    started: list[Client] = []

    def one(**env: str) -> Client:
        started.append(Client(card_env | env))
        return started[-1]

    yield one
    for client in started:
        client.end()


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
