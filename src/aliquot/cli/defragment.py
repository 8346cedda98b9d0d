"""`aliquot defragment`: which moves would free cards or hosts of a cluster that a file describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aliquot.cli import completion, output, place_output
from aliquot.cli.place import cluster_of, read_text
from aliquot.documents import read_state
from aliquot.placement.defragmenting import MoveBudget, consolidate, free_cards


def defragment(
    state: Annotated[
        Path, typer.Option(metavar="FILE", help="The cluster: nodes, pools, and who holds what (YAML).")
    ],
    cards: Annotated[int, typer.Option(metavar="N", min=1, help="How many cards to free at most.")] = 1,
    hosts: Annotated[bool, typer.Option("--hosts", help="Empty whole hosts instead.")] = False,
    moves: Annotated[int, typer.Option(metavar="N", min=0, help="How many moves at most.")] = 10,
    strategy: Annotated[
        str,
        typer.Option(
            help="Where claims are moved to.", show_default=False, autocompletion=completion.strategies
        ),
    ] = "",
    as_json: output.JsonFlag = False,
) -> None:
    """Plan moves that free whole cards, or empty hosts. Nothing is moved.

    Each move is possible when those before it have been made. Protected claims and members of gangs stay, and
    disruption budgets hold.

    [bold]Example:[/] [cyan]aliquot defragment --state state.yaml --cards 2[/]
    """
    described = read_state(read_text(state), str(state))
    cluster = cluster_of(described)
    budget = MoveBudget(moves=moves)
    if hosts:
        plan = consolidate(cluster, budget=budget, budgets=described.budgets, strategy=strategy)
    else:
        plan = free_cards(cluster, cards, budget=budget, budgets=described.budgets, strategy=strategy)
    found = place_output.plan(cluster, plan)
    if as_json:
        output.show_json(found)
    else:
        place_output.show_plan(found)
