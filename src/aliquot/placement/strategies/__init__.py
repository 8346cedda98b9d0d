"""How a node and its devices are chosen: strategies as data, the terms of their scores, and the scorers.

`Scorer` is the slow, obvious form; `CompiledScorer` the fast one with the same results. Which nodes may be
weighed for a claim at all is not decided here: candidates come in as masks.
"""

from aliquot.placement.strategies.mix import LearnedMix, Mix
from aliquot.placement.strategies.scorer import Scorer
from aliquot.placement.strategies.strategy import (
    DEFAULT,
    TERMS,
    OutlookParameters,
    Strategy,
    strategies,
    strategy,
)

__all__ = [
    "DEFAULT",
    "TERMS",
    "LearnedMix",
    "Mix",
    "OutlookParameters",
    "Scorer",
    "Strategy",
    "strategies",
    "strategy",
]
