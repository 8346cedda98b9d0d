"""The command line of `python -m conformance`."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aliquot.errors import AliquotError
from conformance import comparing, judging, report, suites
from conformance.modules import Stopped
from conformance.record import FAILED, SKIPPED, Record, Result
from conformance.run import Selection, SuiteRun
from conformance.suite import Suite, SuiteError
from conformance.surroundings import Inside

_BELOW_GOAL = 1
_CANNOT_RUN = 2
_STOPPED = 3
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a suite; returns 1 if it stays below its goals, or if what its file says is not so.

    Returns 3 where a signal ended it: its processes and their folders are gone then, what it found is kept.
    """
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    of_a_slice = options.neighbour or options.slice_options or options.every_card
    if of_a_slice and not (options.inside_slice or options.compare):
        parser.error("these options are of a slice: say --inside-slice or --compare")
    if options.every_card and options.slice_options:
        parser.error("--slice-options are of a slice of one card")
    try:
        suite = suites.suite(options.suite)
        return _run(suite, options)
    except (SuiteError, AliquotError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return _CANNOT_RUN
    except Stopped:
        print("conformance: stopped; the next run begins where this one ended", file=sys.stderr)
        return _STOPPED


def _run(suite: Suite, options: argparse.Namespace) -> int:
    one_card = options.compare and not options.every_card
    cards = options.cards or (suite.slice_cards if one_card else None)
    if cards:
        suite = replace(suite, cards=cards)
    if options.compare:
        return _compare(suite, cards, options)
    inside = _inside(options) if options.inside_slice else None
    folder = options.out / suite.name / _folder_name(inside, cards)
    run, selection = _prepared(suite, folder, inside, options)
    results = run.run(selection, jobs=options.jobs, progress=_Progress(options.quiet))
    judgement = judging.judge(suite, results, everything=selection.is_everything)
    _show(suite, judgement)
    report.write_junit(folder / "junit.xml", suite, results)
    if options.json:
        report.write_json(options.json, suite, judgement, results, inside=options.inside_slice)
    differ = _differences(options.same_as, results) if options.same_as else []
    for each in differ:
        print(each)
    return (
        0 if judging.reaches_goals(suite, judgement) and not judgement.stale and not differ else _BELOW_GOAL
    )


def _compare(suite: Suite, cards: str | None, options: argparse.Namespace) -> int:
    """Outside a slice and inside one on the same machine; what has a result is not run again."""
    inside = _inside(options)
    found: list[list[Result]] = []
    for place in (None, inside):
        folder = options.out / suite.name / _folder_name(place, cards)
        run, selection = _prepared(suite, folder, place, options)
        print(f"{'outside a slice' if place is None else 'inside a slice'}: {folder}", flush=True)
        found.append(run.run(selection, jobs=options.jobs, progress=_Progress(options.quiet)))
    compared = comparing.pairs(*found)
    print(comparing.summary(compared, inside, run.use))
    if options.json:
        comparing.write_json(options.json, suite, compared, inside, run.use)
    return 0 if compared and all(each.alike for each in compared) else _BELOW_GOAL


def _prepared(
    suite: Suite, folder: Path, inside: Inside | None, options: argparse.Namespace
) -> tuple[SuiteRun, Selection]:
    """A run that a signal stops, which has forgotten what is to be run again; and what it is to run."""
    run = SuiteRun(suite, folder, inside)
    for number in _ENDING:
        signal.signal(number, lambda *_: run.stop())
    if options.fresh:
        run.forget(options.modules)
    if options.last_failed:
        run.forget_failures(options.modules)
    return run, _selection(run, options)


def _inside(options: argparse.Namespace) -> Inside:
    return Inside(
        every_card=options.every_card,
        options=tuple(shlex.split(options.slice_options)),
        neighbour=options.neighbour,
    )


def _folder_name(inside: Inside | None, cards: str | None) -> str:
    """Results on other cards, or of another slice, are no part of the suite's own."""
    around = ["bare"] if inside is None else ["inside-slice", *inside.options]
    around += ["every-card"] if inside is not None and inside.every_card else []
    around += ["neighbour"] if inside is not None and inside.neighbour else []
    return "-".join(part.strip("-").replace("/", "_") for part in [*around, cards or ""] if part)


def _selection(run: SuiteRun, options: argparse.Namespace) -> Selection:
    tests = None
    if options.tests:
        lines = options.tests.read_text(encoding="utf-8").splitlines()
        tests = [line for line in lines if line and not line.startswith("#")]
    elif options.sample:
        tests = run.sample(options.sample, options.seed)
    if options.write_tests:
        options.write_tests.write_text("".join(f"{test}\n" for test in tests or ()), encoding="utf-8")
    return Selection(patterns=options.modules, tests=tests, together=options.together)


def _show(suite: Suite, judgement: judging.Judgement) -> None:
    parts = [
        report.failures(suite, judgement),
        report.exclusions(suite, judgement),
        "\n".join(f"stale: {each}" for each in judgement.stale),
        report.table(judgement),
        report.goals(suite, judgement),
    ]
    print("\n\n".join(filter(None, parts)))


def _differences(file: Path, results: Sequence[Result]) -> list[comparing.Pair]:
    """What became of tests otherwise than in another run."""
    chosen = {each.test for each in results}
    before = [each for each in comparing.read(file) if each.test in chosen]
    return [each for each in comparing.pairs(before, results) if not each.alike]


class _Progress:
    """A line for each module that is done."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._done = 0

    def __call__(self, module: str, done: Record, seconds: float) -> None:
        with self._lock:
            self._done += 1
            if not self._quiet:
                print(f"{self._done:4d}  {module}: {_counts(done)} ({seconds:.0f} s)", flush=True)


def _counts(done: Record) -> str:
    counts = Counter(each.outcome for each in done.results.values())
    failed = f", {counts[FAILED]} failed" if counts[FAILED] else ""
    skipped = f", {counts[SKIPPED]} skipped" if counts[SKIPPED] else ""
    return f"{counts.total() - counts[FAILED] - counts[SKIPPED]} passed{failed}{skipped}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance", description="Runs a test suite that others wrote on a simulated GPU."
    )
    add = parser.add_argument
    add("suite", choices=suites.NAMES)
    add("modules", nargs="*", help="only modules in whose names one of these occurs")
    add("--fresh", action="store_true", help="forget earlier results; without it a run is resumed")
    add("--last-failed", action="store_true", help="run what failed again, and what has not run yet")
    add("--sample", type=int, metavar="N", help="only N tests, chosen at random")
    add("--seed", type=int, default=0, help="of the choice (default 0)")
    add("--tests", type=Path, metavar="FILE", help="only the tests that FILE names, one a line")
    add("--write-tests", type=Path, metavar="FILE", help="write the names of the chosen tests there")
    add("--together", type=int, default=1, metavar="N", help="run N modules in a process (default 1)")
    add("--jobs", type=int, default=1, metavar="N", help="modules that run at once (default 1)")
    add(
        "--cards",
        metavar="CARDS",
        help="another simulated machine than the suite's, as ALIQUOT_SIMGPU names it",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--inside-slice", action="store_true", help="run everything inside `aliquot run`")
    ways.add_argument(
        "--compare",
        action="store_true",
        help="run everything outside a slice and inside one, on one card; fail where a test ends otherwise",
    )
    add(
        "--slice-options",
        default="",
        metavar="OPTIONS",
        help="more options of `aliquot run` for the slice: --slice-options='--compute 30%%'",
    )
    add("--every-card", action="store_true", help="a slice of all cards of the suite's machine, not of one")
    add("--neighbour", action="store_true", help="another slice keeps the card busy meanwhile")
    add(
        "--same-as",
        type=Path,
        metavar="FILE",
        help="fail where a test ends otherwise than FILE (--json) says",
    )
    add("--json", type=Path, metavar="FILE", help="write all results there")
    add("--out", type=Path, default=Path("out/conformance"), metavar="FOLDER", help="where results are kept")
    add("--quiet", "-q", action="store_true", help="no line for each module")
    return parser
