"""What may be said to `aliquot bench placement`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aliquot.errors import InvalidValueError
from aliquot.placement.strategies import strategies

POLICIES = (
    "default",
    "default-online",
    "fgd",
    "best-fit",
    "dot-product",
    "gpu-packing",
    "gpu-clustering",
    "random",
)
PARTS = ("arrivals", "bound", "departures", "scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As they were given; see `parse`."""

    nodes: Path | None
    pods: Path | None
    policies: tuple[str, ...]
    arrivals: float
    seeds: int
    parts: tuple[str, ...]
    plots: Path | None
    lifetimes: Path | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise InvalidValueError(f"aliquot bench placement: {message}", hint=self.format_usage().strip())


def parse(arguments: Sequence[str], *, quick: bool) -> Options:
    """Raises `InvalidValueError`."""
    parser = _Parser(prog="aliquot bench placement", add_help=False, allow_abbrev=False)
    parser.add_argument("--nodes", type=Path, metavar="N.csv")
    parser.add_argument("--pods", type=Path, metavar="P.csv")
    parser.add_argument("--policy", action="append", metavar="NAME")
    parser.add_argument("--arrivals", type=float, default=1.3, metavar="X")
    parser.add_argument("--seeds", type=int, default=2 if quick else 10, metavar="N")
    parser.add_argument("--departures", action="store_true")
    parser.add_argument("--lifetimes", type=Path, metavar="P.csv")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--plots", type=Path, metavar="FOLDER")
    given = parser.parse_args(list(arguments))
    if (given.nodes is None) != (given.pods is None):
        raise InvalidValueError("--nodes and --pods go together")
    policies = tuple(dict.fromkeys(given.policy or POLICIES))
    for name in policies:
        if name.removesuffix("-online") not in strategies():
            raise InvalidValueError(
                f"there is no policy {name!r}",
                hint=f"there are: {', '.join((*strategies(), *POLICIES[1:2]))}",
            )
    if not 0.01 <= given.arrivals <= 100:
        raise InvalidValueError("--arrivals is 0.01 to 100 times the cards")
    if not 1 <= given.seeds <= 1000:
        raise InvalidValueError("--seeds is 1 to 1000")
    only = [part for part in ("departures", "scale") if getattr(given, part)]
    return Options(
        nodes=given.nodes,
        pods=given.pods,
        policies=policies,
        arrivals=given.arrivals,
        seeds=given.seeds,
        parts=tuple(only) or ("arrivals", "bound"),
        plots=given.plots,
        lifetimes=given.lifetimes,
    )
