"""How results and errors reach people and programs: tables and lines, or JSON with --json."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aliquot.errors import AliquotError

_PIPE_COLUMNS = 200
"""Wide enough that no table is cut where a program reads it."""

stdout = Console(soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
stderr = Console(stderr=True, soft_wrap=True)


class _Wanted:
    """Whether the command under way was asked for JSON; errors then take that form too."""

    json = False


def _want_json(wanted: bool) -> bool:
    _Wanted.json = wanted
    return wanted


JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of a table.", callback=_want_json, is_eager=True)
]


def show_json(value: Any) -> None:
    """Prints a value as indented JSON on stdout."""
    print(json.dumps(value, indent=2))


def show_error(error: AliquotError) -> None:
    """Prints an error: as JSON on stdout if JSON was asked for, as lines on stderr otherwise."""
    if _Wanted.json:
        show_json({"error": error.as_dict()})
        return
    stderr.print(f"[bold red]aliquot:[/] {escape(error.reason)}", highlight=False)
    if error.hint:
        stderr.print(f"[dim]  -> {escape(error.hint)}[/]", highlight=False)


def show_note(text: str) -> None:
    """One line for the person, on stderr, so that a program's output stays clean."""
    stderr.print(f"[dim]aliquot:[/] {escape(text)}", highlight=False)


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the project's form; a column whose name begins with `>` is aligned to the right."""
    made = Table(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0)
    )
    for column in columns:
        if column.startswith(">"):
            made.add_column(column.removeprefix(">"), justify="right", no_wrap=True)
        else:
            made.add_column(column, overflow="fold")
    return made


def is_interactive() -> bool:
    """Whether a person watches stdout, so that a live table makes sense."""
    return stdout.is_terminal and os.environ.get("TERM") != "dumb"
