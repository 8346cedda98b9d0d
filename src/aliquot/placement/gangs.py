"""Gangs: claims that are placed together or not at all, near to each other if they want.

Members are placed one after the other, the largest first, on a trial of the state. A gang that wants to stay
within a level of the network (or one node) is tried in each place of that level, the tightest that could hold
it first; as a preference it may go wider, level by level, as a condition it may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aliquot.model.claims import Claim, Gang
from aliquot.model.topology import NODE
from aliquot.placement.cluster import Cluster
from aliquot.placement.deciding import Chosen, decide
from aliquot.placement.explaining import explain_refusal
from aliquot.placement.preferences import Candidates


@dataclass(frozen=True, slots=True)
class Together:
    """Where a gang goes; nobody is chosen where fewer than its minimum fit."""

    gang: Gang
    chosen: tuple[Chosen, ...]
    waiting: tuple[Claim, ...]
    """Members beyond the minimum for which there is no room now."""
    place: str
    """The place of the network that all share, where one was wanted and found."""
    reason: str = ""
    """Why it fits nowhere."""


def decide_gang(cluster: Cluster, gang: Gang, *, strategy: str = "") -> Together:
    """Where the members go. Nothing is reserved.

    All members together go before fewer of them; among places with as many, the tightest wins.
    """
    best: tuple[tuple[Chosen, ...], str] = ((), "")
    for place, within in _places(cluster, gang):
        chosen = _placed(cluster, gang, within, strategy)
        if len(chosen) > len(best[0]):
            best = chosen, place
        if len(best[0]) == len(gang.members):
            break
    chosen, place = best
    if len(chosen) < gang.min_members:
        return Together(gang, (), gang.members, "", _why(cluster, gang, chosen))
    names = {each.claim.name for each in chosen}
    waiting = tuple(member for member in gang.members if member.name not in names)
    return Together(gang, chosen, waiting, place)


def _placed(cluster: Cluster, gang: Gang, within: Candidates, strategy: str) -> tuple[Chosen, ...]:
    """The members that fit within a part of the cluster, beside each other."""
    chosen: list[Chosen] = []
    with cluster.trial():
        for member in sorted(gang.members, key=_size, reverse=True):
            found = decide(cluster, member, strategy=strategy, within=within)
            if found:
                cluster.reserve(member, found.grant, gang=gang.name)
                chosen.append(found)
    return tuple(chosen)


def _size(claim: Claim) -> tuple[float, ...]:
    """Of two claims the one that is harder to place is larger."""
    needs = claim.devices
    part = 1.0 if needs.whole else needs.compute.part / 1e6
    return (
        needs.count,
        part,
        needs.compute.tflops,
        needs.vram.mib,
        claim.host.cpu_milli,
        claim.host.memory_mib,
    )


def _places(cluster: Cluster, gang: Gang) -> Iterator[tuple[str, Candidates]]:
    """Where to try, the best first. Empty is the whole cluster."""
    if not gang.within:
        yield "", Candidates()
        return
    levels = [*cluster.inventory.levels(), NODE]
    wider = levels[: levels.index(gang.within) + 1] if gang.within in levels else []
    for level in reversed(wider[-1:] if gang.required else wider):
        yield from _places_of(cluster, level)
    if not gang.required:
        yield "", Candidates()


def _places_of(cluster: Cluster, level: str) -> Iterator[tuple[str, Candidates]]:
    inventory = cluster.inventory
    places = [inventory.place(number, level) for number in range(len(inventory.nodes))]
    free: dict[str, int] = {}
    for number, place in enumerate(places):
        devices = cluster.free(number).devices
        free[place] = free.get(place, 0) + sum(each.compute_milli for each in devices)
    for place in sorted(set(places) - {""}, key=lambda each: (free[each], each)):
        yield place, Candidates(nodes=bytes(each == place for each in places))


def _why(cluster: Cluster, gang: Gang, chosen: tuple[Chosen, ...]) -> str:
    """What keeps the first member that does not fit away, beside those that would."""
    names = {each.claim.name for each in chosen}
    missing = next(member for member in gang.members if member.name not in names)
    fit = f"{len(chosen)} of {len(gang.members)} members fit"
    where = f" within one {gang.within}" if gang.within and gang.required else ""
    with cluster.trial():
        for each in chosen:
            cluster.reserve(each.claim, each.grant, gang=gang.name)
        return f"{fit}{where}, {gang.min_members} are needed; {explain_refusal(cluster, missing).text}"
