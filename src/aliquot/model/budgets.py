"""How much of a workload may be disturbed at once."""

from __future__ import annotations

from dataclasses import dataclass

from aliquot.errors import InvalidValueError


@dataclass(frozen=True, slots=True, kw_only=True)
class DisruptionBudget:
    """At most so many claims of a workload may be disturbed, at least so many left; None is no bound."""

    workload: str
    max_disrupted: int | None = None
    min_available: int | None = None

    def __post_init__(self) -> None:
        bounds = [each for each in (self.max_disrupted, self.min_available) if each is not None]
        if not self.workload or not bounds or min(bounds) < 0:
            raise InvalidValueError(
                "a disruption budget names a workload, and max_disrupted, min_available or both",
                hint="e.g. {workload: search, min_available: 2}",
            )

    def allows(self, disturbed: int, standing: int) -> bool:
        """Whether `disturbed` of the `standing` claims may be disturbed together."""
        within = self.max_disrupted is None or disturbed <= self.max_disrupted
        return within and (self.min_available is None or standing - disturbed >= self.min_available)
