"""A pytest plugin: what numba-cuda's tests take from a conftest.py and settings that its wheel leaves out."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from pathlib import Path

import pytest

_ABOVE_NUMBA = "numba_cuda"
"""numba.cuda lies in site-packages/numba_cuda/numba/cuda; numba imports it from there by its own name."""


def pytest_collect_file(file_path: Path) -> None:
    """Imports a module of tests as numba does, before pytest does so by its path.

    pytest would call it cuda.tests... or just core..., which a process that a test spawns cannot import; it
    takes what is there under that name already. What fails here fails again in pytest, which reports it.
    """
    parts = file_path.with_suffix("").parts
    if _ABOVE_NUMBA in parts and file_path.suffix == ".py":
        names = parts[len(parts) - parts[::-1].index(_ABOVE_NUMBA) :]
        with suppress(Exception, pytest.skip.Exception):
            module = importlib.import_module(".".join(names))
            # By the packages above it that have an __init__.py, or by its place below pytest's rootdir.
            sys.modules[".".join(names[1:])] = sys.modules[".".join(names[-2:])] = module


@pytest.fixture(scope="class")
def initialize_from_pytest_config(request: pytest.FixtureRequest) -> None:
    """Whether a test that compares generated code leaves files behind when it fails."""
    if request.cls is not None:
        request.cls._dump_failed_filechecks = False
