"""What the shell offers where a name is expected. A failure offers nothing: it must not disturb typing."""

from __future__ import annotations

from aliquot.catalog import qos_levels as levels
from aliquot.limits import Slice


def slice_names(incomplete: str) -> list[str]:
    """Names of this user's slices."""
    try:
        return [each.name for each in Slice.all() if each.name.startswith(incomplete)]
    except OSError:
        return []


def qos_levels(incomplete: str) -> list[tuple[str, str]]:
    """Levels of service, with what they mean."""
    return [(level.name, level.summary) for level in levels().values() if level.name.startswith(incomplete)]
