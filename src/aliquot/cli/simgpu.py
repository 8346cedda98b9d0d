"""`aliquot simgpu`: the simulated machine of this user, shown and changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from aliquot.cli import output, simgpu_cards, simgpu_faults
from aliquot.model import format_bytes, format_duration
from aliquot.vendors import simgpu

app = typer.Typer(
    help="The simulated GPU: which cards it has, who uses them, what it implements.", no_args_is_help=True
)
app.add_typer(simgpu_cards.mig, name="mig", no_args_is_help=True)
app.command("mps")(simgpu_cards.mps)
app.command("timeslice")(simgpu_cards.timeslice)
app.command("compute-mode")(simgpu_cards.compute_mode)
app.command("record")(simgpu_cards.record)
app.add_typer(simgpu_faults.fault, name="fault", no_args_is_help=True)
app.command("events")(simgpu_faults.events)

Cards = Annotated[
    list[str],
    typer.Argument(metavar="MODEL[:COUNT]...", help="e.g. h100:2 t4:4; see `aliquot simgpu models`."),
]
Force = Annotated[bool, typer.Option("--force", help="Even while programs use the machine.")]


@app.command("set")
def set_cards(cards: Cards, force: Force = False) -> None:
    """Choose the machine's cards."""
    print(simgpu.set_cards(cards, force=force))


@app.command("reset")
def reset(force: Force = False) -> None:
    """Forget all state: cards, accounts, records."""
    simgpu.reset(force=force)


@app.command("models")
def models() -> None:
    """List the models that can be simulated."""
    print(simgpu.models(), end="")


@app.command("show")
def show(as_json: output.JsonFlag = False) -> None:
    """Show the cards and what is in use."""
    machine = simgpu.machine()
    if as_json:
        output.show_json(asdict(machine))
        return
    table = output.table(
        ">#", "card", ">memory", ">in use", ">busy", ">GPU time", "uuid", title=machine.setting
    )
    for card in machine.cards:
        table.add_row(
            str(card.index),
            escape(card.name),
            format_bytes(card.vram_bytes),
            format_bytes(card.vram_used_bytes),
            f"{card.utilisation_percent}%",
            format_duration(card.busy_ns),
            card.uuid,
        )
    output.stdout.print(table)
    budget = machine.host_budget
    output.stdout.print(
        f"[dim]host memory behind it: {format_bytes(budget.reserved_by_user_bytes)} of "
        f"{format_bytes(budget.limit_bytes)} reserved; state in {escape(machine.home)}[/]",
        highlight=False,
    )


@app.command("processes")
def processes(
    show_all: Annotated[bool, typer.Option("--all", help="Those that have ended, too.")] = False,
    as_json: output.JsonFlag = False,
) -> None:
    """Show what processes did on each card, by the device's own record."""
    records = [each for each in simgpu.processes() if each.running or show_all]
    if as_json:
        output.show_json({"processes": [asdict(record) for record in records]})
        return
    table = output.table(
        ">pid", "program", "slice", ">card", ">memory", ">peak", ">GPU time", ">launches", ">to card", ">back"
    )
    for each in records:
        table.add_row(
            f"{each.pid}" if each.running else f"[dim]{each.pid}[/]",
            escape(each.command),
            escape(each.slice),
            str(each.card),
            format_bytes(each.vram_bytes),
            format_bytes(each.peak_vram_bytes),
            format_duration(each.busy_ns),
            str(each.launches),
            format_bytes(each.copied_to_device),
            format_bytes(each.copied_to_host),
        )
    output.stdout.print(table)


@app.command("coverage")
def coverage(
    missing: Annotated[bool, typer.Option("--missing", help="Name what is not implemented.")] = False,
    as_json: output.JsonFlag = False,
) -> None:
    """Show how much of the driver API is implemented; the rest returns CUDA_ERROR_NOT_SUPPORTED."""
    found = simgpu.coverage()
    if as_json:
        output.show_json({"symbols": [asdict(each) for each in found]})
    elif missing:
        for each in found:
            if not each.implemented:
                print(each.symbol)
    else:
        _show_coverage(found)


def _show_coverage(found: list[simgpu.Coverage]) -> None:
    total = Counter(each.family for each in found)
    done = Counter(each.family for each in found if each.implemented)
    table = output.table("family", ">implemented", ">of", "")
    for family, count in sorted(total.items()):
        colour = "green" if done[family] == count else "default" if done[family] else "dim"
        table.add_row(f"[{colour}]{family}[/]", str(done[family]), str(count), f"{done[family] / count:4.0%}")
    table.add_row(
        "[bold]all[/]", str(done.total()), str(total.total()), f"{done.total() / total.total():4.0%}"
    )
    output.stdout.print(table)
