"""Pictures of what `aliquot bench placement` found. Needs matplotlib; raises `ImportError` without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.placement_parts.arrivals import Moment
from benchmarks.placement_parts.scaling import Speed


def draw_curves(curves: Mapping[str, Sequence[Moment]], ceiling: float | None, file: Path) -> None:
    """Allocation and fragmentation over what was asked for, one line per policy."""
    pyplot = _pyplot()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5))
    for policy, curve in curves.items():
        asked = [moment.asked_percent for moment in curve]
        width = 2.2 if policy == "default" else 1.1
        left.plot(asked, [moment.allocated_percent for moment in curve], label=policy, linewidth=width)
        right.plot(asked, [moment.fragmentation_percent for moment in curve], label=policy, linewidth=width)
    if ceiling is not None:
        left.axhline(ceiling, color="grey", linestyle=":", label="ceiling")
    left.set(xlabel="asked for, % of cards", ylabel="allocated, % of cards", xlim=(80, None), ylim=(78, 100))
    right.set(xlabel="asked for, % of cards", ylabel="fragmented, % of what is free", ylim=(0, 102))
    left.legend(fontsize=8)
    _save(figure, file)


def draw_growth(speeds: Sequence[Speed], policy: str, file: Path) -> None:
    """Decisions a second, latency and memory over the number of cards."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.2))
    cards = [speed.cards for speed in speeds]
    axes[0].semilogx(cards, [speed.decisions_per_s for speed in speeds], marker="o")
    axes[0].set(xlabel="cards", ylabel=f"decisions a second ({policy})", ylim=(0, None))
    axes[1].loglog(cards, [speed.seen_p99_ms for speed in speeds], marker="o", label="P99, type seen before")
    axes[1].loglog(cards, [speed.new_p99_ms for speed in speeds], marker="s", label="P99, new type")
    axes[1].set(xlabel="cards", ylabel="ms a decision")
    axes[1].legend(fontsize=8)
    axes[2].semilogx(cards, [speed.rss_mib for speed in speeds], marker="o")
    axes[2].set(xlabel="cards", ylabel="resident memory, MiB", ylim=(0, None))
    for axis in axes:
        axis.grid(alpha=0.3)
    _save(figure, file)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    _pyplot().close(figure)
