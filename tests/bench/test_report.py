from __future__ import annotations

import json
import statistics
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.bench import Report, load_benchmarks
from aliquot.bench.report import quantile
from aliquot.errors import InvalidValueError

FINITE = st.floats(-1e12, 1e12)


def report() -> Report:
    return Report(benchmark="demo", scratch=Path("/nonexistent"))


@given(st.lists(FINITE, min_size=1, max_size=50))
def test_the_median_lies_within_the_spread(samples: list[float]) -> None:
    made = report()
    made.add("demo.value", samples, unit="ns", better="lower")
    (result,) = made.results
    assert result.value == statistics.median(samples)
    assert min(samples) <= result.p10 <= result.value <= result.p90 <= max(samples)
    assert result.samples == len(samples)


@given(st.lists(FINITE, min_size=2, max_size=50), st.floats(0, 1))
def test_quantiles_agree_with_the_inclusive_definition(samples: list[float], fraction: float) -> None:
    ordered = sorted(samples)
    assert quantile(ordered, 0) == ordered[0]
    assert quantile(ordered, 1) == ordered[-1]
    tenth = statistics.quantiles(ordered, n=10, method="inclusive")[0]
    assert quantile(ordered, 0.1) == pytest.approx(tenth, rel=1e-9, abs=1e-3)
    assert ordered[0] <= quantile(ordered, fraction) <= ordered[-1]


@pytest.mark.parametrize(
    ("better", "value", "goal", "met"),
    [
        ("higher", 5, 5, True),
        ("higher", 4, 5, False),
        ("lower", 5, 5, True),
        ("lower", 6, 5, False),
        ("lower", 6, None, None),
    ],
)
def test_goals(better: str, value: float, goal: float | None, met: bool | None) -> None:
    made = report()
    made.add("demo.value", [value], unit="ns", better=better, goal=goal)  # pyright: ignore[reportArgumentType]
    assert made.results[0].meets_goal is met


@pytest.mark.parametrize(
    ("name", "samples", "unit"),
    [
        ("other.value", [1], "ns"),
        ("demo", [1], "ns"),
        ("demo.Value", [1], "ns"),
        ("demo.value", [], "ns"),
        ("demo.value", [float("nan")], "ns"),
        ("demo.value", [float("inf")], "ns"),
        ("demo.value", [1], "furlongs"),
    ],
)
def test_what_cannot_be_reported(name: str, samples: list[float], unit: str) -> None:
    with pytest.raises(InvalidValueError):
        report().add(name, samples, unit=unit, better="lower")


def test_a_figure_is_measured_once() -> None:
    made = report()
    made.add("demo.value", [1], unit="ns", better="lower")
    with pytest.raises(InvalidValueError, match="measured twice"):
        made.add("demo.value", [2], unit="ns", better="lower")


def test_the_json_form_is_exactly_the_projects() -> None:
    made = report()
    made.add("demo.speed", [1.0, 2.0, 3.0], unit="1/s", better="higher", goal=2.5)
    made.skip("demo.other", "this processor cannot")
    made.note("on one core")
    value = made.as_dict(machine="a machine", date=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert json.loads(json.dumps(value)) == {
        "benchmark": "demo",
        "machine": "a machine",
        "date": "2026-01-02T03:04:05+00:00",
        "results": [
            {
                "name": "demo.speed",
                "value": 2.0,
                "unit": "1/s",
                "better": "higher",
                "goal": 2.5,
                "p10": 1.2,
                "p90": 2.8,
                "samples": 3,
            }
        ],
    }


def test_benchmarks_are_found_run_in_a_scratch_folder_and_cleaned_up(tmp_path: Path) -> None:
    folder = tmp_path / "some_benchmarks"
    folder.mkdir()
    (folder / "_helper.py").write_text("raise RuntimeError('not a benchmark')")
    (folder / "first.py").write_text(
        "from aliquot.bench import benchmark\n"
        "@benchmark('first', summary='the first', arguments=True)\n"
        "def measure(report):\n"
        "    (report.scratch / 'file').write_text(' '.join(report.arguments))\n"
        "    report.add('first.samples', [report.samples(20)], unit='count', better='lower')\n"
        "    report.note(str(report.scratch))\n"
    )
    known = load_benchmarks(folder)
    assert list(known) == ["first"]
    made = known["first"].run(quick=True, arguments=["--x"])
    assert made.results[0].value == 3
    assert not Path(made.notes[0]).exists()


def test_two_benchmarks_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(
            "from aliquot.bench import benchmark\nbenchmark('same', summary='')(lambda report: None)\n"
        )
    with pytest.raises(InvalidValueError, match="two benchmarks"):
        load_benchmarks(tmp_path)
