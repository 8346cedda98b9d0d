"""The limiter: added time a call, exactness of shares, work kept, latency, memory, whole programs,
and how soon the guard finds who goes past it.

    aliquot bench limiter [--only calls,shares,latency,memory,programs,bypass] [--seconds S] [--plot FILE.png]
                          [--preload OTHER.so] [--env KEY=VALUE]... [--real]

With --preload another interposer is measured in the place of the limiter: the same drivers, programs and
judges. In the values of --env, {percent}, {vram} (bytes) and {name} stand for what the slice gets. With
--real, tenants share this machine's first real card; without it a simulated one, which records who had it.

Kernels of the tenants wait and compute nothing, but hand-overs need a processor in time. On a machine with
other work, real-time priority gives figures as on an idle one: `chrt -f 5 aliquot bench limiter`.
"""

from __future__ import annotations

from pathlib import Path

from aliquot import native
from aliquot.bench import BenchmarkUnavailable, Report, benchmark
from benchmarks.limiter_parts import bypass, calls, latency, memory, options, plot, programs, shares, stage


def _picture(report: Report, chosen: options.Options, curves: shares.Curves) -> None:
    file = chosen.plot or (native.checkout() or Path.cwd()) / "build" / "bench" / "limiter-shares.png"
    try:
        plot.draw(curves, file)
    except ImportError:
        report.note("no picture of the shares: matplotlib is not installed")
    else:
        report.note(f"shares over time: {file}")


@benchmark("limiter", summary="what the limiter costs a call, how exactly it shares a card", arguments=True)
def measure(report: Report) -> None:
    """Each part adds its figures; one that cannot run here is said to be missing."""
    chosen = options.parse(report.arguments, quick=report.quick)
    parts = {
        "calls": calls.measure,
        "shares": shares.measure,
        "latency": latency.measure,
        "memory": memory.measure,
        "programs": programs.measure,
        "bypass": bypass.measure,
    }
    for name in chosen.parts:
        with stage.opened(chosen) as opened:
            try:
                curves = parts[name](report, opened)
            except BenchmarkUnavailable as error:
                report.skip(f"limiter.{name}", error.reason)
                continue
        if curves:
            _picture(report, chosen, curves)
