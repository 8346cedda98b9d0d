"""Runs the cases of ptx_forms.py on the simulated card's driver."""

from __future__ import annotations

import ptx_forms
import ptx_forms_more
import pytest
from ptx_cases import Answers, Case, instruction_sets, run_cases

CASES = ptx_forms.CASES + ptx_forms_more.CASES


@pytest.fixture(scope="module")
def answers(native_dir, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    library = native_dir / "simgpu/libcuda.so.1"
    return run_cases(CASES, library, tmp_path_factory.mktemp("forms"), instruction_sets()[0])


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_form(answers: Answers, one: Case) -> None:
    answers.check(one)
