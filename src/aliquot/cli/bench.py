"""`aliquot bench`: runs benchmarks and shows or writes what they found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from aliquot.bench import Benchmark, BenchmarkUnavailable, Report, Result, load_benchmarks
from aliquot.bench.tools import machine_name
from aliquot.cli import output
from aliquot.errors import AliquotError, InvalidValueError

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
_GOAL_MISSED = 3

Name = Annotated[str | None, typer.Argument(help="Which benchmark; see --list.", show_default=False)]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Write the figures there (with --all: a folder).", show_default=False
    ),
]


def bench(
    context: typer.Context,
    name: Name = None,
    json_file: JsonFile = None,
    run_all: Annotated[bool, typer.Option("--all", help="Run every benchmark.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the benchmarks.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few repetitions: is it alive, not how fast.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="End with status 3 where a goal is missed.")] = False,
) -> None:
    """Measure: medians and spread in a table, and as JSON.

    Options that are not listed here go to the benchmark, and so does all that follows [bold]--[/]:
    [cyan]aliquot bench limiter --quick --only calls[/].
    """
    known = load_benchmarks()
    if show_list or not (name or run_all):
        _show_list(known)
        return
    chosen = list(known.values()) if run_all else [_find(known, name or "")]
    reports = [report for each in chosen if (report := _run(each, quick, context.args, tolerant=run_all))]
    for report in reports:
        _show(report)
        if json_file:
            _write(report, json_file / f"{report.benchmark}.json" if run_all else json_file)
    if check and any(result.meets_goal is False for report in reports for result in report.results):
        raise typer.Exit(_GOAL_MISSED)


def _find(known: dict[str, Benchmark], name: str) -> Benchmark:
    if name not in known:
        raise InvalidValueError(
            f"there is no benchmark {name!r}", hint=f"there are: {', '.join(known) or 'none'}"
        )
    return known[name]


def _run(each: Benchmark, quick: bool, arguments: list[str], *, tolerant: bool) -> Report | None:
    output.show_note(f"measuring {each.name}: {each.summary}")
    try:
        return each.run(quick=quick, arguments=arguments)
    except BenchmarkUnavailable as error:
        if not tolerant:
            raise
        output.show_error(error)
        return None


def _show_list(known: dict[str, Benchmark]) -> None:
    table = output.table("benchmark", "what it measures")
    for each in known.values():
        table.add_row(each.name, escape(each.summary))
    output.stdout.print(table)


def _show(report: Report) -> None:
    table = output.table(
        "figure", ">median", ">p10", ">p90", "unit", ">goal", ">n", title=f"[bold]{report.benchmark}[/]"
    )
    for result in report.results:
        table.add_row(*_row(result))
    for name, reason in report.skipped.items():
        table.add_row(name, "-", "", "", f"[dim]{escape(reason)}[/]")
    output.stdout.print(table)
    for note in report.notes:
        output.stdout.print(f"[dim]{escape(note)}[/]", highlight=False)


def _row(result: Result) -> list[str]:
    colour = {True: "green", False: "red", None: "default"}[result.meets_goal]
    sign = ">=" if result.better == "higher" else "<="
    return [
        result.name,
        f"[{colour}]{_number(result.value)}[/]",
        _number(result.p10),
        _number(result.p90),
        result.unit,
        "" if result.goal is None else f"{sign} {_number(result.goal)}",
        str(result.samples),
    ]


def _number(value: float) -> str:
    return f"{value:.3e}" if abs(value) >= 1e6 else f"{value:.4g}"


def _write(report: Report, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(report.as_dict(machine=machine_name()), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise AliquotError(f"{file} cannot be written: {error.strerror}") from error
