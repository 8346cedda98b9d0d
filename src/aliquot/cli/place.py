"""`aliquot place`: where a claim would go on a cluster that a file describes, and why. No server is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aliquot.cli import completion, output, place_output
from aliquot.documents import Standing, State, read_claims, read_state
from aliquot.errors import AliquotError
from aliquot.model import Claim, Gang
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import decide
from aliquot.placement.explaining import alternatives, explain_refusal
from aliquot.placement.gangs import decide_gang
from aliquot.placement.inventory import Inventory
from aliquot.placement.packing import make_packing
from aliquot.placement.standing import grant_at

REFUSED = 6
"""Exit status where a claim fits nowhere."""
_OTHERS = 3


class CannotReadError(AliquotError):
    """A file that was named cannot be read."""

    code = "cannot-read"
    exit_status = 2


def place(
    state: Annotated[
        Path, typer.Option(metavar="FILE", help="The cluster: nodes, pools, and who holds what (YAML).")
    ],
    claim: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="What is asked for (YAML); several separated by ---, - for standard input."
        ),
    ],
    explain: Annotated[
        bool, typer.Option("--explain", help="Show score terms and other nodes, or reasons by node.")
    ] = False,
    strategy: Annotated[
        str,
        typer.Option(
            help="Instead of the pools' own strategies.",
            show_default=False,
            autocompletion=completion.strategies,
        ),
    ] = "",
    as_json: output.JsonFlag = False,
) -> None:
    """Say where a claim would go, and why; or why it fits nowhere, and what would make it fit.

    Claims of one file are placed in their order, each beside those before. Ends with status 6 if one is
    refused. Nothing is changed: files in, an answer out.

    [bold]Example:[/] [cyan]aliquot place --state state.yaml --claim claim.yaml --explain[/]
    """
    described = read_state(_text(state), str(state))
    cluster = cluster_of(described)
    asked = read_claims(_text(claim), str(claim), described.vocabulary)
    answers = [_answer(cluster, each, strategy, explain=explain) for each in asked]
    if as_json:
        output.show_json({"decisions": answers})
    else:
        for answer in answers:
            place_output.show(answer, explain=explain)
    if not all(answer["placed"] for answer in answers):
        raise typer.Exit(REFUSED)


def cluster_of(state: State) -> Cluster:
    """The cluster that a document describes, with everybody where it says they stand.

    Raises `InvalidValueError`, `IllegalGrantError`, `DoesNotFitError` where that is not possible.
    """
    inventory = Inventory(state.nodes, state.pools, models=state.vocabulary.models)
    cluster = Cluster(inventory, make_packing=make_packing)
    for each in state.standing:
        _stand(cluster, each)
    return cluster


def _stand(cluster: Cluster, each: Standing) -> None:
    grant = grant_at(
        cluster,
        each.claim,
        each.node,
        each.devices,
        mechanism=each.mechanism,
        mig_starts=each.mig_starts,
    )
    try:
        cluster.reserve(each.claim, grant)
    except AliquotError as error:
        error.reason = f"claim {each.claim.name} cannot stand on {each.node}: {error.reason}"
        raise
    if each.committed:
        cluster.commit(each.claim.name)


def _answer(cluster: Cluster, asked: Claim | Gang, strategy: str, *, explain: bool) -> dict[str, Any]:
    if isinstance(asked, Gang):
        return _gang_answer(cluster, asked, strategy)
    cluster.scorer(strategy or "default")
    cluster.arrived(asked)
    chosen = decide(cluster, asked, strategy=strategy)
    if chosen is None:
        return place_output.refusal(explain_refusal(cluster, asked))
    others = alternatives(cluster, chosen, _OTHERS) if explain else []
    answer = place_output.placed(cluster, chosen, others)
    cluster.reserve(asked, chosen.grant)
    return answer


def _gang_answer(cluster: Cluster, gang: Gang, strategy: str) -> dict[str, Any]:
    together = decide_gang(cluster, gang, strategy=strategy)
    answer = place_output.gang(cluster, together)
    for chosen in together.chosen:
        cluster.reserve(chosen.claim, chosen.grant, gang=gang.name)
    return answer


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except OSError as error:
        raise CannotReadError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CannotReadError(f"{path} is not text: {error.reason}", hint="the file is YAML") from error
