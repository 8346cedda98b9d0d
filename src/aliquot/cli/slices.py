"""`aliquot slices`: what this person's slices hold and do at this moment; making and removing them."""

from __future__ import annotations

import pwd
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from aliquot.cli import completion, output
from aliquot.cli.run import Card, Compute, Hard, Qos, Simulate, Tflops, Vram, make_share
from aliquot.errors import AliquotError, InvalidValueError
from aliquot.limits import DeviceUsage
from aliquot.model import format_bytes, format_duration, format_percent
from aliquot.node import cards, live_use, tenancy
from aliquot.node.live_use import Look, Rates
from aliquot.node.places import all_slices, find_place, find_slice, label

app = typer.Typer(
    help="Show the slices of this user: memory, share of the card's time, who uses them.",
    invoke_without_command=True,
)

_SPAN_S: Final = 0.25
"""Between the two looks that the figures of "now" come from."""
_REFRESH_S: Final = 1.0

SliceName = Annotated[
    str, typer.Argument(metavar="SLICE", help="Its name.", autocompletion=completion.slice_names)
]


class SliceInUseError(AliquotError):
    """Programs run on the slice."""

    code = "slice-in-use"


@app.callback()
def slices(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew each second.")] = False,
    as_json: output.JsonFlag = False,
) -> None:
    """Show the slices of this user, those that the machine's broker made included; root sees everybody's.

    [bold]gpu[/] is the part of the last moment in which the device worked for the slice, [bold]waits[/] that
    in which it wanted the card and had no turn, [bold]throttled[/] how long it has waited since it was made.
    """
    if context.invoked_subcommand is not None:
        return
    if watch and as_json:
        raise InvalidValueError("--watch and --json exclude each other", hint="call with --json repeatedly")
    before = live_use.look(all_slices())
    if watch:
        _watch(before)
        return
    time.sleep(_SPAN_S if before else 0)
    now = live_use.look(all_slices())
    if as_json:
        output.show_json({"slices": [_as_dict(each, _rates(before, each)) for each in now]})
    elif not now:
        output.show_note("there are no slices; `aliquot run --vram 2Gi -- PROGRAM` makes one")
    else:
        output.stdout.print(_table(before, now))


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    vram: Vram = None,
    compute: Compute = None,
    tflops: Tflops = None,
    qos: Qos = None,
    hard: Hard = False,
    simulate: Simulate = False,
    device: Card = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="USER",
            help="Whose it becomes, by name or uid: root's to say, where the machine has a broker. That "
            "person cannot change it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a slice that stays until it is removed; programs join it with `aliquot run --slice NAME`.

    [bold]Example:[/] [cyan]aliquot slices create training --vram 8Gi --compute 50% --for alice[/]
    """
    share = make_share(vram, compute, tflops, qos, hard=hard)
    place = find_place(simulate=simulate)
    card = cards.choose(place.cards.devices, share, device)
    made = tenancy.create(card, share, place=place, name=name, owner=None if user is None else _uid(user))
    print(label(made))


def _uid(user: str) -> int:
    try:
        return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise InvalidValueError(f"there is no user {user} on this machine") from error


@app.command("remove")
def remove(
    name: SliceName,
    force: Annotated[bool, typer.Option("--force", help="Even while programs use it.")] = False,
) -> None:
    """Remove a slice that nobody needs any more.

    Programs that still run on it keep its last limits.
    """
    found = find_slice(name)
    if not force and (count := len(found.usage().processes)):
        raise SliceInUseError(
            f"{count} processes run on {name}", hint="end them first, or remove it with --force"
        )
    found.remove()


def _watch(before: list[Look]) -> None:
    """Until it is interrupted; where no person watches, one table after another."""
    with Live(_table(before, before), console=output.stdout, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_REFRESH_S)
                now = live_use.look(all_slices())
                live.update(_table(before, now), refresh=True)
                before = now
        except KeyboardInterrupt:
            return


def _rates(before: list[Look], now: Look) -> list[Rates]:
    return live_use.rates(next((each for each in before if each.name == now.name), None), now)


def _table(before: list[Look], now: list[Look]) -> Table:
    table = output.table(
        "slice", "device", "QoS", ">VRAM", ">of", ">peak", ">share", ">now", ">most", ">gpu", ">waits",
        ">throttled", ">processes",
    )  # fmt: skip
    for each in now:
        for index, (device, rates) in enumerate(zip(each.usage.devices, _rates(before, each), strict=True)):
            table.add_row(*_row(each, index, device, rates))
    return table


def _row(each: Look, index: int, device: DeviceUsage, rates: Rates) -> list[str]:
    limit = device.limit
    first = [escape(each.name), str(limit.device)[:12], each.qos.name] if index == 0 else ["", "", ""]
    return [
        *first[:1],
        str(limit.device)[:12],
        *first[2:],
        format_bytes(device.vram_used_bytes),
        format_bytes(limit.vram_bytes),
        format_bytes(device.vram_peak_bytes),
        format_percent(limit.compute_request_ppm) if limit.compute_request_ppm else "even",
        format_percent(device.share_ppm) if device.share_ppm else "-",
        format_percent(limit.compute_limit_ppm) if limit.compute_limit_ppm else "-",
        f"{rates.gpu_percent:.0f}%",
        f"{rates.waited_percent:.0f}%",
        format_duration(device.waited_ns),
        str(len(each.usage.processes)) if index == 0 else "",
    ]


def _as_dict(each: Look, rates: list[Rates]) -> Mapping[str, Any]:
    """Sizes in bytes, times in nanoseconds, parts of a card in millionths."""
    usage = each.usage
    return {
        "name": each.name,
        "qos": each.qos.name,
        "arbiter": asdict(usage.arbiter),
        "devices": [
            {**asdict(device), **asdict(rate)} for device, rate in zip(usage.devices, rates, strict=True)
        ],
        "processes": [asdict(process) for process in usage.processes],
        "work": asdict(usage.work),
    }
