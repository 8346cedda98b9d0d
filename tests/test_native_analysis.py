"""scripts/run_clang_tidy.py reads a file again when what its answer depends on has changed, and only then."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "run_clang_tidy.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for a small tree: one source, a header, a header of that one, a generated one."""
    spec = importlib.util.spec_from_file_location("run_clang_tidy", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    files = {
        "native/part/a.cpp": '#include <vector>\n#include "native/part/a.hpp"\n#include "ours/made.hpp"\n',
        "native/part/a.hpp": '  #  include "near.hpp"\n',
        "native/part/near.hpp": '#include "native/part/a.hpp"\n',
        "native/part/other.hpp": "",
        "build/generated/ours/made.hpp": "",
        ".clang-tidy": "Checks: bugprone-*\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "BUILD", tmp_path / "build")
    return module


def fingerprint(script: ModuleType, tree: Path, *arguments: str) -> str:
    script.read.cache_clear()
    script.what_checks.cache_clear()
    return script.fingerprint(tree / "native/part/a.cpp", ["-O3", f"-I{tree}/build/generated", *arguments])


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ("native/part/a.cpp", True),
        ("native/part/a.hpp", True),
        ("native/part/near.hpp", True),
        ("build/generated/ours/made.hpp", True),
        (".clang-tidy", True),
        ("native/part/other.hpp", False),
    ],
)
def test_what_a_file_includes_counts(script: ModuleType, tmp_path: Path, changed: str, counts: bool) -> None:
    before = fingerprint(script, tmp_path)
    assert fingerprint(script, tmp_path) == before
    with (tmp_path / changed).open("a") as file:
        file.write("// one line more\n")
    assert (fingerprint(script, tmp_path) != before) == counts


def test_arguments_count_and_the_place_of_the_build_does_not(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(script, tmp_path)
    assert fingerprint(script, tmp_path, "-DNDEBUG") != before
    (tmp_path / "build").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(script, "BUILD", tmp_path / "elsewhere")
    script.read.cache_clear()
    moved = ["-O3", f"-I{tmp_path}/elsewhere/generated"]
    assert script.fingerprint(tmp_path / "native/part/a.cpp", moved) == before


def test_what_passed_is_kept_at_once_and_forgotten_late(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = script.Passed(tmp_path / "passed.txt")
    for name in ("first", "second"):
        passed.add(name)
    again = script.Passed(tmp_path / "passed.txt")
    assert again.known == {"first", "second"}
    again.keep({"second", "third"})
    assert script.Passed(tmp_path / "passed.txt").known == {"first", "second"}
    monkeypatch.setattr(script, "MOST_REMEMBERED", 2)
    again.keep({"second", "third"})
    assert script.Passed(tmp_path / "passed.txt").known == {"second"}
    assert sorted(path.name for path in tmp_path.glob("passed*")) == ["passed.txt"]
