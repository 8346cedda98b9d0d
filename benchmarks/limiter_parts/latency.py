"""What a critical slice waits for beside a flood, and what the flood still gets done.

The critical tenant launches a kernel of 100 us each 2 ms and waits for it; its latency counts from when the
launch was due. The flood launches kernels of 1 ms, 64 ahead, at the lowest level.
"""

from __future__ import annotations

from aliquot.bench import Report
from aliquot.bench.report import quantile

from .stage import Part, Stage
from .tenants import Observation, Tenant, observe

NEIGHBOUR_NS = 1_000_000
CRITICAL = Tenant(
    name="critical", part=Part(percent=50, qos="critical"), manner="--kernel 100000 --period 2000000"
)
FLOOD = Tenant(name="flood", part=Part(percent=50, qos="low"), manner=f"--kernel {NEIGHBOUR_NS} --depth 64")
GOAL_P99_RATIO, GOAL_FLOOD_KEPT = 1.10, 80.0


def measure(report: Report, stage: Stage) -> None:
    """Adds the figures of latency. Raises what `observe` raises."""
    seconds = stage.options.seconds
    alone = observe(stage, [CRITICAL], limited=False, seconds=seconds)
    bare = observe(stage, [CRITICAL, FLOOD], limited=False, seconds=seconds)
    both = observe(stage, [CRITICAL, FLOOD], limited=True, seconds=seconds)
    for where, seen in (("alone", alone), ("bare", bare), ("limited", both)):
        for label, fraction in (("p50", 0.5), ("p99", 0.99)):
            latency = _latency_us(seen, fraction)
            report.add(f"limiter.critical_{label}_us.{where}", [latency], unit="us", better="lower")
    over = (_latency_us(both, 0.99) - NEIGHBOUR_NS / 1000) / _latency_us(alone, 0.99)
    report.add("limiter.critical_p99_ratio", [over], unit="ratio", better="lower", goal=GOAL_P99_RATIO)
    left = 100 - both.busy_percent("critical")
    kept = 100 * both.busy_percent("flood") / left
    report.add("limiter.flood_kept_percent", [kept], unit="%", better="higher", goal=GOAL_FLOOD_KEPT)
    report.note(
        "critical_p99_ratio: (P99 beside the flood - one kernel of the flood, 1 ms) / P99 alone and bare"
    )


def _latency_us(seen: Observation, fraction: float) -> float:
    return quantile(seen.latencies_ns("critical"), fraction) / 1000
