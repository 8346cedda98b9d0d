"""The levels of service are data, and what the limiter's design says of them is true of the data."""

from __future__ import annotations

import pytest

from aliquot.catalog import default_qos_level, qos_level, qos_levels
from aliquot.errors import InvalidValueError


def test_the_levels_in_order_of_rank() -> None:
    levels = list(qos_levels().values())
    assert [level.name for level in levels] == ["low", "medium", "high", "critical"]
    assert len({level.rank for level in levels}) == len(levels)
    assert default_qos_level().name == "medium"
    assert all(level.summary for level in levels)


def test_only_the_critical_level_preempts_and_bounds_what_others_have_in_flight() -> None:
    assert [level.name for level in qos_levels().values() if level.preempts] == ["critical"]
    in_flight = {level.name: level.neighbour_in_flight_ns for level in qos_levels().values()}
    assert in_flight["critical"] < min(bound for name, bound in in_flight.items() if name != "critical") / 10


def test_a_level_by_name() -> None:
    assert qos_level(" High ").name == "high"
    with pytest.raises(InvalidValueError) as refused:
        qos_level("gold")
    assert "low, medium, high, critical" in refused.value.hint
