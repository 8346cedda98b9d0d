"""How soon a program that went past the limiter is found by the driver's figures, and how soon it is gone.

`aliquot guard --policy stop` runs by the rules that ship with it, as a person runs it. The program is started
without the limiter at any moment between two of its looks, and does not listen to SIGTERM. Time counts from
when it begins to make its context.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aliquot
from aliquot.bench import BenchmarkUnavailable, Report
from aliquot.model import Device
from aliquot.policy.guard import default_rules
from aliquot.vendors import nvidia, nvml, nvml_processes

from .stage import Stage

PROGRAM = Path(__file__).with_name("stranger.py")
STRANGERS = 20
GOAL_S = 5.0
_PATIENCE_S = 30.0


def measure(report: Report, stage: Stage) -> None:
    """Adds the figures of strangers. Raises what `Stage` raises, and `RuntimeError`."""
    if not stage.ours:
        raise BenchmarkUnavailable(
            "the guard compares with this project's slices", hint="leave --preload out"
        )
    dice = random.Random(0)
    found: list[float] = []
    stopped: list[float] = []
    with _guarding(stage) as guard:
        for _ in range(report.samples(STRANGERS)):
            time.sleep(dice.uniform(0, default_rules().interval_ns / 1e9))
            seconds = _one(stage, guard)
            found.append(seconds[0])
            stopped.append(seconds[1])
    for name, samples in (("detected", found), ("stopped", stopped)):
        report.add(f"limiter.bypass_{name}_s", samples, unit="s", better="lower", goal=GOAL_S)
        report.add(f"limiter.bypass_{name}_worst_s", [max(samples)], unit="s", better="lower", goal=GOAL_S)
    report.note(f"bypass: {len(found)} strangers that ignore SIGTERM, one after another")


class _Guard:
    """The guard that runs; its events one by one."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._rest = b""

    def next_event(self, name: str, pid: int | None = None) -> None:
        """Waits for an event; the others before it are passed over. Raises `RuntimeError`."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            event = self._read(end)
            if event["event"] == name and (pid is None or event["pid"] == pid):
                return

    def _read(self, end: float) -> dict[str, Any]:
        assert self._process.stdout
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not more:
                raise RuntimeError("the guard said nothing more")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


@contextmanager
def _guarding(stage: Stage) -> Iterator[_Guard]:
    """Against this user alone, so that on a real card nobody else's programs are in danger."""
    rules = stage.machine.parent / "rules.toml"
    rules.write_text(f'homes = ["{stage.slices}"]\nonly_uid = {os.getuid()}\n', encoding="utf-8")
    where = ["--simulate"] if stage.card is None else ["--device", stage.card.uuid]
    command = [sys.executable, "-m", "aliquot", "guard", "--policy", "stop", "--json", "--rules", str(rules)]
    environment = {
        **(stage.base if stage.card is None else stage.system),
        "PYTHONPATH": str(Path(aliquot.__file__).parents[1]),
    }
    with subprocess.Popen(
        [*command, *where], env=environment, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
    ) as process:
        try:
            guard = _Guard(process)
            guard.next_event("guarding")
            yield guard
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE_S)
            finally:
                process.kill()


def _one(stage: Stage, guard: _Guard) -> tuple[float, float]:
    """Seconds until one stranger was found, and until it was gone."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)], env=stage.bare("card"), stdout=subprocess.PIPE, text=True
    ) as stranger:
        try:
            assert stranger.stdout
            began = stranger.stdout.readline()
            if not began:
                raise RuntimeError(f"the stranger ended with {stranger.wait(_PATIENCE_S)}")
            if stage.card and not _is_listed(stage.card, stranger.pid):
                raise BenchmarkUnavailable("the driver lists no processes here, as in a container")
            guard.next_event("found", stranger.pid)
            found_ns = time.monotonic_ns()
            stranger.wait(_PATIENCE_S)
            gone_ns = time.monotonic_ns()
        finally:
            stranger.kill()
    return (found_ns - int(began)) / 1e9, (gone_ns - int(began)) / 1e9


def _is_listed(card: Device, pid: int) -> bool:
    with nvml.opened(nvidia.nvml_library(card.kind)) as library:
        return pid in nvml_processes.processes(library, library.device(card.uuid))
