"""`aliquot bench` on benchmarks that the test makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aliquot.bench import Benchmark, BenchmarkUnavailable, Report
from aliquot.cli import bench
from aliquot.cli.main import app
from aliquot.errors import InvalidValueError


def quick(report: Report) -> None:
    report.add("quick.speed", [1e9, 2e9, 3e9], unit="1/s", better="higher", goal=5e9)
    report.add("quick.cost", [2.0], unit="ns", better="lower", goal=8)
    report.add("quick.arguments", [len(report.arguments)], unit="count", better="lower")
    report.skip("quick.other", "this processor has none")
    report.note("on one core")


def absent(_: Report) -> None:
    raise BenchmarkUnavailable("it needs a card", hint="buy one")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        name: Benchmark(name, f"the {name} one", act, takes_arguments=name == "quick")
        for name, act in (("quick", quick), ("absent", absent))
    }
    monkeypatch.setattr(bench, "load_benchmarks", lambda: made)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["bench", *arguments])
    return done.exit_code, done.output


def test_the_table_shows_figures_goals_gaps_and_notes() -> None:
    status, text = run("quick")
    assert status == 0
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("quick.")}
    assert rows["quick.speed"] == ["2.000e+09", "1.200e+09", "2.800e+09", "1/s", ">=", "5.000e+09", "3"]
    assert rows["quick.cost"][:1] == ["2"]
    assert "this processor has none" in text
    assert "on one core" in text


def test_the_figures_are_written(tmp_path: Path) -> None:
    assert run("quick", "--json", str(tmp_path / "new" / "quick.json"))[0] == 0
    written = json.loads((tmp_path / "new" / "quick.json").read_text())
    assert set(written) == {"benchmark", "machine", "date", "results"}
    assert [result["name"] for result in written["results"]] == [
        "quick.speed",
        "quick.cost",
        "quick.arguments",
    ]


def test_a_missed_goal_counts_only_when_asked() -> None:
    assert run("quick", "--check")[0] == 3


def test_what_follows_the_dashes_is_the_benchmarks() -> None:
    _, text = run("quick", "--", "--preload", "other.so")
    assert [line.split()[1] for line in text.splitlines() if line.startswith("quick.arguments")] == ["2"]


def test_so_do_options_that_are_not_the_commands() -> None:
    _, text = run("quick", "--preload", "other.so", "--quick")
    assert [line.split()[1] for line in text.splitlines() if line.startswith("quick.arguments")] == ["2"]


def test_a_benchmark_without_options_refuses_them() -> None:
    done = CliRunner().invoke(app, ["bench", "absent", "--qiuck"])
    assert isinstance(done.exception, InvalidValueError)


def test_all_of_them_go_on_past_one_that_cannot_run(tmp_path: Path) -> None:
    status, text = run("--all", "--json", str(tmp_path))
    assert status == 0
    assert "it needs a card" in text
    assert [file.name for file in tmp_path.iterdir()] == ["quick.json"]


def test_one_that_cannot_run_is_an_error_by_itself() -> None:
    done = CliRunner().invoke(app, ["bench", "absent"])
    assert isinstance(done.exception, BenchmarkUnavailable)
