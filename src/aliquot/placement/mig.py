"""Where MIG instances may stand on a card.

A card's memory is divided into slices, 8 on most models. An instance of a profile takes some in a row, and
may begin only where the profile says (NVIDIA Multi-Instance GPU User Guide, "MIG Device Placement"). Memory
slices alone decide: with the placements that the catalogue lists, compute slices cannot run out before them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aliquot.catalog.models import MigLayout, MigProfile


class Instance(NamedTuple):
    """An instance on a card."""

    profile: str
    start: int
    """Its first memory slice."""


def profile_of(layout: MigLayout, name: str) -> MigProfile | None:
    """The layout's profile of that name, if it has one."""
    return next((profile for profile in layout.profiles if profile.name == name), None)


def legal_starts(layout: MigLayout, held: Iterable[Instance], profile: MigProfile) -> tuple[int, ...]:
    """Memory slices at which one more instance may begin, ascending."""
    instances = tuple(held)
    if sum(each.profile == profile.name for each in instances) >= profile.instances:
        return ()
    taken = _taken(layout, instances)
    return tuple(
        start
        for start in profile.placements
        if start + profile.memory_slices <= layout.memory_slices
        and not taken & _slices(start, profile.memory_slices)
    )


def best_start(layout: MigLayout, held: Iterable[Instance], profile: MigProfile) -> int | None:
    """The legal start that leaves the most for others, None where there is none.

    What is left is counted in places at which an instance of any profile could still begin, each weighed by
    its memory slices, so that large profiles stay possible. Ties go to the highest start.
    """
    instances = tuple(held)
    starts = legal_starts(layout, instances, profile)
    if not starts:
        return None
    return max(starts, key=lambda start: (_left(layout, (*instances, Instance(profile.name, start))), start))


def is_legal(layout: MigLayout, held: Iterable[Instance]) -> bool:
    """Whether instances may stand together: each where its profile allows, none on another's slices."""
    placed: list[Instance] = []
    for each in held:
        profile = profile_of(layout, each.profile)
        if profile is None or each.start not in legal_starts(layout, placed, profile):
            return False
        placed.append(each)
    return True


def compute_milli(layout: MigLayout, profile: MigProfile) -> int:
    """What an instance takes of the card's compute in the books, in thousandths: its compute slices."""
    return profile.compute_slices * 1000 // max(each.compute_slices for each in layout.profiles)


def _left(layout: MigLayout, instances: tuple[Instance, ...]) -> int:
    return sum(
        profile.memory_slices * len(legal_starts(layout, instances, profile)) for profile in layout.profiles
    )


def _taken(layout: MigLayout, instances: Iterable[Instance]) -> int:
    taken = 0
    for each in instances:
        profile = profile_of(layout, each.profile)
        taken |= _slices(each.start, profile.memory_slices) if profile else 0
    return taken


def _slices(start: int, count: int) -> int:
    return ((1 << count) - 1) << start
