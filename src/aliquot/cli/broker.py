"""`aliquot broker`: shares this machine's cards out among its people; root runs it as a service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from aliquot.catalog import qos_level
from aliquot.errors import InvalidValueError, UnavailableError
from aliquot.limits.homes import system_home
from aliquot.model import parse_percent
from aliquot.node import cards
from aliquot.node.broker.allowance import Allowance
from aliquot.node.broker.server import Broker
from aliquot.node.broker.service import Service


class NotRootError(UnavailableError):
    """What is asked for is root's to do."""

    code = "not-root"


def broker(
    home: Annotated[
        Path | None,
        typer.Option(
            help="Where its socket and the slices lie, by default /run/aliquot.", show_default=False
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Share out simulated cards, whatever is there.")
    ] = False,
    vram: Annotated[
        str, typer.Option(metavar="PERCENT", help="Of each card's memory, what one person may take.")
    ] = "100%",
    compute: Annotated[
        str, typer.Option(metavar="PERCENT", help="Of each card's time, what one person may be guaranteed.")
    ] = "100%",
    slices: Annotated[int, typer.Option(min=0, help="How many slices one person may have.")] = 16,
    qos: Annotated[
        str, typer.Option(metavar="LEVEL", help="The highest level of service that people choose themselves.")
    ] = "high",
) -> None:
    """Share this machine's cards out among its people: one broker for all, run by root.

    While it is there `aliquot run` of every person gets its slices from it, and all share the cards by
    weight. People ask for slices of their own within what the options say; root makes larger ones for them
    with `aliquot slices create --for USER`. Nobody can read or change another person's. Programs go on while
    it is down. It ends with SIGTERM.
    """
    if os.geteuid() != 0:
        raise NotRootError("the broker of a machine runs as root", hint="sudo aliquot broker")
    allowance = Allowance(
        vram=parse_percent(vram),
        compute=parse_percent(compute),
        slices=slices,
        highest_rank=qos_level(qos).rank,
    )
    found = cards.available_cards(simulate=simulate)
    if not found.devices:
        raise InvalidValueError("there is no card to share out")
    made = Broker(
        (home or system_home()).absolute(),
        allowance,
        lambda: cards.available_cards(simulate=simulate).devices,
    )
    service = Service(made, lambda line: print(f"aliquot: {line}", file=sys.stderr, flush=True))
    print(f"aliquot: shares out {', '.join(each.name for each in found.devices)} in {made.home}", flush=True)
    service.run()
