"""`aliquot place`: where a claim would go on a cluster that a file describes, and why. No server is asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from aliquot.cli import completion, output, place_output
from aliquot.documents import Standing, State, read_claims, read_state
from aliquot.errors import AliquotError
from aliquot.model import Claim, DisruptionBudget, Gang
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import DEFAULT_STRATEGY, decide
from aliquot.placement.defragmenting import MoveBudget, make_room
from aliquot.placement.explaining import alternatives, explain_refusal
from aliquot.placement.gangs import decide_gang
from aliquot.placement.inventory import Inventory
from aliquot.placement.packing import make_packing
from aliquot.placement.preempting import preempt as find_victims
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
    preempt: Annotated[
        bool, typer.Option("--preempt", help="If a claim fits nowhere, say who would have to go for it.")
    ] = False,
    moves: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="If a claim fits nowhere, look for up to N moves that help."),
    ] = 0,
    as_json: output.JsonFlag = False,
) -> None:
    """Say where a claim would go, and why; or why it fits nowhere, and what would make it fit.

    Claims of one file are placed in their order, each beside those before. Ends with status 6 if one is
    refused. Nothing is changed: files in, an answer out.

    [bold]Example:[/] [cyan]aliquot place --state state.yaml --claim claim.yaml --explain[/]
    """
    described = read_state(read_text(state), str(state))
    desk = _Desk(cluster_of(described), described.budgets, strategy, preempt, moves, explain)
    asked = read_claims(read_text(claim), str(claim), described.vocabulary)
    answers = [desk.answer(each) for each in asked]
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
    cluster = Cluster(inventory, make_packing=make_packing, strategies=state.strategies)
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


@dataclass(frozen=True, slots=True)
class _Desk:
    """Who answers, one claim after the other."""

    cluster: Cluster
    budgets: Sequence[DisruptionBudget]
    strategy: str
    preempt: bool
    moves: int
    explain: bool

    def answer(self, asked: Claim | Gang) -> dict[str, Any]:
        """Where it goes; what is placed stays for those that follow."""
        return self._gang(asked) if isinstance(asked, Gang) else self._claim(asked)

    def _claim(self, asked: Claim) -> dict[str, Any]:
        cluster = self.cluster
        cluster.scorer(self.strategy or DEFAULT_STRATEGY)
        cluster.arrived(asked)
        chosen = decide(cluster, asked, strategy=self.strategy)
        if chosen is None:
            return {**place_output.refusal(explain_refusal(cluster, asked)), **self._help(asked)}
        others = alternatives(cluster, chosen, _OTHERS) if self.explain else []
        answer = place_output.placed(cluster, chosen, others)
        cluster.reserve(asked, chosen.grant)
        return answer

    def _help(self, asked: Claim) -> dict[str, Any]:
        """What would have to happen first, as far as somebody wants to know. Nothing of it is done."""
        found: dict[str, Any] = {}
        if self.moves:
            plan = make_room(
                self.cluster,
                asked,
                budget=MoveBudget(moves=self.moves),
                budgets=self.budgets,
                strategy=self.strategy,
            )
            found["moves"] = place_output.plan(self.cluster, plan) if plan else None
        if self.preempt:
            preemption = find_victims(self.cluster, asked, budgets=self.budgets, strategy=self.strategy)
            found["preemption"] = place_output.preemption(self.cluster, preemption) if preemption else None
        return found

    def _gang(self, gang: Gang) -> dict[str, Any]:
        together = decide_gang(self.cluster, gang, strategy=self.strategy)
        answer = place_output.gang(self.cluster, together)
        for chosen in together.chosen:
            self.cluster.reserve(chosen.claim, chosen.grant, gang=gang.name)
        return answer


def read_text(path: Path) -> str:
    """What a file says; `-` is standard input. Raises `CannotReadError`."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except OSError as error:
        raise CannotReadError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CannotReadError(f"{path} is not text: {error.reason}", hint="the file is YAML") from error
