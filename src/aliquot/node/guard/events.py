"""What the guard tells: one kind of record for people, logs and other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aliquot.policy.guard import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. `name` is stable, and what programs match on.

    `guarding`: the first look is done. `found`; `gone`: what was found is so no more. `terminated`: SIGTERM
    was sent; `killed`: SIGKILL was; `stopped`: it has ended; `refused`: it could not be stopped. `card-lost`
    and `card-back`: a card cannot, and can again, be looked at. `slice-unreadable`: see `SliceView.judged`.
    """

    name: str
    text: str
    """One sentence for people."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def as_dict(self) -> dict[str, Any]:
        """The event as it appears in JSON. Sizes in bytes."""
        return {
            "event": self.name,
            "at": self.at.isoformat(timespec="milliseconds"),
            "text": self.text,
            **self.facts,
        }


def of_finding(name: str, finding: Finding, what: str = "") -> Event:
    """An event about somebody who was found; `what` happened, else the reason for which he was."""
    seen, process = finding.suspicion, finding.suspicion.occupant
    who = f"{process.command or '?'} (pid {process.process.pid}, uid {process.uid}) on {process.card}"
    return Event(
        name=name,
        text=f"{who}: {what or finding.reason}",
        facts={
            "kind": str(seen.kind),
            "pid": process.process.pid,
            "start_ticks": process.process.start_ticks,
            "uid": process.uid,
            "command": process.command,
            "program": process.program,
            "card": process.card,
            "slice": seen.slice,
            "vram_bytes": process.vram_bytes,
            "has": seen.has,
            "may": seen.may,
            "action": str(finding.action),
            **({"reason": what} if what else {}),
        },
    )
