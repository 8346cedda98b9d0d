"""Runs the cases of the ptx_forms modules on the simulated card, on every instruction set that there is."""

from __future__ import annotations

from pathlib import Path

import ptx_forms
import ptx_forms_memory
import ptx_forms_more
import pytest
from ptx_cases import Answers, Case, instruction_sets, run_cases

CASES = ptx_forms.CASES + ptx_forms_more.CASES + ptx_forms_memory.CASES
FIRST, *OTHERS = instruction_sets()


def run_on(isa: str, native_dir: Path, folder: Path) -> Answers:
    return run_cases(CASES, native_dir / "simgpu/libcuda.so.1", folder, isa)


@pytest.fixture(scope="module")
def answers(native_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return run_on(FIRST, native_dir, tmp_path_factory.mktemp("forms"))


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_form(answers: Answers, one: Case) -> None:
    answers.check(one)


@pytest.mark.parametrize("isa", OTHERS)
def test_forms_on_narrower_sets(answers: Answers, isa: str, native_dir: Path, tmp_path: Path) -> None:
    """They give what the widest set does, which test_form judges; other patterns are judged anew."""
    narrower = run_on(isa, native_dir, tmp_path)
    assert narrower.errors == answers.errors
    different = [one for one in CASES if (narrower.outputs[one.name] != answers.outputs[one.name]).any()]
    assert [one.name for one in different if one.complaint(narrower.outputs[one.name]) is not None] == []
