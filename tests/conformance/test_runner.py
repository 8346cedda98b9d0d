"""The runner of others' suites: crashes, hangs, exclusions, resumption, in suites made for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conformance import command, judging, record, suites
from conformance.modules import ModuleRun
from conformance.run import Selection, SuiteRun
from conformance.suite import Module, Suite, SuiteError, load
from conformance.surroundings import surroundings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = """
[suite]
title = "a suite"
package = "pytest"
[goal]
of_all = 50.0
after_exclusions = 60.0
[limits]
test = 5
module = 60
[machine]
cards = "t4:1"
slice = "1Gi"
"""

GOOD = """
import unittest

def test_one(): pass
def test_two(): assert 1 == 2, "one is not 2"

class TestClass(unittest.TestCase):
    def test_subtests(self):
        for i in range(4):
            with self.subTest(i=i):
                self.assertLess(i, 2)
    @unittest.expectedFailure
    def test_expected(self):
        self.fail()
    @unittest.skip("not here")
    def test_skipped(self): pass
"""

CRASHING = """
import os, signal, time
def test_before(): pass
def test_crash(): os.kill(os.getpid(), signal.SIGSEGV)
def test_between(): pass
def test_hang(): time.sleep(600)
def test_after(): pass
"""

FAULTY = """
from cuda.bindings import driver
PTX = b".version 7.0\\n.target sm_70\\n.address_size 64\\n.visible .entry fault() { trap; }\\0"
def call(name, *arguments):
    code, *values = getattr(driver, name)(*arguments)
    assert int(code) == 0, (name, code)
    return values[0] if values else None
def launch():
    call("cuInit", 0)
    call("cuCtxSetCurrent", call("cuDevicePrimaryCtxRetain", 0))
    return call("cuModuleGetFunction", call("cuModuleLoadData", PTX), b"fault")
def test_before(): launch()
def test_fault():
    call("cuLaunchKernel", launch(), 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    call("cuCtxSynchronize")
def test_after(): launch()
"""

BROKEN = "import no_such_module\n"


def suite_of(folder: Path, modules: dict[str, str], settings: str = "") -> Suite:
    """A suite of these modules."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    file = folder / "suite.toml"
    file.write_text(SETTINGS + settings)
    found = [Module(f"{name}.py", (str(folder / f"{name}.py"),), (f"{name}.py",)) for name in modules]
    return load(file, name="ours", root=folder, modules=found)


def run(suite: Suite, folder: Path, **selection: object) -> dict[str, record.Result]:
    """All results by the name of the test."""
    chosen = Selection(**selection)  # pyright: ignore[reportArgumentType]
    results = SuiteRun(suite, folder).run(chosen, jobs=2, progress=lambda *_: None)
    return {each.test: each for each in results}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_outcomes(tmp_path, out):
    results = run(suite_of(tmp_path, {"test_good": GOOD}), out)
    assert {test.partition("::")[2]: each.outcome for test, each in results.items()} == {
        "test_one": "passed",
        "test_two": "failed",
        "TestClass::test_subtests": "failed",
        "TestClass::test_expected": "expected failure",
        "TestClass::test_skipped": "skipped",
    }
    assert "one is not 2" in results["test_good.py::test_two"].message
    assert results["test_good.py::TestClass::test_skipped"].message == "not here"


def test_crashes_and_hangs_cost_one_test_each(tmp_path, out):
    results = run(suite_of(tmp_path, {"test_crashing": CRASHING}), out)
    assert {test.partition("::")[2]: each.passed for test, each in results.items()} == {
        "test_before": True,
        "test_crash": False,
        "test_between": True,
        "test_hang": False,
        "test_after": True,
    }
    assert "SIGSEGV" in results["test_crashing.py::test_crash"].message
    assert "hung" in results["test_crashing.py::test_hang"].message
    assert "in test_hang" in (out / "test_crashing.log").read_text()


def test_fault_of_a_kernel_costs_one_test(tmp_path, out):
    """It ends the context, and with it whatever else its process would test."""
    results = run(suite_of(tmp_path, {"test_faulty": FAULTY}), out)
    assert {test.partition("::")[2]: each.passed for test, each in results.items()} == {
        "test_before": True,
        "test_fault": False,
        "test_after": True,
    }


def test_module_that_cannot_be_imported_fails(tmp_path, out):
    (result,) = run(suite_of(tmp_path, {"test_broken": BROKEN}), out).values()
    assert result.outcome == record.FAILED
    assert "no_such_module" in result.message


def test_run_is_resumed(tmp_path, out):
    suite = suite_of(tmp_path, {"test_good": GOOD})
    done = ["test_good.py::test_one"]
    run(suite, out, tests=done)
    events = out / "test_good.jsonl"
    before = events.read_bytes()
    assert set(run(suite, out, tests=done)) == set(done)
    assert events.read_bytes() == before, "what has a result was run again"
    assert len(run(suite, out)) == 5
    starts = [line for line in events.read_text().splitlines() if '"start"' in line and "test_one" in line]
    assert len(starts) == 1


def test_failures_are_run_again(tmp_path, out):
    suite = suite_of(tmp_path, {"test_good": GOOD})
    assert not run(suite, out)["test_good.py::test_two"].passed
    (tmp_path / "test_good.py").write_text(GOOD.replace("1 == 2", "2 == 2"))
    assert not run(suite, out)["test_good.py::test_two"].passed
    SuiteRun(suite, out).forget_failures(["good"])
    assert run(suite, out)["test_good.py::test_two"].passed


def test_half_a_line_is_no_result(tmp_path, out):
    suite = suite_of(tmp_path, {"test_good": GOOD})
    run(suite, out)
    events = out / "test_good.jsonl"
    events.write_text(events.read_text()[:-40])
    assert len(run(suite, out)) == 5


def test_tests_that_are_not_there_fail(tmp_path, out):
    name = "test_good.py::test_gone"
    assert run(suite_of(tmp_path, {"test_good": GOOD}), out, tests=[name])[name].outcome == record.FAILED


def test_sample_is_reproducible(tmp_path, out):
    suite = suite_of(tmp_path, {"test_good": GOOD, "test_crashing": CRASHING})
    first = SuiteRun(suite, out).sample(4, seed=3)
    assert len(first) == 4
    assert first == SuiteRun(suite, tmp_path / "other").sample(4, seed=3)
    assert set(run(suite, out, tests=first, together=2)) == set(first)


def exclude(**entry: object) -> str:
    """An exclusion in the suite's file."""
    return "[[exclusion]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in entry.items())


def test_exclusions_and_goals(tmp_path, out):
    settings = exclude(**{"class": "hardware"}, reason="no", tests=["*::test_two"])
    settings += exclude(**{"class": "cubin tool"}, reason="no", skips=["not h*"])
    suite = suite_of(tmp_path, {"test_good": GOOD}, settings)
    judgement = judging.judge(suite, run(suite, out).values(), everything=True)
    total = judgement.total
    assert (total.collected, total.passed, total.failed, total.skipped, total.excluded) == (5, 2, 1, 0, 2)
    assert total.percent_of_all == pytest.approx(40.0)
    assert total.percent_after_exclusions == pytest.approx(100 * 2 / 3)
    assert not judging.reaches_goals(suite, judgement)
    assert not judgement.stale


def test_stale_exclusions_are_reported(tmp_path, out):
    settings = exclude(**{"class": "hardware"}, reason="no", tests=["*::test_one"])
    settings += exclude(**{"class": "hardware"}, reason="no", tests=["*::test_nothing"])
    suite = suite_of(tmp_path, {"test_good": GOOD}, settings)
    stale = judging.judge(suite, run(suite, out).values(), everything=True).stale
    assert len(stale) == 2
    assert any("passes: test_good.py::test_one" in each for each in stale)
    assert any("fits no test: *::test_nothing" in each for each in stale)


@pytest.mark.parametrize(
    "entry",
    [
        {"class": "laziness", "reason": "no", "tests": ["*"]},
        {"class": "hardware", "reason": " ", "tests": ["*"]},
        {"class": "hardware", "reason": "no"},
        {"class": "hardware", "reason": "no", "test": ["*"]},
    ],
)
def test_exclusions_without_class_reason_or_tests_are_refused(tmp_path, entry):
    with pytest.raises(SuiteError):
        suite_of(tmp_path, {}, exclude(**entry))


def test_failures_are_grouped_by_what_the_driver_said():
    def failure(name: str, message: str, log: str = "") -> record.Result:
        return record.Result(test=name, outcome=record.FAILED, message=message, log=log)

    kinds = judging.by_kind(
        [
            failure("a", "Error: 17", "aliquot: line 4: no"),
            failure("b", "another", "aliquot: line 9: no"),
            failure("c", "Error: 0x17"),
        ]
    )
    assert [[each.test for each in found] for found in kinds.values()] == [["a", "b"], ["c"]]


def test_module_has_a_time_limit(tmp_path, out):
    text = "import time\n" + "".join(f"def test_{i}(): time.sleep(1)\n" for i in range(30))
    suite = suite_of(tmp_path, {"test_slow": text})
    limited = replace(suite, module_limit_s=4.0)
    with surroundings(limited) as around:
        done = ModuleRun(limited, limited.modules[0], out / "slow").complete(around)
    assert len(done.results) == 30
    assert any("stopped" in each.message for each in done.results.values())


LONG = """
import json, os, pathlib, tempfile, time
def test_quick(): pass
def test_long():
    around = [os.environ["ALIQUOT_SIMGPU_HOME"], os.getcwd(), f"/proc/{os.getpid()}", tempfile.mkdtemp()]
    pathlib.Path(__file__).with_name("around.json").write_text(json.dumps(around))
    time.sleep(600)
"""

COMMAND = """
import sys
from pathlib import Path
from typing import Any
from conformance import command, suites
from conformance.suite import Module, load
folder = Path(sys.argv[1])
modules = [Module("test_long.py", (str(folder / "test_long.py"),), ("test_long.py",))]
suites.suite = lambda _: load(folder / "suite.toml", name="ours", root=folder, modules=modules)
sys.exit(command.main(["numba-cuda", "--out", str(folder / "out")]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_that_is_stopped_leaves_nothing(tmp_path, number):
    """Neither its process nor its folders; the test that was under way is run by the next."""
    suite_of(tmp_path, {"test_long": LONG})
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, tmp_path], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        around = wait_for_text(tmp_path / "around.json")
        process.send_signal(number)
        _, told = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 3, told
    assert "stopped" in told
    assert record.read(tmp_path / "out/ours/bare/test_long.jsonl").open_tests(None) == [
        "test_long.py::test_long"
    ]
    assert not [path for path in json.loads(around) if Path(path).exists()]


def wait_for_text(file: Path) -> str:
    """What is in `file` once it is there."""
    for _ in range(600):
        if file.is_file() and (text := file.read_text()):
            return text
        time.sleep(0.05)
    pytest.fail(f"{file} was not written")


def test_cards_of_ones_own(tmp_path, out, monkeypatch):
    """Kept apart from the results on the suite's own cards."""
    text = "import os\ndef test_cards(): assert os.environ['ALIQUOT_SIMGPU'] == 'a100:2'\n"
    suite = suite_of(tmp_path, {"test_cards": text})
    monkeypatch.setattr(suites, "suite", lambda _: suite)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert command.main(["numba-cuda", "--out", str(out)]) == 1
    assert command.main(["numba-cuda", "--out", str(out), "--cards", "a100:2"]) == 0


NOTICES = """
import os
def test_alike(): pass
def test_fails_alike(): assert os.getpid() < 0, os.getpid()
def test_notices(): assert "ALIQUOT_SLICE" not in os.environ, "I am in a slice"
"""


def compare(
    suite: Suite, out: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> tuple[int, dict[str, Any]]:
    """The status of a comparison, and what it wrote."""
    monkeypatch.setattr(suites, "suite", lambda _: suite)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    file = out / "compared.json"
    status = command.main(["numba-cuda", "--compare", "--out", str(out), "--json", str(file), *options])
    return status, json.loads(file.read_text())


def test_comparison_finds_what_notices_a_slice(tmp_path, out, monkeypatch, capsys):
    suite = suite_of(tmp_path, {"test_notices": NOTICES})
    status, told = compare(suite, out, monkeypatch, "--slice-options=--compute 30%")
    assert status == 1
    assert (told["compared"], told["alike"], told["slice_options"]) == (3, 2, ["--compute", "30%"])
    (difference,) = told["differences"]
    assert difference["test"] == "test_notices.py::test_notices"
    assert difference["outside"] == "passed"
    assert "I am in a slice" in difference["inside"]
    assert "2 of 3 tests end inside a slice as outside (--compute 30%)" in capsys.readouterr().out


def test_comparison_is_resumed(tmp_path, out, monkeypatch):
    suite = suite_of(tmp_path, {"test_notices": NOTICES.replace("not in", "is not")})
    assert compare(suite, out, monkeypatch)[0] == 0
    files = {file: file.read_bytes() for file in out.rglob("*.jsonl")}
    assert len(files) == 2
    status, told = compare(suite, out, monkeypatch)
    assert (status, told["use"]["processes"]) == (0, 1)
    assert {file: file.read_bytes() for file in out.rglob("*.jsonl")} == files


def test_work_beside_a_neighbour_is_done_in_turns(tmp_path, out, monkeypatch):
    text = FAULTY.partition("def test_fault")[0].replace("trap;", "ret;")
    text += "def test_launches():\n    kernel = launch()\n    for _ in range(1000):\n"
    text += '        call("cuLaunchKernel", kernel, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0)\n'
    text += '        call("cuCtxSynchronize")\n'
    status, told = compare(suite_of(tmp_path, {"test_work": text}), out, monkeypatch, "--neighbour")
    assert status == 0
    assert told["use"]["launches"] == 1000
    assert told["use"]["waited_ns"] > 1_000_000, "nobody else had the card"


@pytest.mark.parametrize(
    "options", [["--neighbour"], ["--slice-options=--hard"], ["--compare", "--inside-slice"]]
)
def test_options_of_a_slice_want_one(options):
    with pytest.raises(SystemExit):
        command.main(["numba-cuda", *options])


def test_slice_of_every_card(tmp_path, out, monkeypatch):
    text = FAULTY.partition("def test_before")[0]
    text += 'def test_cards():\n    launch()\n    assert call("cuDeviceGetCount") == 2\n'
    text += '    assert call("cuDeviceTotalMem", 1) <= 2**30 or "ALIQUOT_SLICE" not in os.environ\n'
    suite = replace(
        suite_of(tmp_path, {"test_cards": "import os\n" + text}), cards="t4:2", slice_cards="t4:1"
    )
    status, told = compare(suite, out, monkeypatch, "--every-card")
    assert (status, told["alike"], told["cards"]) == (0, 1, "t4:2")
    assert told["inside"] == {"passed": 1}
