"""Added time a call: on a driver that returns at once, bare against limited, batch by batch in turn.

The figure is the processor time of the calling thread, so that other programs of the machine do not enter it;
on an idle core it is the time that passes. Each sample is the difference between a limited batch and the bare
one beside it, over the calls of a batch; a full run makes at least a million calls of each kind.
"""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from aliquot.bench import BenchmarkUnavailable, Report, native_program

from .stage import Part, Stage

ROUNDS = 50
CALLS = 20_000  # a batch: with 50 rounds a million
BLOCK = 2 << 20
SMALL_BLOCK = 4096
LIVE = (0, 10_000, 100_000)
GOAL_LAUNCH, GOAL_LAUNCH_LIMITED, GOAL_QUERY = 8.0, 15.0, 15.0
GOAL_ALLOC = {0: 100.0, 10_000: 100.0, 100_000: 250.0}
GOAL_PROCESSES_FACTOR = 2.0

_CALLS = {
    "launch": f"launch {CALLS}",
    "copy": f"copy {CALLS}",
    "mem_info": f"info {CALLS}",
    "alloc_free": f"pair {CALLS} {BLOCK}",
}


class Client:
    """One process that makes calls as it is told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [str(native_program("limiter-bench-calls"))],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()

    def tell(self, what: str) -> None:
        """Sends a line; the answer is read later, so that several clients work at once."""
        assert self.process.stdin
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """The next line. Raises `RuntimeError` where the client has ended."""
        assert self.process.stdout
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"the client ended with status {self.process.wait()}")
        return line

    def driver(self) -> str:
        """The file of the library whose functions it calls."""
        self.tell("who")
        return self.answer().strip()

    def cpu_ns(self) -> float:
        """Processor time of the batch that was told."""
        return float(self.answer().split()[1])

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass(frozen=True, slots=True)
class Sides:
    """As many bare clients as limited ones."""

    bare: Sequence[Client]
    limited: Sequence[Client]

    def tell(self, what: str) -> None:
        """Tells all, and waits until all have done it."""
        for side in (self.bare, self.limited):
            for client in side:
                client.tell(what)
            for client in side:
                client.answer()

    def added(self, what: str, rounds: int) -> list[float]:
        """Nanoseconds that a call of `what` takes longer where it is limited, a sample a round."""
        return [self._batch(self.limited, what) - self._batch(self.bare, what) for _ in range(rounds)]

    def tail_ns(self, count: int, size: int) -> tuple[float, float]:
        """The 99th percentile of an allocation's time while all of a side allocate: bare, and limited."""
        found: list[float] = []
        for side in (self.bare, self.limited):
            for client in side:
                client.tell(f"tail {count} {size}")
            found.append(statistics.median(client.cpu_ns() for client in side))
        return found[0], found[1]

    @staticmethod
    def _batch(side: Sequence[Client], what: str) -> float:
        for client in side:
            client.tell(what)
        return statistics.median(client.cpu_ns() for client in side) / int(what.split()[1])


@contextmanager
def sides(stage: Stage, part: Part, processes: int = 1, *, arbiter: bool = True) -> Iterator[Sides]:
    """The limited ones share a slice, whose card an arbiter lends, as `aliquot run` has it.

    Raises `BenchmarkUnavailable` where they reach the driver past what is to be measured.
    """
    with ExitStack() as stack:
        place = stack.enter_context(stage.place("null", part))
        if arbiter:
            stage.ensure_arbiter(place.slice)
        bare = [stack.enter_context(Client(stage.bare("null"))) for _ in range(processes)]
        limited = [stack.enter_context(Client(place.environment)) for _ in range(processes)]
        if limited[0].driver() == bare[0].driver():
            raise BenchmarkUnavailable(
                "the preloaded library does not stand between a program and its driver",
                hint="look for what it wants to be told by --env",
            )
        yield Sides(bare, limited)


def measure(report: Report, stage: Stage) -> None:
    """Adds the figures of calls. Raises what `Stage` and `Client` raise."""
    rounds = report.samples(ROUNDS)
    report.note(
        f"calls: processor time of the thread; {rounds} batches of {CALLS} calls, bare and limited in turn"
    )
    if stage.ours:  # first, as an arbiter stays
        with sides(stage, Part(), arbiter=False) as pair:
            _launch(report, pair, "limiter.launch_added_ns.no_arbiter", GOAL_LAUNCH, rounds)
    with sides(stage, Part()) as pair:
        _launch(report, pair, "limiter.launch_added_ns", GOAL_LAUNCH, rounds)
        _add(report, "limiter.mem_info_added_ns", pair.added(f"info {CALLS}", rounds), GOAL_QUERY)
        _add(report, "limiter.copy_added_ns", pair.added(f"copy {CALLS}", rounds), None)
        _alloc(report, pair, rounds)
    _launch_limited(report, stage, rounds)
    _processes(report, stage, rounds)


def _launch_limited(report: Report, stage: Stage, rounds: int) -> None:
    """With a ceiling on compute; another library says how it is told of one."""
    name = "limiter.launch_limited_added_ns"
    if not stage.ours and "{percent}" not in "".join(value for _, value in stage.options.env):
        report.skip(name, "no --env says {percent}")
        return
    with sides(stage, Part(percent=50, hard=True)) as pair:
        _launch(report, pair, name, GOAL_LAUNCH_LIMITED, rounds)


def _launch(report: Report, pair: Sides, name: str, goal: float, rounds: int) -> None:
    pair.tell(f"launch {CALLS}")  # what is made or measured once
    _add(report, name, pair.added(f"launch {CALLS}", rounds), goal)


def _alloc(report: Report, pair: Sides, rounds: int) -> None:
    for live in LIVE:
        pair.tell(f"live {live} {BLOCK}")
        samples = pair.added(f"pair {CALLS} {BLOCK}", rounds)
        _add(report, f"limiter.alloc_free_added_ns.live_{live}", samples, GOAL_ALLOC[live])
    pair.tell(f"live 0 {BLOCK}")
    _add(report, "limiter.alloc_free_added_ns.small", pair.added(f"pair {CALLS} {SMALL_BLOCK}", rounds), None)


def _processes(report: Report, stage: Stage, rounds: int) -> None:
    """All calls while several processes of a slice make them at once."""
    first = next(each for each in report.results if each.name == "limiter.alloc_free_added_ns.live_0")
    goal = GOAL_PROCESSES_FACTOR * max(first.value, 0.0)
    for count in (8,) if report.quick else (2, 4, 8, 16):
        with sides(stage, Part(), count) as pair:
            for name, what in _CALLS.items():
                pair.tell(what)
                samples = pair.added(what, max(3, rounds // count))
                judged = goal if count == 8 and what.startswith("pair") else None
                _add(report, f"limiter.{name}_added_ns.procs_{count}", samples, judged)


def _add(report: Report, name: str, samples: list[float], goal: float | None) -> None:
    report.add(name, samples, unit="ns", better="lower", goal=goal)
