"""Runs one module of a suite to its end: a crash or a hang loses one test, and the rest is run after it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from conformance import record
from conformance.record import Record
from conformance.suite import Module, Suite
from conformance.surroundings import Surroundings

_POLL_S: Final = 0.05
_COLLECTING_LIMIT_S: Final = 300.0
_DUMP_S: Final = 3.0
"""How long a hung process gets to write its threads' stacks (faulthandler, on SIGABRT)."""
_MOST_STARTS: Final = 200
"""A module of which more processes die than this is given up."""


class Stopped(Exception):
    """Somebody asked for the run's end. What was under way has no result, and is run when it is resumed."""


class ModuleRun:
    """One module's run. Its record lies in `files`.jsonl, what its processes printed in `files`.log.

    Where `stop` is set, the module's process is killed and `complete` raises `Stopped`.
    """

    def __init__(
        self, suite: Suite, module: Module, files: Path, stop: threading.Event | None = None
    ) -> None:
        self._suite = suite
        self._module = module
        self._stop = stop or threading.Event()
        files = files.absolute()
        self._events = files.with_name(files.name + ".jsonl")
        self._log = files.with_name(files.name + ".log")
        self._only = files.with_name(files.name + ".only")
        self._deadline = 0.0

    def complete(self, around: Surroundings, chosen: Sequence[str] | None = None) -> Record:
        """Runs what has no result yet; of `chosen` only, where it is given."""
        self._events.parent.mkdir(parents=True, exist_ok=True)
        self._deadline = time.monotonic() + self._suite.module_limit_s
        for _ in range(_MOST_STARTS):
            before = record.read(self._events)
            left = before.open_tests(chosen)
            if before.tests and not left:
                return before
            ended = self._run(around, left if before.tests else chosen)
            if not self._account_for(before, ended, chosen):
                break
        left = record.read(self._events).open_tests(chosen)
        record.append_failures(
            self._events, left, f"not run: too many of {self._module.name}'s processes died"
        )
        return record.read(self._events)

    def _account_for(self, before: Record, ended: str, chosen: Sequence[str] | None) -> bool:
        """Says what became of the test in which the process died. False if nothing can come of going on."""
        after = record.read(self._events)
        left = after.open_tests(chosen)
        if after.running in left:
            record.append_failures(self._events, [after.running], f"the process {ended}")
        elif not after.tests:
            name = self._module.name + record.COLLECTION
            record.append(self._events, "collected", tests=[name])
            record.append_failures(self._events, [name], f"the process {ended} while it collected tests")
        elif left and len(after.results) == len(before.results):
            record.append_failures(self._events, left, f"not run: the process {ended}")
        return time.monotonic() < self._deadline

    def _run(self, around: Surroundings, chosen: Sequence[str] | None) -> str:
        if self._stop.is_set():
            raise Stopped
        environment = {**around.environment, "CONFORMANCE_RECORD": str(self._events)}
        if chosen is not None:
            self._only.write_text(json.dumps(list(chosen)), encoding="utf-8")
            environment["CONFORMANCE_ONLY"] = str(self._only)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [*around.command, *self._module.arguments],
                env=environment,
                cwd=around.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_without_core_file,
            )
            try:
                return self._watch(process)
            finally:
                _kill_session(process)
                self._keep_use(around.use)

    def _keep_use(self, file: Path) -> None:
        """Of a process that was killed nothing is known."""
        with suppress(FileNotFoundError):
            told = json.loads(file.read_text(encoding="utf-8"))["use"]
            file.unlink()
            names = ("launches", "waited_ns", "refused_allocations")
            record.append(self._events, "use", processes=1, **{name: told[name] for name in names})

    def _watch(self, process: subprocess.Popen[bytes]) -> str:
        """Waits for the end of the process, or ends it when its time is up; says how it ended."""
        reader = record.Reader(self._events)
        begin = time.time()
        while process.poll() is None:
            if self._stop.wait(_POLL_S):
                raise Stopped
            if reason := self._is_late(reader.update(), begin):
                _dump_stacks(process)
                return reason
        status = process.returncode
        return (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )

    def _is_late(self, now: Record, begin: float) -> str:
        if now.running and now.running_since >= begin:
            if time.time() - now.running_since > self._suite.test_limit_s:
                return f"hung: the test took more than {self._suite.test_limit_s:g} s"
        elif not now.tests and time.time() - begin > _COLLECTING_LIMIT_S:
            return f"hung: more than {_COLLECTING_LIMIT_S:g} s"
        if time.monotonic() > self._deadline:
            return f"was stopped: the module took more than {self._suite.module_limit_s:g} s"
        return ""


def _without_core_file() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _dump_stacks(process: subprocess.Popen[bytes]) -> None:
    """Has pytest's faulthandler write to the log where the process hangs."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGABRT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_DUMP_S)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Nothing that a test started outlives its module."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
