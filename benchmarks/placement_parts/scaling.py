"""How fast, and how that grows: one process per size, so that memory is that size's own.

    python -m benchmarks.placement_parts.scaling NODES.csv PODS.csv CARDS

plays the arrivals-only protocol on a cluster of about so many cards (the trace's nodes repeated, or a part
of them) and prints what it took as JSON. Every decision is timed by itself.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

from aliquot import native
from aliquot.bench import BenchmarkUnavailable
from aliquot.bench.report import quantile
from aliquot.placement.packing import make_packing
from aliquot.placement.packing.compiled import CompiledPacking
from benchmarks.placement_parts.arrivals import make_scorer
from benchmarks.placement_parts.made_up import made_up
from benchmarks.placement_parts.traces import Trace, read, sample

CARDS = (1_000, 3_000, 6_212, 12_000, 25_000, 50_000, 100_000)
MADE_UP = "made-up"
_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Speed:
    """What one size took. Latencies in milliseconds of the processor's time, memory in MiB."""

    cards: int
    decisions: int
    decisions_per_s: float
    seen_p50_ms: float
    seen_p99_ms: float
    new_p99_ms: float
    elapsed_p99_ms: float
    """By the clock on the wall, of all decisions: more than the others where the machine has other work."""
    rss_mib: float
    what_if_us: float


def resized(trace: Trace, cards: int, seed: int = 0) -> Trace:
    """The trace on its nodes repeated, or on a part of them: about so many cards. Pods stay as they are."""
    shapes = list(trace.shapes)
    random.Random(seed).shuffle(shapes)
    chosen = []
    total = 0
    while total < cards:
        chosen.append(shapes[len(chosen) % len(shapes)])
        total += len(chosen[-1].devices)
    return replace(trace, shapes=tuple(chosen))


def play(trace: Trace, policy: str, seed: int = 0, arrivals: float = 1.3) -> Speed:
    """Decides for one sample, every decision timed."""
    drawn = sample(trace, seed, arrivals)
    packing = make_packing(drawn.shapes)
    assert isinstance(packing, CompiledPacking)
    scorer = make_scorer(trace, packing, policy, seed)
    new: list[float] = []
    seen: list[float] = []
    waited: list[float] = []
    known: set[object] = set()
    for pod in drawn.arrivals:
        begun, came = thread_time_ns(), perf_counter_ns()
        scorer.observe(pod.demand)
        scorer.place(pod.demand)
        taken = (thread_time_ns() - begun) / 1e6
        waited.append((perf_counter_ns() - came) / 1e6)
        (seen if pod.demand in known else new).append(taken)
        known.add(pod.demand)
    seconds = (sum(new) + sum(seen)) / 1000
    return Speed(
        cards=trace.devices,
        decisions=len(drawn.arrivals),
        decisions_per_s=len(drawn.arrivals) / seconds,
        seen_p50_ms=quantile(sorted(seen), 0.5),
        seen_p99_ms=quantile(sorted(seen), 0.99),
        new_p99_ms=quantile(sorted(new), 0.99),
        elapsed_p99_ms=quantile(sorted(waited), 0.99),
        rss_mib=_rss_mib(),
        what_if_us=_what_if_us(packing, scorer, drawn.arrivals[0].demand),
    )


def measured(nodes: Path | None, pods: Path | None, cards: int, policy: str) -> Speed:
    """`play` in a process of its own. Raises `BenchmarkUnavailable` where it fails."""
    files = [str(nodes), str(pods)] if nodes and pods else [MADE_UP, MADE_UP]
    command = [sys.executable, "-m", __name__, *files, str(cards), policy]
    root = native.checkout()
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, cwd=root, check=False)
    if done.returncode != 0:
        raise BenchmarkUnavailable(f"{cards} cards: {done.stderr.strip().splitlines()[-1:]}")
    return Speed(**json.loads(done.stdout))


def _what_if_us(packing: CompiledPacking, scorer: object, demand: object) -> float:
    """Microseconds to copy the state and choose on the copy; the best of some, as nothing is kept for the
    copy."""
    times = []
    for _ in range(20):
        begun = perf_counter_ns()
        copy = packing.copy()
        scorer.on(copy).choose(demand)  # type: ignore[attr-defined]
        times.append((perf_counter_ns() - begun) / 1000)
    return min(times)


def _rss_mib() -> float:
    """The most memory that this process had resident, from the kernel (proc(5), VmHWM)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkUnavailable("the kernel does not say how much memory this process has")


def main(arguments: Sequence[str]) -> None:
    """See the module's docstring."""
    nodes, pods, cards, policy = arguments
    trace = made_up(1200, 8000, 0) if nodes == MADE_UP else read(Path(nodes), Path(pods))
    whole = int(cards) == 0
    print(json.dumps(asdict(play(trace if whole else resized(trace, int(cards)), policy))))


if __name__ == "__main__":
    main(sys.argv[1:])
