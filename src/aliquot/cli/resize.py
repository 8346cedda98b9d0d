"""`aliquot resize`: another share for programs that run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from aliquot.catalog import qos_level
from aliquot.cli import output
from aliquot.cli.run import Compute, Qos, Tflops
from aliquot.cli.slices import SliceName
from aliquot.errors import InvalidValueError
from aliquot.limits import DeviceLimit, Slice
from aliquot.model import (
    UNSTATED,
    ComputeRequest,
    Ppm,
    format_bytes,
    format_percent,
    parse_bytes,
    parse_percent,
    parse_tflops,
)
from aliquot.node import shares
from aliquot.node.places import find_card, find_slice


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is new, for people."""

    what: str
    old: str
    new: str


def resize(
    name: SliceName,
    vram: Annotated[
        str | None, typer.Option(help="How much device memory it may use from now on.", show_default=False)
    ] = None,
    compute: Compute = None,
    tflops: Tflops = None,
    qos: Qos = None,
    hard: Annotated[
        bool | None,
        typer.Option(
            "--hard/--no-hard", help="Whether that is also the most that it gets.", show_default=False
        ),
    ] = None,
    device: Annotated[
        int, typer.Option(min=0, metavar="N", help="Which of the slice's devices, from 0.")
    ] = 0,
    as_json: output.JsonFlag = False,
) -> None:
    """Change the share of a slice while its programs run.

    Less memory than is held takes nothing away: no more is given until enough has been freed. Compute and QoS
    are in force within 200 ms.

    [bold]Example:[/] [cyan]aliquot resize training --vram 4Gi --compute 50%[/]
    """
    if vram is None and compute is None and tflops is None and qos is None and hard is None:
        raise InvalidValueError("nothing to change", hint="say --vram, --compute, --tflops, --qos or --hard")
    request = ComputeRequest(
        part=UNSTATED if compute is None else parse_percent(compute),
        tflops=0.0 if tflops is None else parse_tflops(tflops),
    )
    level = None if qos is None else qos_level(qos)
    slice_ = find_slice(name)
    before, qos_before = _limit(slice_, device), slice_.qos()
    wanted = _wanted(slice_, before, vram, request, hard)
    if level is not None or wanted != before:
        slice_.change(wanted, level, index=device)
    changes = _changes(before, _limit(slice_, device))
    if slice_.qos().name != qos_before.name:
        changes.append(Change("QoS", qos_before.name, slice_.qos().name))
    _show(name, changes, as_json=as_json)


def _limit(slice_: Slice, device: int) -> DeviceLimit:
    limits = slice_.limits()
    if device >= len(limits):
        raise InvalidValueError(
            f"the slice {slice_.name} has no device {device}", hint=f"it has {len(limits)}, counted from 0"
        )
    return limits[device]


def _wanted(
    slice_: Slice, before: DeviceLimit, vram: str | None, request: ComputeRequest, hard: bool | None
) -> DeviceLimit:
    """Everything is checked before anything is changed. A ceiling follows the request while it is hard."""
    size = before.vram_bytes if vram is None else parse_bytes(vram)
    if vram is not None and size == 0:
        raise InvalidValueError("a share of no memory is none", hint="ask for at least a few MiB: 512Mi")
    if vram is not None or request.tflops:
        card = find_card(slice_, before)
        if card is not None and size > card.vram:
            raise InvalidValueError(
                f"{format_bytes(size)} was asked for, and {card.name} has {format_bytes(card.vram)}"
            )
    part = _part(slice_, before, request) if request.stated else before.compute_request_ppm
    stays_hard = before.compute_limit_ppm != 0 if hard is None else hard
    if stays_hard and not part:
        raise InvalidValueError(
            "a hard share needs to know how much compute it is", hint="add --compute 30% to --hard"
        )
    return DeviceLimit(
        vram_bytes=size,
        device=before.device,
        compute_request_ppm=part,
        compute_limit_ppm=shares.ceiling(part, hard=stays_hard),
    )


def _part(slice_: Slice, before: DeviceLimit, request: ComputeRequest) -> Ppm:
    if not request.tflops:
        return request.part
    card = find_card(slice_, before)
    if card is None:
        raise InvalidValueError(
            f"how many TFLOPS the card {before.device} has is not known", hint="say --compute 30%"
        )
    return shares.part_of(card, request)


def _changes(before: DeviceLimit, now: DeviceLimit) -> list[Change]:
    found = [
        Change("VRAM", format_bytes(before.vram_bytes), format_bytes(now.vram_bytes)),
        Change("compute", _part_text(before.compute_request_ppm), _part_text(now.compute_request_ppm)),
        Change("at most", _most_text(before.compute_limit_ppm), _most_text(now.compute_limit_ppm)),
    ]
    return [each for each in found if each.old != each.new]


def _part_text(part: Ppm) -> str:
    return format_percent(part) if part else "an even part"


def _most_text(part: Ppm) -> str:
    return format_percent(part) if part else "what is free"


def _show(name: str, changes: list[Change], *, as_json: bool) -> None:
    if as_json:
        output.show_json(
            {"slice": name, "changes": [{"what": c.what, "old": c.old, "new": c.new} for c in changes]}
        )
        return
    if not changes:
        print(f"{name}: as it was")
    for each in changes:
        print(f"{name}: {each.what} {each.old} -> {each.new}")
