"""`aliquot run`: an unchanged CUDA program on a share of a card."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aliquot.catalog import qos_level
from aliquot.cli import completion, output
from aliquot.errors import AliquotError, InvalidValueError
from aliquot.model import (
    UNSTATED,
    WHOLE_CARD,
    ComputeRequest,
    Device,
    DeviceKind,
    Share,
    format_bytes,
    format_duration,
    format_percent,
    parse_bytes,
    parse_percent,
    parse_tflops,
)
from aliquot.node import cards, shares, tenancy
from aliquot.node.places import find_place, find_slice
from aliquot.node.programs import Ended, run_program
from aliquot.node.tenancy import join

CONTEXT = {"allow_interspersed_args": False}

Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- PROGRAM [ARGUMENTS]...", help="What to run.", show_default=False),
]
Vram = Annotated[
    str | None,
    typer.Option(help="How much device memory it may use: 2Gi, 512MiB, 1.5GB.", show_default=False),
]
Compute = Annotated[
    str | None,
    typer.Option(
        metavar="PERCENT",
        help="The part of the card's time that it is guaranteed: 30%.",
        show_default=False,
    ),
]
Tflops = Annotated[
    str | None,
    typer.Option(
        metavar="TFLOPS", help="The same, as a speed (fp16, dense, by the catalogue): 20.", show_default=False
    ),
]
Qos = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        help="Its level of service: low, medium (default), high, critical.",
        show_default=False,
        autocompletion=completion.qos_levels,
    ),
]
Hard = Annotated[bool, typer.Option("--hard", help="No more compute than guaranteed, even of an idle card.")]
Simulate = Annotated[bool, typer.Option("--simulate", help="Use a simulated card, whatever is there.")]
Card = Annotated[
    str | None,
    typer.Option(help="The card, by number or UUID; by default the emptiest.", show_default=False),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the summary there.", show_default=False)
]


def run(
    command: Command = None,
    vram: Vram = None,
    compute: Compute = None,
    tflops: Tflops = None,
    qos: Qos = None,
    hard: Hard = False,
    simulate: Simulate = False,
    device: Card = None,
    slice_name: Annotated[
        str | None,
        typer.Option(
            "--slice",
            metavar="NAME",
            help="Run on this slice, which is there already and stays, instead of a new one.",
            show_default=False,
            autocompletion=completion.slice_names,
        ),
    ] = None,
    json_file: JsonFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no summary on stderr.")] = False,
) -> None:
    """Run a program on a share of a card.

    A real card if this machine has one that works, a simulated one if it has none. The program keeps its
    terminal, folder and signals, and its status is the status of this command. Memory beyond the share is
    refused with the driver's own out-of-memory error; kernels wait for their turn. What a slice leaves
    unused, others may take, unless they are [bold]--hard[/]. Where a broker shares the cards of this machine
    among people, it makes the slice, within what this person may have.

    [bold]Example:[/] [cyan]aliquot run --vram 2Gi -- python train.py[/]
    """
    if not command:
        raise InvalidValueError(
            "there is no program to run", hint="aliquot run --vram 2Gi -- python train.py"
        )
    place = find_place(simulate=simulate)
    if slice_name is not None:
        given = (vram, compute, tflops, qos, device)
        if hard or any(each is not None for each in given):
            raise InvalidValueError(
                "--slice names a slice that has its share already", hint="aliquot resize changes it"
            )
        raise typer.Exit(_run_on(join(find_slice(slice_name), place), None, command, json_file, quiet=quiet))
    share = make_share(vram, compute, tflops, qos, hard=hard)
    chosen = cards.choose(place.cards.devices, share, device)
    if place.cards.reason and not quiet:
        output.show_note(f"{place.cards.reason}: {chosen.name}, {format_bytes(chosen.vram)}")
    stay = tenancy.prepare(chosen, share, place=place)
    raise typer.Exit(_run_on(stay, share, command, json_file, quiet=quiet))


def make_share(
    vram: str | None, compute: str | None, tflops: str | None, qos: str | None, *, hard: bool
) -> Share:
    """The share that these options ask for. Raises `InvalidValueError`."""
    if vram is None:
        raise InvalidValueError(
            "how much device memory is not said", hint="say --vram 2Gi, or --slice for one that is there"
        )
    return Share(
        vram=parse_bytes(vram),
        compute=ComputeRequest(
            part=UNSTATED if compute is None else parse_percent(compute),
            tflops=0.0 if tflops is None else parse_tflops(tflops),
        ),
        hard=hard,
        qos=None if qos is None else qos_level(qos),
    )


def _run_on(
    tenant: tenancy.Tenancy,
    share: Share | None,
    command: Sequence[str],
    json_file: Path | None,
    *,
    quiet: bool,
) -> int:
    device = tenant.device
    with tenant as stay:
        _prepare_compute(stay, share, quiet=quiet)
        begin = time.monotonic_ns()
        ended = run_program(command, stay.environment(os.environ), stay.look_after)
        duration = time.monotonic_ns() - begin
        use = stay.use()
    if not quiet:
        _show_summary(device, use, ended, duration)
    if json_file:
        _write_summary(json_file, command, device, use, ended, duration)
    return ended.shell_status


def _prepare_compute(stay: tenancy.Tenancy, share: Share | None, *, quiet: bool) -> None:
    """A program whose share of time cannot be held still runs; the person is told."""
    try:
        stay.arbiter.ensure()
    except AliquotError as error:
        if not quiet:
            output.show_note(f"{error.reason} ({error.hint})")
        return
    if share is None:
        return
    asked = shares.asked_of(stay.device) + shares.part_of(stay.device, share.compute)
    if asked > WHOLE_CARD and not quiet:
        output.show_note(
            f"the slices of {stay.device.name} ask for {format_percent(asked)} of it: each gets less"
        )


def _show_summary(device: Device, use: tenancy.Use, ended: Ended, duration: int) -> None:
    how = f"status {ended.status}" if ended.signal is None else f"signal {ended.signal}"
    gpu = "not recorded" if use.gpu_time_ns is None else format_duration(use.gpu_time_ns)
    output.show_note(f"ended with {how} after {format_duration(duration)} on {device.name}")
    output.show_note(
        f"VRAM peak {format_bytes(use.vram_peak)} of {format_bytes(use.vram_limit)}; GPU time {gpu}; "
        f"{use.launches} launches; copied {format_bytes(use.copied_to_device)} to the device, "
        f"{format_bytes(use.copied_to_host)} back"
    )
    if use.waited_ns or use.held_back_ns:
        output.show_note(
            f"waited {format_duration(use.waited_ns)} for its turns of the card; "
            f"calls were held back for {format_duration(use.held_back_ns)} (all threads)"
        )
    if use.refused_allocations:
        count = "1 allocation" if use.refused_allocations == 1 else f"{use.refused_allocations} allocations"
        output.show_note(f"refused {count} at the limit of {format_bytes(use.vram_limit)}")


def _write_summary(
    file: Path, command: Sequence[str], device: Device, use: tenancy.Use, ended: Ended, duration: int
) -> None:
    summary = {
        "command": list(command),
        "status": ended.status if ended.signal is None else None,
        "signal": ended.signal,
        "seconds": duration / 1e9,
        "device": {
            "uuid": device.uuid,
            "name": device.name,
            "simulated": device.kind is DeviceKind.SIMULATED,
        },
        "use": asdict(use),
    }
    try:
        file.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise AliquotError(f"the summary cannot be written to {file}: {error.strerror}") from error
