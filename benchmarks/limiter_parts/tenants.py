"""Tenants that load one simulated card, and what its record says of them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aliquot.bench import native_program

from . import record
from .record import Interval
from .stage import Part, Place, Stage

WARM_UP_S = 1.0
"""Shares are to be steady within a second of a start."""
_PATIENCE_S = 60
_SLACK_NS = 200_000_000  # the record's last lines are written a little later


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One slice: its part of the card, and how its programs launch (arguments of limiter-bench-tenant)."""

    name: str
    part: Part
    manner: str
    processes: int = 1
    always_busy: bool = True
    """It has work at every moment, so that its share can be judged."""


@dataclass(slots=True, kw_only=True)
class Observation:
    """What happened between `begin` and `end` (CLOCK_MONOTONIC, ns)."""

    tenants: Sequence[Tenant]
    begin: int
    end: int
    intervals: list[Interval]
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """What each tenant's programs said at their end: launches, latencies_ns."""
    lost: bool = False
    """The record could not be followed fast enough."""
    recorded: bool = True
    """The card wrote down who had it. A real one does not: then what the tenants' kernels waited for counts,
    from their start to their end."""

    @property
    def names(self) -> list[str]:
        """In the order in which they were given."""
        return [tenant.name for tenant in self.tenants]

    def shares(self) -> dict[str, float]:
        """Percent of the card's busy time."""
        times = record.busy(self.intervals) if self.recorded else self._asked()
        return record.shares(times, self.names)

    def disposal_shares(self) -> dict[str, float]:
        """Percent of the time for which anybody had the card at its disposal."""
        return record.shares(record.at_disposal(self.intervals), self.names)

    def busy_percent(self, name: str | None = None) -> float:
        """Of the window: the card, or one tenant's work."""
        if not self.recorded:
            asked = self._asked()
            return 100 * sum(asked.values() if name is None else [asked[name]]) / (self.end - self.begin)
        kept = [each for each in self.intervals if name in (None, each.tenant)]
        return 100 * record.union(kept) / (self.end - self.begin)

    def kernels(self, name: str) -> int:
        """How many a tenant launched."""
        return sum(each["launches"] for each in self.reports[name])

    def _asked(self) -> dict[str, int]:
        return {name: sum(each["kernel_ns"] for each in told) for name, told in self.reports.items()}

    def latencies_ns(self, name: str) -> list[int]:
        """In ascending order."""
        return sorted(latency for each in self.reports[name] for latency in each["latencies_ns"])


def observe(
    stage: Stage,
    tenants: Sequence[Tenant],
    *,
    limited: bool,
    seconds: float,
    meanwhile: Callable[[Mapping[str, Place]], None] | None = None,
) -> Observation:
    """Lets them work for a second, and then watches them; `meanwhile` is called in the middle of that."""
    with ExitStack() as stack:
        places: dict[str, Place] = {}
        programs: list[tuple[Tenant, subprocess.Popen[str]]] = []
        for tenant in tenants:
            place = Place(stage.bare("card"), None)
            if limited:
                place = stack.enter_context(stage.place("card", tenant.part, tenant.name))
                stage.ensure_arbiter(place.slice)
            places[tenant.name] = place
            programs += [
                (tenant, stack.enter_context(_start(place, tenant))) for _ in range(tenant.processes)
            ]
        try:
            return _watch(stage, tenants, programs, places, seconds, meanwhile)
        finally:
            for _, program in programs:
                program.kill()


def _start(place: Place, tenant: Tenant) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(native_program("limiter-bench-tenant")), *tenant.manner.split()],
        env=dict(place.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _watch(
    stage: Stage,
    tenants: Sequence[Tenant],
    programs: Sequence[tuple[Tenant, subprocess.Popen[str]]],
    places: Mapping[str, Place],
    seconds: float,
    meanwhile: Callable[[Mapping[str, Place]], None] | None,
) -> Observation:
    for tenant, program in programs:
        assert program.stdout
        if program.stdout.readline() != "ready\n":
            raise RuntimeError(f"the tenant {tenant.name} ended with status {program.wait()}")
    for _, program in programs:
        assert program.stdin
        program.stdin.write("go\n")
        program.stdin.flush()
    started = time.monotonic_ns()
    time.sleep(WARM_UP_S)
    begin = time.monotonic_ns()
    seen = Observation(
        tenants=tenants, begin=begin, end=begin + int(seconds * 1e9), intervals=[], recorded=stage.has_record
    )
    change = (lambda: meanwhile(places)) if meanwhile else None
    if stage.has_record:
        who = {program.pid: tenant.name for tenant, program in programs}
        _record(stage, seen, who, seconds, change)
    else:
        _wait(seconds, change)
    for tenant, program in programs:
        out, _ = program.communicate(timeout=_PATIENCE_S)
        seen.reports.setdefault(tenant.name, []).append(json.loads(out))
    if not stage.has_record:
        seen.begin, seen.end = started, time.monotonic_ns()
    return seen


def _wait(seconds: float, change: Callable[[], None] | None) -> None:
    time.sleep(seconds / 2)
    if change:
        change()
    time.sleep(seconds / 2)


def _record(
    stage: Stage,
    seen: Observation,
    who: Mapping[int, str],
    seconds: float,
    change: Callable[[], None] | None,
) -> None:
    """Follows the card's record for so long, and keeps what it says of these processes."""
    trace = stage.machine.parent / "record.jsonl"
    with _follow(stage, trace, seen.begin, seconds) as following:
        _wait(seconds, change)
        following.wait(_PATIENCE_S)
    intervals, seen.lost = _read(trace, who)
    seen.intervals = record.clipped(intervals, seen.begin, seen.end)


def _follow(stage: Stage, trace: Path, begin: int, seconds: float) -> subprocess.Popen[bytes]:
    """The record as it grows; a little longer than the window, as runs are written down when they end."""
    whole_seconds = str(int(seconds + _SLACK_NS / 1e9) + 1)
    command = stage.tool(
        "record", "--follow", "--since", str(begin), "--seconds", whole_seconds, "--device", "0"
    )
    with trace.open("wb") as file:
        return subprocess.Popen(command, env=stage.base, stdout=file)


def _read(trace: Path, who: Mapping[int, str]) -> tuple[list[Interval], bool]:
    intervals: list[Interval] = []
    lost = False
    for line in trace.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry.get("gap"):
            lost = True
        elif entry["pid"] in who:
            intervals.append(Interval(entry["start_ns"], entry["end_ns"], who[entry["pid"]]))
    return intervals, lost
