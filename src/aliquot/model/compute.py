"""How much compute is asked for: a part of whatever card it becomes, or a speed that a card must have."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from aliquot.errors import InvalidValueError
from aliquot.model.quantities import UNSTATED, WHOLE_CARD, Ppm

_PERCENT: Final = re.compile(r"\s*(?P<number>[0-9]+(?:\.[0-9]+)?)\s*%\s*", re.ASCII)
_EXAMPLES: Final = "examples: --compute 30%, --compute 12.5%, --tflops 20"
_MOST_TFLOPS: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeRequest:
    """What a slice is guaranteed of a card's compute while others want it: one of the two, or neither."""

    part: Ppm = UNSTATED
    """Of the card, whichever it is."""
    tflops: float = 0.0
    """Dense half precision on the matrix units (as the catalogue counts a card's speed): a different part of
    each model."""

    def __post_init__(self) -> None:
        if self.part and self.tflops:
            raise InvalidValueError(
                "compute is asked for twice: as a part of the card, and in TFLOPS", hint="leave one out"
            )
        if not 0 <= self.part <= WHOLE_CARD:
            raise InvalidValueError(f"{self.part} is not a part of a card in millionths")
        if not math.isfinite(self.tflops) or not 0 <= self.tflops <= _MOST_TFLOPS:
            raise InvalidValueError(f"{self.tflops} TFLOPS is not a speed", hint=_EXAMPLES)

    @property
    def stated(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.part or self.tflops)

    def of(self, card_tflops: float) -> Ppm:
        """The part of a card of that speed, at least one millionth where anything is asked for.

        Raises `InvalidValueError` where the card is slower than what is asked for.
        """
        if not self.tflops:
            return self.part
        if self.tflops > card_tflops:
            raise InvalidValueError(
                f"{self.tflops:g} TFLOPS were asked for, and the card has {card_tflops:g} (fp16, dense)",
                hint="ask for less, or choose another card with --device",
            )
        return Ppm(max(1, round(self.tflops / card_tflops * WHOLE_CARD)))


def parse_percent(text: str) -> Ppm:
    """Reads a part of a card, e.g. `30%` or `12.5 %`: more than 0, at most 100, in steps of a millionth.

    The sign is required, so that nobody's 0.3 becomes 0.3%. Raises `InvalidValueError`.
    """
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise InvalidValueError(f"{text!r} is not a part of a card", hint=_EXAMPLES)
    part = Fraction(match["number"]) * WHOLE_CARD / 100
    if not 0 < part <= WHOLE_CARD:
        raise InvalidValueError(f"{text!r} is not a part of a card: it is more than 0% and at most 100%")
    if part.denominator != 1:
        raise InvalidValueError(f"{text!r} is finer than a millionth of a card", hint=_EXAMPLES)
    return Ppm(int(part))


def parse_tflops(text: str) -> float:
    """Reads a speed in TFLOPS, e.g. `20` or `0.5`. Raises `InvalidValueError`."""
    try:
        speed = float(text)
    except ValueError:
        raise InvalidValueError(f"{text!r} is not a number of TFLOPS", hint=_EXAMPLES) from None
    if not math.isfinite(speed) or not 0 < speed <= _MOST_TFLOPS:
        raise InvalidValueError(f"{text!r} TFLOPS is not a speed: it is a number above 0", hint=_EXAMPLES)
    return speed
