"""What may be said to `aliquot bench limiter`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aliquot.errors import InvalidValueError

PARTS = ("calls", "shares", "latency", "memory", "programs", "bypass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As they were given; see `parse`."""

    parts: tuple[str, ...]
    preload: Path | None
    env: tuple[tuple[str, str], ...]
    plot: Path | None
    seconds: float
    real: bool
    """On this machine's real card; otherwise on a simulated one."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise InvalidValueError(f"aliquot bench limiter: {message}", hint=self.format_usage().strip())


def parse(arguments: Sequence[str], *, quick: bool) -> Options:
    """Raises `InvalidValueError`."""
    parser = _Parser(prog="aliquot bench limiter", add_help=False, allow_abbrev=False)
    parser.add_argument("--only", metavar="PART[,PART...]", default=",".join(PARTS))
    parser.add_argument("--preload", type=Path, metavar="OTHER.so")
    parser.add_argument("--env", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--seconds", type=float, default=2.0 if quick else 10.0, metavar="S")
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args(list(arguments))
    parts = tuple(filter(None, given.only.split(",")))
    if wrong := [part for part in parts if part not in PARTS]:
        raise InvalidValueError(f"there is no part {wrong[0]!r}", hint=f"there are: {', '.join(PARTS)}")
    if given.preload and not given.preload.is_file():
        raise InvalidValueError(f"there is no library at {given.preload}")
    if not 0.5 <= given.seconds <= 600:
        raise InvalidValueError("a cell takes 0.5 to 600 seconds")
    return Options(
        parts=parts,
        preload=given.preload.absolute() if given.preload else None,
        env=tuple(_pair(each) for each in given.env),
        plot=given.plot,
        seconds=given.seconds,
        real=given.real,
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidValueError(f"{text!r} is not KEY=VALUE")
    return name, value
