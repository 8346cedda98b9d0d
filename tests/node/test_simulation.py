from __future__ import annotations

from pathlib import Path

import pytest

from aliquot import native
from aliquot.node import simulation


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for part in ("simgpu/libcuda.so.1", "simgpu/preload/libnvJitLink.so.13"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).touch()
    monkeypatch.setenv(native.DIRECTORY_VARIABLE, str(tmp_path))
    return tmp_path


def test_the_simulated_driver_comes_first_and_nothing_else_is_lost(parts: Path) -> None:
    base = {"LD_LIBRARY_PATH": "/opt/my libs:/opt/cuda", "LD_PRELOAD": "libone.so libtwo.so", "HOME": "/h"}
    made = simulation.environment(base, driver=native.path("simgpu/libcuda.so.1"))
    assert made["LD_LIBRARY_PATH"] == f"{parts}/simgpu:/opt/my libs:/opt/cuda"
    assert made["LD_PRELOAD"] == f"{parts}/simgpu/preload/libnvJitLink.so.13:libone.so:libtwo.so"
    assert made["HOME"] == "/h"
    assert made["PYTHONWARNINGS"].startswith("ignore:libnvJitLink.so* is too old")
    assert simulation.environment(made, driver=native.path("simgpu/libcuda.so.1")) == made


def test_clients_are_told_to_hand_over_ptx_unless_the_person_says_otherwise(parts: Path) -> None:
    driver = native.path("simgpu/libcuda.so.1")
    made = simulation.environment({"NUMBA_ENABLE_CUDASIM": "1"}, driver=driver)
    assert made["CUPY_COMPILE_WITH_PTX"] == "1"
    assert "NUMBA_ENABLE_CUDASIM" not in made
    assert simulation.environment({"CUPY_ACCELERATORS": "cub"}, driver=driver)["CUPY_ACCELERATORS"] == "cub"
