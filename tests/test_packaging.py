"""The wheel's Python half: names, tags, files. `make wheel` adds the native half."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

import pytest
from scikit_build_core.build import build_wheel

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        settings: dict[str, str | list[str]] = {"wheel.cmake": "false", "build-dir": str(folder / "build")}
        name = build_wheel(str(folder), settings)
    with zipfile.ZipFile(folder / name) as opened:
        yield opened


def test_it_is_for_any_python_3_on_an_old_linux(wheel: zipfile.ZipFile) -> None:
    name = Path(wheel.filename or "").name
    assert "-py3-none-" in name
    assert "manylinux_2_17" in name


def test_it_carries_the_package_with_its_data_and_licence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    source = ROOT / "src"
    wanted = [*source.rglob("*.py"), *source.rglob("*.toml")]
    assert {str(file.relative_to(source)) for file in wanted if "_native" not in file.parts} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".o"))]


def test_native_parts_come_from_the_build_alone(wheel: zipfile.ZipFile) -> None:
    assert not [name for name in wheel.namelist() if "_native" in name]


def test_its_metadata_say_what_it_needs(wheel: zipfile.ZipFile) -> None:
    (name,) = (each for each in wheel.namelist() if each.endswith("METADATA"))
    metadata = HeaderParser().parsestr(wheel.read(name).decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {line.split(">")[0] for line in metadata.get_all("Requires-Dist") or []} == {
        "typer",
        "rich",
        "pydantic",
        "pyyaml",
    }
    (entry,) = (each for each in wheel.namelist() if each.endswith("entry_points.txt"))
    assert "aliquot = aliquot.cli.main:main" in wheel.read(entry).decode().replace("=", " = ").replace(
        "  ", " "
    )


def test_the_lock_files_have_hashes_and_name_no_host() -> None:
    for lock in sorted((ROOT / "requirements").glob("*.lock")):
        text = lock.read_text(encoding="utf-8")
        pinned = [line for line in text.splitlines() if "==" in line]
        assert pinned
        assert all(line.endswith("\\") for line in pinned), f"{lock.name}: a package without a hash"
        assert "://" not in text
