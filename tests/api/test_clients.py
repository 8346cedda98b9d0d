"""What unmodified clients ask `cuGetProcAddress` for when they start: the list has an answer to all of it."""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .conftest import API, ROOT, Compile

pytestmark = pytest.mark.timeout(300)

SITE = Path(sysconfig.get_paths()["purelib"])
# libcudart's first question has neither a name nor a version.
UNANSWERED = {"-"}

CUDA_BINDINGS = "from cuda.bindings import driver; print(driver.cuInit(0)[0].name)"
CUDART = """
import ctypes
cudart = ctypes.CDLL({path!r})
print(cudart.cudaGetDeviceCount(ctypes.byref(ctypes.c_int())))
"""


@pytest.fixture(scope="session")
def asking_driver(
    compile_cpp: Compile, generated: Path, stubs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a libcuda.so.1 that notes every question and answers from the list."""
    folder = tmp_path_factory.mktemp("asking")
    sources = [ROOT / "tests" / "api" / "asking_driver.cpp", API / "lookup.cpp"]
    sources.append(stubs)
    flags = [f"-I{ROOT}", f"-I{generated}", "-shared", "-Wl,-Bsymbolic", "-Wl,-soname,libcuda.so.1"]
    flags.append(f"-Wl,--version-script={generated}/aliquot/cuda_exports.map")
    compile_cpp(folder / "libcuda.so.1", *sources, *flags)
    return folder


def questions(driver: Path, program: str, notes: Path) -> list[tuple[str, int, int, int, str]]:
    """Runs a program on the asking driver; (name, version, flags, status, symbol) of each question."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), "ALIQUOT_TEST_QUESTIONS": str(notes)}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in notes.read_text().splitlines()]
    return [(row[0], int(row[1]), int(row[2]), int(row[3]), row[4]) for row in rows]


def cudart(version: int) -> str:
    [path] = SITE.glob(f"nvidia/*/lib/libcudart.so.{version}")
    return CUDART.format(path=str(path))


@pytest.mark.parametrize(
    ("program", "at_least"),
    [(CUDA_BINDINGS, 500), (cudart(12), 400), (cudart(13), 440)],
    ids=["cuda-bindings", "cudart-12", "cudart-13"],
)
def test_every_question_of_a_client_has_an_answer(
    asking_driver: Path, tmp_path: Path, program: str, at_least: int
) -> None:
    asked = questions(asking_driver, program, tmp_path / "questions")
    assert len(asked) >= at_least
    assert {name for name, _, _, status, _ in asked if status != 0} <= UNANSWERED


def test_cudart_gets_stream_variants_only_where_it_asks_for_them(asking_driver: Path, tmp_path: Path) -> None:
    asked = questions(asking_driver, cudart(13), tmp_path / "questions")
    variants = [flags for _, _, flags, _, symbol in asked if symbol.endswith(("_ptds", "_ptsz"))]
    assert len(variants) >= 70
    assert set(variants) == {2}
