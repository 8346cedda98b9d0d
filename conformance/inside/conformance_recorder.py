"""A pytest plugin: writes down what becomes of each test, at once, so that a crash loses nothing.

It runs inside the process of the suite, which sees this folder and nothing else of `conformance`. A line of
JSON an event goes to the file CONFORMANCE_RECORD; the file CONFORMANCE_ONLY, if set, names the tests to run.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path

import pytest

_LONGEST_TEXT = 6000
_RECORD = os.open(
    os.environ["CONFORMANCE_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
)
_PID = os.getpid()
_STICKY = frozenset({700, 702, 710, *range(714, 720)})
"""CUresults of faults of kernels, after which a context answers every call with the same (cuda.h)."""
_CONTEXT_LOST = 86
"""Exit status: the tests that are left need a process of their own."""


def _write(event: str, **fields: object) -> None:
    if os.getpid() == _PID:  # a test that forks must not speak for us
        os.write(_RECORD, (json.dumps({"event": event, "time": time.time(), **fields}) + "\n").encode())


class _Outcome:
    """What the reports of one test add up to: the worst of setup, call, teardown and its subtests."""

    def __init__(self) -> None:
        self.outcome = "passed"
        self.message = ""
        self.log = ""
        self.subtests_failed = 0
        self.begin = time.time()

    def add(self, report: pytest.TestReport) -> None:
        if hasattr(report, "context") and report.failed:
            self.subtests_failed += 1
        if report.failed:
            self._take("failed", _message_of(report), report)
        elif self.outcome != "failed" and report.skipped:
            expected = hasattr(report, "wasxfail")
            self._take("expected failure" if expected else "skipped", _message_of(report), report)

    def _take(self, outcome: str, message: str, report: pytest.TestReport) -> None:
        if self.outcome == "failed":  # the first failure says most
            return
        self.outcome, self.message = outcome, message[:_LONGEST_TEXT]
        self.log = _log_of(report)


def _message_of(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr or getattr(report, "wasxfail", ""))


def _log_of(report: pytest.TestReport) -> str:
    text = "\n".join(content for name, content in report.sections if "stderr" in name)
    return "\n".join([line for line in text.splitlines() if line.startswith("aliquot: ")][:20])


_running: dict[str, _Outcome] = {}


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module that cannot be imported, or that skips itself, is one test of that name."""
    if report.failed or report.skipped:
        name = f"{report.nodeid}::(collection)"
        _write("collected", tests=[name])
        outcome = "failed" if report.failed else "skipped"
        message = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _write("end", test=name, outcome=outcome, message=message[-_LONGEST_TEXT:], seconds=0.0, log="")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tells what there is, and leaves what is asked for."""
    _write("collected", tests=[item.nodeid for item in items])
    chosen = os.environ.get("CONFORMANCE_ONLY")
    if chosen:
        wanted = set(json.loads(Path(chosen).read_text(encoding="utf-8")))
        left_out = [item for item in items if item.nodeid not in wanted]
        items[:] = [item for item in items if item.nodeid in wanted]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart(nodeid: str) -> None:
    """The test begins."""
    _running[nodeid] = _Outcome()
    _write("start", test=nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A phase or a subtest of the test is over."""
    if report.nodeid in _running:
        _running[report.nodeid].add(report)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """The test is over."""
    end = _running.pop(nodeid)
    _write(
        "end",
        test=nodeid,
        outcome=end.outcome,
        message=end.message,
        log=end.log,
        subtests_failed=end.subtests_failed,
        seconds=round(time.time() - end.begin, 3),
    )
    if end.outcome == "failed" and _context_is_lost():
        os._exit(_CONTEXT_LOST)


def _context_is_lost() -> bool:
    """Whether a kernel's fault has ended the current context, which would fail all tests that come after."""
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return False
    return driver.cuStreamQuery(None) in _STICKY
