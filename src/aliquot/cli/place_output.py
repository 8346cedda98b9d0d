"""How decisions about placement are shown: as data, and from that data as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from aliquot.cli import output
from aliquot.model import Grant, GrantedDevice, Mechanism, format_bytes
from aliquot.model.quantities import MIB
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import Chosen
from aliquot.placement.defragmenting import Plan
from aliquot.placement.explaining import Refusal
from aliquot.placement.gangs import Together
from aliquot.placement.packing import Choice
from aliquot.placement.preempting import Preemption

_MOST_NODES = 20
"""Nodes that a refusal lists for a person; JSON has all."""

# --- as data


def placed(cluster: Cluster, chosen: Chosen, others: Sequence[Choice] = ()) -> dict[str, Any]:
    """A claim that goes somewhere."""
    return {
        "claim": chosen.claim.name,
        "placed": True,
        "grant": grant(cluster, chosen.grant),
        "strategy": chosen.strategy,
        "score": chosen.score,
        "terms": dict(chosen.terms),
        "others": [_other(cluster, each) for each in others],
    }


def refusal(refused: Refusal) -> dict[str, Any]:
    """A claim that fits nowhere."""
    return {
        "claim": refused.claim.name,
        "placed": False,
        "reason": refused.text,
        "reasons": {reason.code: count for reason, count in refused.devices.items()},
        "nodes": {
            node: {reason.code: count for reason, count in counts.items()}
            for node, counts in refused.nodes.items()
        },
        "remedies": [{"what": each.what, "text": each.text} for each in refused.remedies],
    }


def gang(cluster: Cluster, together: Together) -> dict[str, Any]:
    """A gang, placed or not."""
    return {
        "claim": together.gang.name,
        "placed": bool(together.chosen),
        "gang": [placed(cluster, each) for each in together.chosen],
        "place": together.place,
        "waiting": [member.name for member in together.waiting],
        **({"reason": together.reason} if not together.chosen else {}),
    }


def plan(cluster: Cluster, found: Plan) -> dict[str, Any]:
    """Moves, and what they are good for."""
    return {
        "moves": [
            {
                "claim": move.claim.name,
                "from": grant(cluster, move.source),
                "to": grant(cluster, move.target),
                "cost_mib": move.cost_mib,
            }
            for move in found.moves
        ],
        "cost_mib": found.cost_mib,
        "freed": list(found.freed),
        **({"grant": grant(cluster, found.placed.grant)} if found.placed else {}),
    }


def preemption(cluster: Cluster, found: Preemption) -> dict[str, Any]:
    """Who has to go, and where the claim goes then."""
    return {
        "victims": [
            {"claim": held.claim.name, "priority": held.claim.priority, "node": held.grant.node}
            for held in found.victims
        ],
        "grant": grant(cluster, found.chosen.grant),
        "certain": found.certain,
    }


def grant(cluster: Cluster, given: Grant) -> dict[str, Any]:
    """What a claim gets."""
    node = cluster.inventory.node(given.node)
    devices = cluster.inventory.devices_of(node)
    return {
        "node": given.node,
        "mechanism": given.mechanism.value,
        "devices": [
            _device(devices[each.index].device.model, devices[each.index].device.uuid, each)
            for each in given.devices
        ],
        "cpu_milli": given.cpu_milli,
        "memory_mib": given.memory_mib,
    }


def _device(model: str, uuid: str, each: GrantedDevice) -> dict[str, Any]:
    return {
        "index": each.index,
        "model": model,
        **({"uuid": uuid} if uuid else {}),
        "compute_milli": each.compute_milli,
        "vram_mib": each.vram_mib,
        **({"mig_profile": each.mig_profile, "mig_start": each.mig_start} if each.mig_profile else {}),
    }


def _other(cluster: Cluster, choice: Choice) -> dict[str, Any]:
    return {
        "node": cluster.inventory.nodes[choice.placement.node].name,
        "devices": list(choice.placement.devices),
        "score": choice.score,
        "terms": dict(choice.terms),
    }


# --- as text


def show(answer: Mapping[str, Any], *, explain: bool) -> None:
    """An answer for a person."""
    if "gang" in answer:
        _show_gang(answer, explain=explain)
    elif answer["placed"]:
        _show_placed(answer, explain=explain)
    else:
        _show_refusal(answer, explain=explain)


def _show_placed(answer: Mapping[str, Any], *, explain: bool) -> None:
    given = answer["grant"]
    output.stdout.print(
        f"[bold]{escape(answer['claim'])}[/] -> [green]{escape(given['node'])}[/] {escape(_devices(given))}",
        highlight=False,
    )
    if not explain:
        return
    shown = output.table("node", "devices", ">score", *(f">{name}" for name in answer["terms"]))
    devices = [each["index"] for each in given["devices"]]
    for each in ({**answer, "node": given["node"], "devices": devices}, *answer["others"]):
        shown.add_row(
            escape(each["node"]),
            _indices(each["devices"]),
            f"{each['score']:.4f}",
            *(f"{value:.4f}" for value in each["terms"].values()),
        )
    output.stdout.print(f"  strategy {escape(answer['strategy'])}; the largest score wins", highlight=False)
    output.stdout.print(shown)


def _devices(given: Mapping[str, Any]) -> str:
    devices = given["devices"]
    if not devices:
        return "(no devices)"
    indices, one = _indices([each["index"] for each in devices]), devices[0]
    if given["mechanism"] == Mechanism.WHOLE:
        return f"{one['model']} {indices}, whole"
    profile = f" {one['mig_profile']} at {one['mig_start']}" if "mig_profile" in one else ""
    amounts = f"{one['compute_milli'] / 10:g}% and {format_bytes(one['vram_mib'] * MIB)}"
    return f"{one['model']} {indices}, {amounts} each by {given['mechanism']}{profile}"


def _indices(indices: Sequence[int]) -> str:
    return f"[{', '.join(map(str, indices))}]"


def _show_refusal(answer: Mapping[str, Any], *, explain: bool) -> None:
    output.stdout.print(
        f"[bold]{escape(answer['claim'])}[/] [red]fits nowhere[/]: {escape(answer['reason'])}",
        highlight=False,
    )
    _show_help(answer)
    if not explain:
        return
    shown = output.table("node", "why not")
    nodes = {node: counts for node, counts in answer["nodes"].items() if counts}
    for place, (node, counts) in enumerate(nodes.items()):
        if place == _MOST_NODES:
            shown.add_row("...", f"and {len(nodes) - place} more; --json has all")
            break
        shown.add_row(escape(node), "; ".join(f"{count}: {code}" for code, count in counts.items()))
    output.stdout.print(shown)


def _show_help(answer: Mapping[str, Any]) -> None:
    if "moves" in answer:
        show_plan(answer["moves"])
    if "preemption" in answer:
        _show_preemption(answer["preemption"])


def show_plan(found: Mapping[str, Any] | None) -> None:
    """Moves in their order."""
    if found is None or not found["moves"]:
        output.stdout.print("  no moves within the budget would help", highlight=False)
        return
    for place, move in enumerate(found["moves"], start=1):
        cost = format_bytes(move["cost_mib"] * MIB)
        output.stdout.print(
            f"  {place}. move {escape(move['claim'])}: {_stand(move['from'])} -> {_stand(move['to'])}"
            f" (costs {cost})",
            highlight=False,
        )
    good_for = f"then it goes to {_stand(found['grant'])}" if "grant" in found else ""
    if found["freed"]:
        good_for = f"then nobody is left on {escape(', '.join(found['freed']))}"
    output.stdout.print(f"  {good_for}", highlight=False)


def _show_preemption(found: Mapping[str, Any] | None) -> None:
    if found is None:
        output.stdout.print("  nobody that may be preempted would make room", highlight=False)
        return
    victims = ", ".join(f"{each['claim']} (priority {each['priority']})" for each in found["victims"])
    output.stdout.print(
        f"  preempting {escape(victims)} would: then it goes to {_stand(found['grant'])}", highlight=False
    )


def _stand(given: Mapping[str, Any]) -> str:
    return escape(f"{given['node']} {_indices([each['index'] for each in given['devices']])}")


def _show_gang(answer: Mapping[str, Any], *, explain: bool) -> None:
    name = escape(answer["claim"])
    if not answer["placed"]:
        output.stdout.print(
            f"[bold]{name}[/] [red]fits nowhere[/]: {escape(answer['reason'])}", highlight=False
        )
        return
    within = f" within {escape(answer['place'])}" if answer["place"] else ""
    output.stdout.print(f"[bold]{name}[/]: {len(answer['gang'])} members{within}", highlight=False)
    for each in answer["gang"]:
        _show_placed(each, explain=explain)
    if answer["waiting"]:
        output.stdout.print(f"  waiting: {escape(', '.join(answer['waiting']))}", highlight=False)
