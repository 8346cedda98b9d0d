"""docs/clients.md is true: what makes a client hand over PTX, and what becomes of one that does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aliquot.node import simulation

on_the_simulated_card = pytest.mark.parametrize("card", ["simulated"], indirect=True)

HINT = "PTX"
"""The driver's log line says what to do."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"

# As much of nvJitLink as its users ask for before they decide to use it.
JIT_LINK = """
int __nvJitLinkVersion(unsigned* major, unsigned* minor) { *major = 13; *minor = 5; return 0; }
int nvJitLinkVersion(unsigned* major, unsigned* minor) { return __nvJitLinkVersion(major, minor); }
"""

ASK = """
import warnings
warnings.simplefilter("ignore")
from cuda.core import Linker
from numba.cuda.cudadrv import driver
print(Linker.which_backend(), driver._have_nvjitlink())
"""


def test_every_setting_is_documented(native_dir):
    needed = simulation.environment({}, driver=native_dir / "simgpu" / "libcuda.so.1")
    document = DOCUMENT.read_text(encoding="utf-8")
    for name in {*needed, *simulation.DROPPED}:
        assert f"`{name}" in document, name


@pytest.fixture(scope="module")
def jit_link(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library that looks like nvJitLink."""
    folder = tmp_path_factory.mktemp("nvjitlink")
    (folder / "fake.c").write_text(JIT_LINK)
    target = folder / "libnvJitLink.so.13"
    soname = f"-Wl,-soname,{target.name}"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.17", "-shared", soname]
    subprocess.run([*compiler, "-o", str(target), str(folder / "fake.c")], check=True, capture_output=True)
    return folder


@on_the_simulated_card
def test_nvjitlink_is_used_where_it_is_found(card, jit_link):
    path = f"{card.environment['LD_LIBRARY_PATH']}:{jit_link}"
    assert card.python("-c", ASK, LD_LIBRARY_PATH=path).stdout.split() == ["nvJitLink", "True"]


@on_the_simulated_card
def test_empty_nvjitlink_makes_clients_link_through_the_driver(card, native_dir, jit_link):
    path = f"{card.environment['LD_LIBRARY_PATH']}:{jit_link}"
    empty = native_dir / "simgpu" / "preload" / "libnvJitLink.so.13"
    done = card.python("-c", ASK, LD_LIBRARY_PATH=path, LD_PRELOAD=str(empty))
    assert done.stdout.split() == ["driver", "False"], done.stderr


CUPY = "import cupy; print((cupy.arange(10) * 2).sum())"


@on_the_simulated_card
def test_cupy_makes_ptx_when_it_is_told_to(card):
    done = card.python("-c", CUPY)
    assert done.stdout == "90\n", done.stderr


@on_the_simulated_card
def test_cupy_makes_machine_code_otherwise(card):
    done = card.python("-c", CUPY, CUPY_COMPILE_WITH_PTX="0")
    assert done.returncode == 1
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in done.stderr
    assert HINT in done.stderr


CORE = """
import sys
from cuda.core import Device, Program, ProgramOptions
device = Device()
device.set_current()
arch = ("sm_" if sys.argv[1] == "cubin" else "compute_") + "".join(map(str, device.compute_capability))
code = Program('extern "C" __global__ void one() {}', "c++", ProgramOptions(arch=arch)).compile(sys.argv[1])
print(code.get_kernel("one").num_arguments)
"""


@on_the_simulated_card
def test_cuda_core_makes_what_the_program_asks_for(card):
    assert card.python("-c", CORE, "ptx").stdout == "0\n"
    done = card.python("-c", CORE, "cubin")
    assert done.returncode == 1
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in done.stderr
    assert HINT in done.stderr
