"""What the shell offers where a name is expected. A failure offers nothing: it must not disturb typing."""

from __future__ import annotations

from typing import Final

import typer

from aliquot.catalog import qos_levels as levels
from aliquot.errors import AliquotError
from aliquot.node import cards
from aliquot.node.places import all_slices, label
from aliquot.placement.strategies import strategies as known_strategies
from aliquot.vendors import simgpu, simgpu_cards

Offers = list[tuple[str, str]]
"""What may be typed, and what it is."""

_XIDS: Final = {
    8: "the GPU stopped processing",
    13: "graphics engine exception",
    31: "memory page fault",
    43: "a reset channel",
    45: "cleanup after an earlier error",
    48: "double-bit ECC error",
    63: "a row remapped, or a page retired",
    64: "a row not remapped, or a page not retired",
    74: "NVLink error",
    79: "fallen off the bus",
    94: "contained ECC error",
    95: "uncontained ECC error",
}
"""After NVIDIA's catalogue of Xid errors (GPU deployment and management documentation)."""


def slice_names(incomplete: str) -> list[str]:
    """Names of this user's slices."""
    try:
        return [name for name in map(label, all_slices()) if name.startswith(incomplete)]
    except (AliquotError, OSError):
        return []


def qos_levels(incomplete: str) -> Offers:
    """Levels of service, with what they mean."""
    return _beginning(incomplete, [(level.name, level.summary) for level in levels().values()])


def devices(incomplete: str) -> Offers:
    """UUIDs of the cards that programs get here."""
    try:
        found = cards.available_cards().devices
    except (AliquotError, OSError):
        return []
    return _beginning(incomplete, [(each.uuid, each.name) for each in found])


def strategies(incomplete: str) -> Offers:
    """Strategies of placing."""
    return _beginning(incomplete, [(each.name, each.summary) for each in known_strategies().values()])


def xids(incomplete: str) -> Offers:
    """Numbers of Xids."""
    return _beginning(incomplete, [(str(number), meaning) for number, meaning in _XIDS.items()])


def simulated_cards(incomplete: str) -> Offers:
    """Indices of the simulated cards."""
    try:
        cards = simgpu.machine().cards
    except (AliquotError, OSError):
        return []
    return _beginning(incomplete, [(str(card.index), card.name) for card in cards])


def simulated_processes(incomplete: str) -> Offers:
    """Processes that are on a simulated card now."""
    try:
        found = {record.pid: record.command for record in simgpu.processes() if record.running}
    except (AliquotError, OSError):
        return []
    return _beginning(incomplete, [(str(pid), command) for pid, command in found.items()])


def mig_profiles(context: typer.Context, incomplete: str) -> Offers:
    """Profiles into which the card named so far can be divided, those that still fit."""
    try:
        found = simgpu_cards.mig_profiles(int(context.params.get("device") or 0))
    except (AliquotError, OSError, ValueError):
        return []
    offers = [(each["name"], f"{each['remaining']} still fit") for each in found if each["remaining"]]
    return _beginning(incomplete, offers)


def _beginning(incomplete: str, offers: Offers) -> Offers:
    return [offer for offer in offers if offer[0].startswith(incomplete)]
