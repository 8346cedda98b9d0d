"""`aliquot simgpu fault` and `events`: what goes wrong on demand, and what the cards report."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from aliquot.cli import completion, output
from aliquot.cli.simgpu_cards import AnyDevice, Device
from aliquot.vendors import simgpu_cards

fault = typer.Typer(
    help="Make something go wrong with a card. Programs that run see it as they would on a real one."
)

Pid = Annotated[
    int | None,
    typer.Option(
        "--pid",
        min=1,
        help="Only this process; else all on the card.",
        autocompletion=completion.simulated_processes,
    ),
]


class _Bits(StrEnum):
    SINGLE = "single"
    DOUBLE = "double"


class _Location(StrEnum):
    DRAM = "dram"
    L2 = "l2"
    L1 = "l1"
    REGISTER_FILE = "register-file"
    SRAM = "sram"


class _Reason(StrEnum):
    HW_THERMAL = "hw-thermal"
    SW_THERMAL = "sw-thermal"
    SW_POWER = "sw-power"
    POWER_BRAKE = "power-brake"
    NONE = "none"


@fault.command("xid")
def xid(
    number: Annotated[
        int,
        typer.Argument(min=1, max=65535, help="e.g. 31, 48, 79.", autocompletion=completion.xids),
    ],
    device: Device = 0,
    pid: Pid = None,
) -> None:
    """Report an Xid, and end the work that such an Xid ends."""
    simgpu_cards.fault("xid", str(number), card=device, pid=pid)


@fault.command("ecc")
def ecc(
    bits: Annotated[_Bits, typer.Argument(help="Corrected (single) or not (double).")],
    device: Device = 0,
    location: Annotated[_Location, typer.Option(help="In which memory.")] = _Location.DRAM,
    count: Annotated[int, typer.Option(min=1, help="How many at once.")] = 1,
    pid: Pid = None,
) -> None:
    """Count ECC errors. One of two bits ends contexts, and remaps the row or retires the page."""
    simgpu_cards.fault("ecc", bits, card=device, location=location, count=count, pid=pid)


@fault.command("lost")
def lost(device: Device = 0) -> None:
    """Let the card fall off the bus (Xid 79)."""
    simgpu_cards.fault("lost", card=device)


@fault.command("hang")
def hang(
    device: Device = 0,
    pid: Pid = None,
    watchdog_ms: Annotated[
        int | None, typer.Option(min=1, help="End it after so long (Xid 8); else it hangs until `clear`.")
    ] = None,
) -> None:
    """Let the running or next kernel never end; everybody else on the card waits."""
    simgpu_cards.fault("hang", card=device, pid=pid, watchdog_ms=watchdog_ms)


@fault.command("throttle")
def throttle(
    device: Device = 0,
    reason: Annotated[_Reason, typer.Option(help="`none` ends it.")] = _Reason.HW_THERMAL,
    clock: Annotated[int, typer.Option(min=1, max=100, help="Percent of the full clock.")] = 50,
    temperature: Annotated[int, typer.Option(min=1, max=150, help="Degrees Celsius.")] = 95,
) -> None:
    """Hold the card's clocks down: kernels take longer by as much."""
    simgpu_cards.fault("throttle", card=device, reason=reason, clock=clock, temperature=temperature)


@fault.command("alloc-fail")
def alloc_fail(
    device: Device = 0,
    nth: Annotated[
        int, typer.Option(min=1, max=65535, help="Which allocation from now on; 1 is the next.")
    ] = 1,
    times: Annotated[int, typer.Option(min=1, max=65535, help="How many fail from there on.")] = 1,
    pid: Pid = None,
) -> None:
    """Let an allocation of device memory fail."""
    simgpu_cards.fault("alloc-fail", card=device, nth=nth, times=times, pid=pid)


@fault.command("clear")
def clear(device: Device = 0) -> None:
    """Make the card whole again, as a reset does; counters over its life stay."""
    simgpu_cards.fault("clear", card=device)


@fault.command("list")
def show(device: AnyDevice = None, as_json: output.JsonFlag = False) -> None:
    """Show what is wrong with each card."""
    states = simgpu_cards.fault_states(device)
    if as_json:
        output.show_json({"cards": states})
        return
    table = output.table(
        ">#", "state", ">clock", ">ECC corrected", ">not", ">rows remapped", ">pages retired"
    )
    for each in states:
        table.add_row(
            str(each["card"]),
            _state(each),
            f"{each['clock_percent']}%",
            str(each["ecc_corrected"]),
            str(each["ecc_uncorrected"]),
            str(each["rows_remapped"]),
            str(each["retired_pages"]),
        )
    output.stdout.print(table)


def _state(entry: dict[str, object]) -> str:
    if entry["lost"]:
        return "lost"
    if entry["hung_pid"]:
        return f"hung by {entry['hung_pid']}"
    if entry["reset_needed"]:
        return "needs a reset"
    return "hang armed" if entry["hang_armed"] else "well"


def events(
    follow: Annotated[bool, typer.Option("--follow", help="Wait for what comes.")] = False,
    seconds: Annotated[int | None, typer.Option(min=1, help="With --follow: for so long.")] = None,
    as_json: output.JsonFlag = False,
) -> None:
    """Show what the cards reported: Xids, ECC errors, throttling, changes. With --json one object a line."""
    for each in simgpu_cards.events(follow=follow, seconds=seconds):
        if as_json:
            print(json.dumps(each), flush=True)
        else:
            of = f"  pid {each['pid']}" if each["pid"] else ""
            print(
                f"{each['realtime_ns'] / 1e9:.3f}  card {each['card']}  {each['kind']} {each['data']}{of}",
                flush=True,
            )
