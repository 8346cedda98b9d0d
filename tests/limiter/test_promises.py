"""The tests that the design notes and the page for people name are there: no promise loses its proof."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTES = [
    "docs/limiter.md",
    "native/limiter/README.md",
    "native/limiter/compute/README.md",
]


def functions(folder: Path) -> set[str]:
    """The tests of all files of a folder."""
    return {
        node.name
        for file in folder.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("note", NOTES)
def test_the_tests_that_are_named_exist(note: str) -> None:
    text = (ROOT / note).read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:tests/\w+/)*(test_\w+(?:\.py)?)`", text))
    assert named, note
    there = functions(ROOT / "tests") | {file.name for file in (ROOT / "tests").rglob("test_*.py")}
    assert named - there == set()


def test_each_path_that_is_accounted_names_its_test() -> None:
    text = (ROOT / "docs/limiter.md").read_text(encoding="utf-8")
    table = text.split("## What is accounted")[1].split("\n\n")[1].splitlines()
    assert len(table) > 10
    for row in table[2:]:
        assert re.search(r"`test_\w+(\.py)?`", row.split("|")[3]), row
