"""`aliquot devices`: the cards that programs get on this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from aliquot.cli import output
from aliquot.model import format_bytes
from aliquot.node import cards


def devices(
    simulate: Annotated[bool, typer.Option("--simulate", help="Show the simulated machine's cards.")] = False,
    as_json: output.JsonFlag = False,
) -> None:
    """List the cards that programs get here: real ones, or simulated ones where there are none."""
    available = cards.available_cards(simulate=simulate)
    if as_json:
        output.show_json({"devices": [asdict(device) for device in available.devices]})
        return
    if available.reason:
        output.show_note(available.reason)
    table = output.table(">#", "card", ">memory", ">in use", ">busy", "uuid")
    for each in available.devices:
        table.add_row(
            str(each.index),
            escape(each.name),
            format_bytes(each.vram),
            format_bytes(each.vram_used),
            f"{each.utilisation}%",
            each.uuid,
        )
    output.stdout.print(table)
