"""Shares over time as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .shares import STEP_NS

_COLUMNS = 3


def draw(curves: Mapping[str, Sequence[Mapping[str, float]]], file: Path) -> None:
    """One field for each cell, one line for each tenant. Raises `ImportError` without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(curves) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 2.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    fields = list(figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False).flat)
    for field, (name, steps) in zip(fields, curves.items(), strict=False):
        seconds = [index * STEP_NS / 1e9 for index in range(len(steps))]
        for tenant in steps[0] if steps else ():
            field.plot(seconds, [step[tenant] for step in steps], linewidth=1)
        field.set_title(name.replace("_", " "), fontsize=9)
        field.set_ylim(0, 100)
    for field in fields[len(curves) :]:
        field.axis("off")
    figure.supxlabel("seconds")
    figure.supylabel("percent of the card's busy time, each 100 ms")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
