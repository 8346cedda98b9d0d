"""What is put into other people's programs: nothing that an old image lacks, nothing unasked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter

from .conftest import Limited, plain_environment
from .elf import read

LIBRARIES = [
    "limiter/libcuda.so.1",
    "limiter/libnvidia-ml.so.1",
    "limiter/libcuda.so",
    "limiter/libnvidia-ml.so",
]
INJECTED = [*LIBRARIES, "simgpu/libcuda.so.1", "simgpu/libnvidia-ml.so.1"]
SYSTEM = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}


@pytest.mark.parametrize("name", INJECTED)
def test_it_runs_on_old_images(native_dir: Path, name: str) -> None:
    library = read(native_dir / name)
    glibc = [version.removeprefix("GLIBC_") for version in library.versions if version.startswith("GLIBC_2")]
    assert all(tuple(map(int, version.split("."))) <= (2, 17) for version in glibc), glibc
    assert all(version.startswith("GLIBC_2") for version in library.versions), library.versions
    own = {"libcuda.so.1", "libnvidia-ml.so.1"} if name.endswith(".so") else set()
    assert set(library.needed) <= SYSTEM | own
    assert library.soname == Path(name).name


@pytest.mark.parametrize("name", INJECTED)
def test_it_offers_the_interface_and_nothing_else(native_dir: Path, name: str) -> None:
    """An exported `operator new` of the C++ runtime inside would take the place of the program's."""
    exported = read(native_dir / name).exported
    prefixes = ("nvml", "aliquot_") if "nvidia-ml" in name else ("cu", "aliquot_")
    assert [symbol for symbol in exported if not symbol.startswith(prefixes)] == []


@pytest.mark.parametrize(("ours", "real"), [(LIBRARIES[0], INJECTED[4]), (LIBRARIES[1], INJECTED[5])])
def test_it_offers_all_that_the_driver_does(native_dir: Path, ours: str, real: str) -> None:
    wanted = {symbol for symbol in read(native_dir / real).exported if not symbol.startswith("aliquot_")}
    assert wanted - set(read(native_dir / ours).exported) == set()


@pytest.mark.parametrize("name", LIBRARIES)
def test_nothing_runs_when_it_is_loaded(native_dir: Path, name: str) -> None:
    """No constructors but the compiler's own; no `exit` to call; never linked against a driver.

    The driver library starts its thread with the first work: `test_compute.py`.
    """
    library = read(native_dir / name)
    assert library.constructors <= 1
    assert not {"exit", "_exit", "quick_exit"} & set(library.imported)
    assert ("pthread_create" in library.imported) == (name == LIBRARIES[0])


def test_programs_without_cuda_do_not_notice(limited: Limited) -> None:
    done = subprocess.run(["/bin/echo", "hello"], env=limited.env, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("hello\n", "")


def test_no_driver_at_all(limited: Limited, native_dir: Path) -> None:
    """On a machine without a GPU the limiter says so through the API, as a driver without a card does."""
    env = {**limited.env, "ALIQUOT_SLICE": str(_slice_without_driver(limited))}
    text = """
from driver_calls import *
import threading
cuda = Cuda()
count = ctypes.c_int(-1)
assert cuda.call("cuInit", 0) == NO_DEVICE
assert cuda.call("cuDeviceGetCount", ctypes.byref(count)) == NO_DEVICE
assert cuda.try_allocate(BLOCK)[0] in (NO_DEVICE, NOT_INITIALIZED)
assert cuda.call("cuMemFree_v2", 512) == NO_DEVICE
assert cuda.proc_address("cuMemAlloc")[0] == NO_DEVICE
nvml = ctypes.CDLL("libnvidia-ml.so.1")
assert nvml.nvmlInit_v2() == 12  # NVML_ERROR_LIBRARY_NOT_FOUND
nvml.nvmlErrorString.restype = ctypes.c_char_p
assert nvml.nvmlErrorString(12)
"""
    command = [sys.executable, "-c", text]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver, which is found")
    assert (done.returncode, done.stderr) == (0, "")


def _slice_without_driver(limited: Limited) -> Path:
    return Slice.create(vram_bytes=2**20, home=limited.slice.path.parent).path


def test_a_driver_that_is_not_there_is_reported(limited: Limited, tmp_path: Path) -> None:
    driver = tmp_path / "libcuda.so.1"
    shutil.copy("/bin/true", driver)
    made = Slice.create(vram_bytes=2**20, driver=driver, home=limited.slice.path.parent)
    env = {**limited.env, "ALIQUOT_SLICE": str(made.path)}
    driver.unlink()
    command = [
        sys.executable,
        "-c",
        "from driver_calls import *; assert Cuda().call('cuInit', 0) == NO_DEVICE",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"{driver} cannot be used" in done.stderr


@pytest.mark.parametrize("damage", ["none", "missing", "empty", "version"])
def test_without_a_usable_slice_there_is_no_gpu(limited: Limited, damage: str) -> None:
    env = dict(limited.env)
    if damage == "none":
        del env["ALIQUOT_SLICE"]
        env["LD_LIBRARY_PATH"] = str(Path(limited.slice.path).parent)
    elif damage == "missing":
        env["ALIQUOT_SLICE"] = "/nonexistent"
    else:
        file = limited.slice.path / "account"
        content = file.read_bytes()
        file.write_bytes(b"" if damage == "empty" else content[:8] + b"\x09" + content[9:])
    program = """
from driver_calls import *
cuda = Cuda()
result = cuda.call("cuInit", 0)
assert result in (NO_DEVICE, SYSTEM_NOT_READY), result
assert cuda.try_allocate(BLOCK)[0] != SUCCESS
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "aliquot: " in done.stderr


def test_what_is_preloaded_already_stays_so(limited: Limited, native_dir: Path) -> None:
    base = {**plain_environment(), "LD_PRELOAD": "/lib/other.so libsecond.so"}
    env = limiter.environment(limited.slice, base)
    assert env["LD_PRELOAD"].split(":")[-2:] == ["/lib/other.so", "libsecond.so"]
    assert env["LD_PRELOAD"].startswith(str(native_dir / "limiter/libcuda.so.1"))
    assert limiter.environment(limited.slice, env) == env


def test_an_installation_below_a_folder_with_a_blank(
    limited: Limited, native_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "my: programs"
    shutil.copytree(native_dir / "limiter", installed / "limiter")
    monkeypatch.setenv("ALIQUOT_NATIVE_DIR", str(installed))
    env = limiter.environment(limited.slice, plain_environment())
    assert limiter.environment(limited.slice, env) == env
    Limited(limited.slice, env).run("assert Cuda().start().info() == (64 * MIB, 64 * MIB)")
