"""The layers that pyproject.toml states hold, and each package says what belongs into it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "aliquot"
PACKAGES = sorted(folder.parent.relative_to(PACKAGE) for folder in PACKAGE.rglob("__init__.py"))


def test_imports_go_downward_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PACKAGE.parents[1])
    status = lint_imports(no_cache=True)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_each_package_says_what_it_is_for(package: Path) -> None:
    source = (PACKAGE / package / "__init__.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert len(docstring.split()) >= 8, f"{package} needs a docstring: purpose, and what may not live there"


def test_every_layer_of_the_tree_is_in_the_contract() -> None:
    stated = (PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for entry in PACKAGE.iterdir():
        if (entry / "__init__.py").exists():
            assert f"({entry.name})" in stated, f"aliquot.{entry.name} has no place among the layers"
