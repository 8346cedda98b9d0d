"""Where programs get their slices: from this machine's broker where one is installed for all, else from this
person's own.

A person's slices of both kinds are listed and found here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from aliquot.limits import DeviceLimit, Slice, SliceNotFoundError, default_home
from aliquot.limits.homes import system_home
from aliquot.model import Device, DeviceKind
from aliquot.node import cards
from aliquot.node.broker import client
from aliquot.node.broker.home import is_installed
from aliquot.node.cards import Cards


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The cards that slices are made of, and who makes them."""

    cards: Cards
    brokered: bool = False
    """By the machine's broker."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """What programs need to see the broker's simulated cards instead of the person's own."""


def find_place(*, simulate: bool = False) -> Place:
    """The machine's broker where one is installed, unless simulated cards are asked for and it has real ones.

    Raises `BrokerError` for a broker that is installed and does not answer: alone beside it a program would
    take its turns from nobody. Otherwise as `available_cards`.
    """
    if is_installed():
        machine = client.machine()
        simulated = any(each.kind is DeviceKind.SIMULATED for each in machine.devices)
        if simulated or not simulate:
            reason = "simulated cards, which this machine's broker shares out" if simulated else ""
            return Place(
                cards=Cards(devices=machine.devices, reason=reason),
                brokered=True,
                environment=machine.environment,
            )
    return Place(cards=cards.available_cards(simulate=simulate))


def all_slices() -> list[Slice]:
    """This person's own slices, then those that the machine's broker made for her; for root, for anybody.

    Raises `SliceAccessError` where a home of slices is not whose it should be.
    """
    return [*Slice.all(), *client.slices()]


def find_slice(name: str) -> Slice:
    """The slice of that name, or UID/NAME for one of another person's. Raises `SliceNotFoundError`."""
    known = {label(each): each for each in reversed(all_slices())}
    if name in known:
        return known[name]
    where = f"{default_home()} or {system_home()}" if is_installed() else str(default_home())
    raise SliceNotFoundError(
        f"there is no slice {name} in {where}", hint=f"there are: {', '.join(sorted(known)) or 'none'}"
    )


def find_card(slice_: Slice, limit: DeviceLimit) -> Device | None:
    """The card of a slice, if it is one of this machine's. Raises `BrokerError`."""
    if not isinstance(slice_, client.BrokeredSlice):
        return cards.find(str(limit.device))
    devices = client.machine().devices
    return next((each for each in devices if each.uuid == str(limit.device)), None)


def label(slice_: Slice) -> str:
    """What this person calls it: UID/NAME for somebody else's."""
    if isinstance(slice_, client.BrokeredSlice) and slice_.owner != os.getuid():
        return f"{slice_.owner}/{slice_.name}"
    return slice_.name
