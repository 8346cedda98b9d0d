"""The guard, as a person runs it, and the programs that it is to find."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .conftest import PROGRAMS

PATIENCE_S = 30.0
"""For what must happen at all; how soon is judged by itself."""
PROMISE_S = 5.0
HURRIED = "interval_ms = 100\ngrace_ms = 500\nkill_after_ms = 300\n"


class Watcher:
    """A guard that runs, and what it has said so far with the moment at which it did."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[tuple[float, dict[str, Any]]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append((time.monotonic(), json.loads(line)))

    @property
    def said(self) -> list[str]:
        """The names of the events so far, that of the beginning left out."""
        return [event["event"] for _, event in list(self.events)[1:]]

    def of(self, pid: int, name: str = "found", kind: str = "") -> list[tuple[float, dict[str, Any]]]:
        return [
            (at, event)
            for at, event in list(self.events)
            if event["event"] == name and event.get("pid") == pid and kind in ("", event["kind"])
        ]

    def wait_for(self, pid: int, name: str = "found", kind: str = "") -> tuple[float, dict[str, Any]]:
        """The first event of that name about a process. Fails where none comes."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if found := self.of(pid, name, kind):
                return found[0]
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
        raise AssertionError(f"no {name} {kind} of {pid} among {[event for _, event in self.events]}")

    def end(self) -> int:
        """Interrupts it; its exit status."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status


@contextmanager
def guarding(
    machine: Mapping[str, str],
    home: Path,
    *arguments: str,
    rules: str = "",
    hurried: bool = True,
    simulate: bool = True,
) -> Iterator[Watcher]:
    """A guard of the simulated cards, or the real ones, for which the slices of `home` count.

    It looks more often and waits less than by its own rules, unless it is not `hurried`.
    """
    rules = (HURRIED if hurried else "") + rules
    file = home / ".rules.toml"
    file.write_text(f'homes = ["{home}"]\n{rules}', encoding="utf-8")
    env = dict(machine)
    if simulate:
        env.pop("LD_LIBRARY_PATH", None)  # on a real card it may lead to the driver
        arguments = ("--simulate", *arguments)
    command = [sys.executable, "-m", "aliquot", "guard", "--json", "--rules", str(file), *arguments]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            watcher = Watcher(process)
            until(lambda: bool(watcher.events) or process.poll() is not None)
            yield watcher
        finally:
            process.kill()


@contextmanager
def program(
    env: Mapping[str, str], text: str, *arguments: str, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A program that has said "here": `from trespasser import *` is done for it."""
    whole = "from trespasser import *\n" + textwrap.dedent(text)
    with subprocess.Popen(
        [sys.executable, "-c", whole, *arguments],
        env={**env, "PYTHONPATH": str(PROGRAMS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            assert said == "here\n", (said, process.stderr.read() if process.stderr else "")
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
