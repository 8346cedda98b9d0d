"""CuPy's own tests, which are in its source archive and not in its wheel."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from conformance import archives
from conformance.archives import Archive
from conformance.suite import Module, SuiteError

_SETTINGS: Final = Path(__file__).with_name("cupy.toml")


def root() -> Path:
    """The folder of the tests, of the CuPy that is installed. Raises `SuiteError` where it cannot be had."""
    return _source() / "tests"


def modules() -> list[Module]:
    """Each file of tests in the folders that the recipe names. They import one another as packages."""
    folder = root()
    configuration = ("--import-mode=prepend", "-c", str(_source() / "pyproject.toml"))
    files = sorted(
        path.relative_to(folder)
        for each in _recipe()["folders"]
        for path in (folder / each).rglob("test_*.py")
        if path.relative_to(folder).as_posix() not in _recipe()["left_out"]
    )
    return [Module(str(path), (*configuration, str(folder / path)), (path.as_posix(),)) for path in files]


def environment() -> Mapping[str, str]:
    """Compiling CUDA C++ takes most of the suite's time: what NVRTC made is kept for the next run."""
    return {"CUPY_CACHE_DIR": str(archives.cache("cupy-kernels"))}


def _source() -> Path:
    recipe = _recipe()
    _check_version(recipe["distribution"], recipe["version"])
    return archives.unpacked(
        Archive("cupy", recipe["version"], recipe["sha256"], ("tests", "pyproject.toml"))
    )


def _check_version(distribution: str, expected: str) -> None:
    try:
        installed = version(distribution)
    except PackageNotFoundError as error:
        raise SuiteError(f"{distribution} is not installed") from error
    if installed != expected:
        raise SuiteError(
            f"{_SETTINGS.name} names the tests of CuPy {expected}, and {installed} is installed: "
            "put its version and the sha256 of its source archive there"
        )


def _recipe() -> dict[str, Any]:
    return tomllib.loads(_SETTINGS.read_text(encoding="utf-8"))["archive"]
