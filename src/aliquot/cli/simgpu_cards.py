"""`aliquot simgpu mig|mps|timeslice|compute-mode|record`: how simulated cards are shared and divided."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from aliquot.cli import completion, output
from aliquot.model import format_bytes, format_duration
from aliquot.vendors import simgpu_cards

mig = typer.Typer(help="Divide a card into instances (MIG), each with an engine and memory of its own.")

Device = Annotated[
    int,
    typer.Option(
        "--device", "-d", min=0, help="Index of the card.", autocompletion=completion.simulated_cards
    ),
]
AnyDevice = Annotated[
    int | None,
    typer.Option(
        "--device",
        "-d",
        min=0,
        help="Index of the card; else all.",
        autocompletion=completion.simulated_cards,
    ),
]


class _Switch(StrEnum):
    ON = "on"
    OFF = "off"


class _ComputeMode(StrEnum):
    DEFAULT = "default"
    PROHIBITED = "prohibited"
    EXCLUSIVE_PROCESS = "exclusive-process"


def _set_or_show(kind: str, value: str | None, device: int | None, as_json: bool) -> None:
    if value is not None:
        simgpu_cards.set_setting(kind, value, device)
        return
    found = simgpu_cards.settings(kind)
    if as_json:
        output.show_json({"cards": [{"card": card, kind: setting} for card, setting in found.items()]})
        return
    table = output.table(">#", kind)
    for card, setting in found.items():
        table.add_row(str(card), setting)
    output.stdout.print(table)


def mps(
    mode: Annotated[_Switch | None, typer.Argument(help="Without it: show.")] = None,
    device: AnyDevice = None,
    as_json: output.JsonFlag = False,
) -> None:
    """Let processes overlap on a card, as under the vendor's MPS, instead of taking turns."""
    _set_or_show("mps", mode, device, as_json)


def timeslice(
    time: Annotated[
        str | None, typer.Argument(metavar="TIME", help="e.g. 500us, 2ms or default; without it: show.")
    ] = None,
    device: AnyDevice = None,
    as_json: output.JsonFlag = False,
) -> None:
    """Set how long a process' turn on a card lasts while others wait."""
    _set_or_show("timeslice", time, device, as_json)


def compute_mode(
    mode: Annotated[_ComputeMode | None, typer.Argument(help="Without it: show.")] = None,
    device: AnyDevice = None,
    as_json: output.JsonFlag = False,
) -> None:
    """Set who may have a context on a card: anybody, nobody, or one process."""
    _set_or_show("compute-mode", mode, device, as_json)


@mig.command("on")
def mig_on(device: Device = 0) -> None:
    """Turn MIG mode on."""
    simgpu_cards.set_mig_mode(True, device)


@mig.command("off")
def mig_off(device: Device = 0) -> None:
    """Turn MIG mode off. Its instances have to be destroyed first."""
    simgpu_cards.set_mig_mode(False, device)


@mig.command("create")
def mig_create(
    profiles: Annotated[
        list[str],
        typer.Argument(
            metavar="PROFILE...",
            help="Names or numbers: 1g.10gb, 19.",
            autocompletion=completion.mig_profiles,
        ),
    ],
    device: Device = 0,
    start: Annotated[int | None, typer.Option(min=0, help="Memory slice; else the first that fits.")] = None,
    as_json: output.JsonFlag = False,
) -> None:
    """Make instances; print what CUDA_VISIBLE_DEVICES takes for each."""
    uuids = [simgpu_cards.create_mig_device(profile, device, start) for profile in profiles]
    if as_json:
        output.show_json({"uuids": uuids})
    else:
        print("\n".join(uuids))


@mig.command("destroy")
def mig_destroy(
    device: Device = 0,
    gpu_instance: Annotated[int | None, typer.Option(min=0, help="Id of one; else all of the card.")] = None,
) -> None:
    """Destroy instances. Refused while programs use them."""
    simgpu_cards.destroy_mig_devices(device, gpu_instance)


@mig.command("profiles")
def mig_profiles(device: Device = 0, as_json: output.JsonFlag = False) -> None:
    """List the sizes into which a card can be divided, and how many still fit."""
    found = simgpu_cards.mig_profiles(device)
    if as_json:
        output.show_json({"profiles": found})
        return
    table = output.table("profile", ">id", ">free", ">of", ">memory", ">SMs")
    for each in found:
        memory = format_bytes(each["memory_bytes"])
        numbers = (each["id"], each["remaining"], each["instances"], memory, each["sm_count"])
        table.add_row(each["name"], *map(str, numbers))
    output.stdout.print(table)


@mig.command("list")
def mig_list(device: AnyDevice = None, as_json: output.JsonFlag = False) -> None:
    """List the instances there are."""
    found = simgpu_cards.mig_devices(device)
    if as_json:
        output.show_json({"devices": [asdict(each) for each in found]})
        return
    table = output.table(">#", "instance", ">GI", ">CI", ">SMs", ">memory", ">in use", ">busy", "uuid")
    for each in found:
        table.add_row(
            str(each.card),
            each.name,
            str(each.gpu_instance),
            str(each.compute_instance),
            str(each.sm_count),
            format_bytes(each.vram_bytes),
            format_bytes(each.vram_used_bytes),
            f"{each.utilisation_percent}%",
            each.uuid,
        )
    output.stdout.print(table)


def record(
    device: Device = 0,
    since: Annotated[
        int, typer.Option(min=0, metavar="NS", help="Only what ended later (CLOCK_MONOTONIC).")
    ] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Print intervals as they end.")] = False,
    seconds: Annotated[int | None, typer.Option(min=1, help="With --follow: for so long.")] = None,
    as_json: output.JsonFlag = False,
) -> None:
    """Show who had a card's engine and when, by the card's own record.

    With --json and --follow: one object a line, and {"gap": true} where some were lost unread.
    """
    if follow:
        for each in simgpu_cards.follow_record(device, since_ns=since, seconds=seconds):
            if as_json:
                print(json.dumps({"gap": True} if each is None else asdict(each)), flush=True)
            else:
                print("-- some are missing here --" if each is None else _line(each), flush=True)
        return
    found = simgpu_cards.record(device, since_ns=since)
    if as_json:
        output.show_json({"intervals": [asdict(each) for each in found]})
        return
    for each in found:
        print(_line(each))


def _line(each: simgpu_cards.BusyInterval) -> str:
    where = f"{each.card}" if each.unit == 0 else f"{each.card}/{each.unit}"
    lasted = format_duration(each.end_ns - each.start_ns)
    who = f"{each.pid:>7}  {each.command} {each.slice}"
    return f"{each.start_ns:>18}  {lasted:>10}  {where:>4}  {who}".rstrip()
