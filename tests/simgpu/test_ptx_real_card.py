"""The whole set of PTX cases on a real card's driver: what differs is listed in out/ptx-differences.json.

On simulated cards the same cases run in their own modules; here a sample of them holds the list itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import test_ptx_approximate
import test_ptx_control
import test_ptx_convert
import test_ptx_float
import test_ptx_forms
import test_ptx_integer
from ptx_cases import Answers, Case, instruction_sets, run_cases

from aliquot.vendors import nvidia

MODULES = (
    test_ptx_integer, test_ptx_float, test_ptx_convert, test_ptx_control, test_ptx_forms,
    test_ptx_approximate,
)  # fmt: skip
CASES = [one for module in MODULES for one in module.CASES]
RESULT = Path(__file__).resolve().parents[2] / "out" / "ptx-differences.json"


def differences(cases: Sequence[Case], answers: Answers) -> list[dict[str, object]]:
    """Cases that failed to run or whose values differ: name, and the first inputs, got and expected."""
    found: list[dict[str, object]] = []
    for one in cases:
        if one.name in answers.errors:
            found.append({"name": one.name, "error": answers.errors[one.name]})
            continue
        got = answers.outputs[one.name]
        complaint = one.complaint(got)
        if complaint is None:
            continue
        rows = np.flatnonzero(got != one.expected)[:8].tolist()
        found.append(
            {
                "name": one.name,
                "complaint": complaint,
                "inputs": [[values[row].item() for _, values in one.inputs] for row in rows],
                "got": got[rows].tolist(),
                "expected": one.expected[rows].tolist(),
            }
        )
    return found


def test_sample_lists_what_differs(native_dir: Path, tmp_path: Path) -> None:
    """Two cases that hold, one with a wrong expectation and one that the driver refuses."""
    good, other = test_ptx_forms.CASES[0], test_ptx_forms.CASES[-1]
    wrong = replace(good, name="wrong", rule=lambda a, b: 0x12345678)  # noqa: ARG005
    refused = replace(good, name="refused", code="add.nonsense.f32 %d, %a, %b;")
    cases = [good, other, wrong, refused]
    answers = run_cases(cases, native_dir / "simgpu/libcuda.so.1", tmp_path, instruction_sets()[0])
    found = {str(each["name"]): each for each in differences(cases, answers)}
    assert set(found) == {"wrong", "refused"}
    assert set(found["wrong"]["expected"]) == {0x12345678}  # pyright: ignore[reportArgumentType]
    assert found["refused"]["error"][0] == "cuModuleLoadData"  # pyright: ignore[reportIndexIssue]


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_set_on_the_real_card(tmp_path: Path) -> None:
    """Every case on the machine's own driver; all differences are written before the test fails."""
    if not nvidia.find_real_cards().devices:
        pytest.skip("no real card on this machine")
    cases = [replace(one, name=f"{number}:{one.name}") for number, one in enumerate(CASES)]
    found: list[dict[str, object]] = []
    for begin in range(0, len(cases), 300):  # a fault of one case spoils its process: few share its fate
        some = cases[begin : begin + 300]
        found += differences(some, run_cases(some, Path("libcuda.so.1"), tmp_path, "baseline"))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"cases": len(cases), "differences": found}, indent=1) + "\n")
    assert found == [], f"{len(found)} of {len(cases)} differ: see {RESULT}"
