"""The entry point: one Typer application, and the one place where errors become text and an exit status."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aliquot import __version__
from aliquot.cli import (
    bench,
    broker,
    defragment,
    devices,
    doctor,
    guard,
    output,
    place,
    resize,
    run,
    simgpu,
    slices,
)
from aliquot.errors import AliquotError

app = typer.Typer(
    name="aliquot",
    help="Any share of any accelerator, enforced and measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("run", context_settings=run.CONTEXT)(run.run)
app.add_typer(slices.app, name="slices")
app.command("resize")(resize.resize)
app.command("guard")(guard.guard)
app.command("place")(place.place)
app.command("defragment")(defragment.defragment)
app.command("devices")(devices.devices)
app.command("doctor")(doctor.doctor)
app.command("broker")(broker.broker)
app.command("bench", context_settings=bench.CONTEXT)(bench.bench)
app.add_typer(simgpu.app, name="simgpu")


@app.command("version")
def version(as_json: output.JsonFlag = False) -> None:
    """Show the version."""
    if as_json:
        output.show_json({"version": __version__})
    else:
        print(f"aliquot {__version__}")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"aliquot {__version__}")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Any share of any accelerator, enforced and measured."""


def main() -> None:
    """Runs the command line; the process ends with the error's own status where there is one."""
    try:
        app(prog_name="aliquot")
    except AliquotError as error:
        output.show_error(error)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)  # as a shell reports SIGPIPE
