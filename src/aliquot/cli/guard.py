"""`aliquot guard`: who is on the cards without a slice, or beyond it; reported, and by policy stopped."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from aliquot.cli import completion, output
from aliquot.errors import AliquotError, InvalidValueError
from aliquot.model import Device
from aliquot.node import cards, places
from aliquot.node.broker.wire import BrokerError
from aliquot.node.guard import Event, Guard
from aliquot.policy.guard import Action, Finding, Rules, default_rules, parse_rules

FOUND: Final = 3
"""The exit status of `--once` where somebody was found."""

_COLOURS: Final = {
    "found": "yellow",
    "refused": "red",
    "terminated": "magenta",
    "killed": "magenta",
    "stopped": "green",
}
_MOST_RULES_BYTES: Final = 1 << 20


def guard(
    policy: Annotated[
        Action | None,
        typer.Option(
            help="What becomes of those who are found; by default what the rules say: report.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look until it is certain, some seconds, and end.")
    ] = False,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rules of your own, in TOML.", show_default=False),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CARD",
            help="Guard this card alone, by number or UUID; may be repeated.",
            show_default=False,
            autocompletion=completion.devices,
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Guard the simulated machine's cards.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Append all events there, too, a JSON line each.", show_default=False
        ),
    ] = None,
    as_json: output.JsonFlag = False,
) -> None:
    """Watch for programs that use a card without a slice, or beyond their slice.

    The driver's own figures of every process on each card are compared with the accounts of the slices: who
    dropped the limiter (`env -u LD_PRELOAD`, a static program, the raw device files) is on the card
    nevertheless. Those who are found are reported, and with [bold]--policy stop[/] stopped within 5 s:
    SIGTERM, then SIGKILL. As root it guards against everybody, otherwise against programs of this user.

    It goes on until it is interrupted. With [bold]--once[/] it ends with status 3 if somebody was found, and
    0 if nobody was. With [bold]--json[/] each event is a line.

    [bold]Example:[/] [cyan]sudo aliquot guard --policy stop --log /var/log/aliquot-guard.jsonl[/]
    """
    chosen = _rules(rules, policy)
    available = _available(simulate)
    guarded = _chosen(available.devices, device or [])
    with Guard(guarded, chosen, _reporter(log, as_json=as_json)) as running:
        if available.reason and not as_json:
            output.show_note(available.reason)
        if once:
            _end(running.run_once(), as_json=as_json)
        else:
            running.run(_until_told())


def _available(simulate: bool) -> cards.Cards:
    """The cards that programs get here. The guard does not need the broker: where that is down, it guards."""
    try:
        place = places.find_place(simulate=simulate)
    except BrokerError:
        return cards.available_cards(simulate=simulate)
    os.environ.update(place.environment)  # read when the simulated NVML is opened
    return place.cards


def _rules(file: Path | None, policy: Action | None) -> Rules:
    rules = default_rules()
    if file is not None:
        try:
            with file.open(encoding="utf-8") as opened:
                rules = parse_rules(opened.read(_MOST_RULES_BYTES))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValueError(f"the rules {file} cannot be read: {error}") from error
    if policy is not None:
        rules = rules.with_action(policy)
    return rules if os.getuid() == 0 else replace(rules, only_uid=os.getuid())


def _chosen(devices: Sequence[Device], wanted: list[str]) -> list[Device]:
    if unknown := [each for each in wanted if not any(each in _names(device) for device in devices)]:
        there = ", ".join(f"{each.index} ({each.name}, {each.uuid})" for each in devices) or "none"
        raise InvalidValueError(f"there is no device {unknown[0]}", hint=f"there are: {there}")
    return [each for each in devices if not wanted or not _names(each).isdisjoint(wanted)]


def _names(device: Device) -> set[str]:
    return {str(device.index), device.uuid}


def _reporter(log: Path | None, *, as_json: bool) -> Callable[[Event], None]:
    if log is not None:
        _append(log, "")

    def report(event: Event) -> None:
        line = json.dumps(event.as_dict()) + "\n"
        if log is not None:
            try:
                _append(log, line)
            except AliquotError as error:  # a full disk does not end the guard
                output.show_note(error.reason)
        if as_json:
            print(line, end="", flush=True)
        else:
            _show(event)

    return report


def _append(log: Path, text: str) -> None:
    """Opens it anew each time, so that it can be moved away. Only its owner reads it: it tells what everybody
    runs."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(log, flags, 0o600), "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise AliquotError(f"the log {log} cannot be written: {error.strerror}") from error


def _show(event: Event) -> None:
    colour = _COLOURS.get(event.name, "dim")
    kind = f" {event.facts['kind']}" if event.name == "found" else ""
    output.stdout.print(
        f"{event.at.astimezone():%H:%M:%S} [{colour}]{event.name}{kind}[/] {escape(event.text)}",
        highlight=False,
    )


def _until_told() -> threading.Event:
    """Set by SIGINT and SIGTERM: both end it in order."""
    until = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: until.set())
    return until


def _end(found: list[Finding], *, as_json: bool) -> None:
    if found:
        raise typer.Exit(FOUND)
    if not as_json:
        output.show_note("nobody is on a card without a slice, or beyond it")
