"""Drivers that are not like the list of entry points: older, newer, odd, or to be searched for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter

from .conftest import MIB, PROGRAMS, CompileC, Limited, plain_environment

pytestmark = pytest.mark.sanitized


@pytest.fixture(scope="session")
def odd_driver(compile_c: CompileC) -> Path:
    return compile_c((PROGRAMS / "odd_driver.c").read_text(), "libcuda.so.1", "-shared", "-fPIC")


def limited_on(driver: Path | None, home: Path, *, allow_unlisted: bool = False, **env: str) -> Limited:
    made = Slice.create(vram_bytes=64 * MIB, driver=driver, home=home, allow_unlisted=allow_unlisted)
    return Limited(made, {**limiter.environment(made, plain_environment()), **env})


def test_a_driver_that_lacks_a_symbol(native_dir: Path, odd_driver: Path, slice_home: Path) -> None:
    limited_on(odd_driver, slice_home).run(
        """
        cuda = Cuda().start()
        stream = ctypes.c_void_p()
        assert cuda.call("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(0)) == NOT_SUPPORTED
        assert cuda.proc_address("cuStreamCreate") == (NOT_FOUND, 1, None)
        assert cuda.proc_address("cuLaunchKernel") == (NOT_FOUND, 1, None)
        assert cuda.proc_address("cuMemAlloc")[0] == SUCCESS
        assert cuda.try_allocate(4 * MIB, "cuMemAllocAsync")[0] == NOT_SUPPORTED
        assert cuda.used() == 0
        cuda.allocate(64 * MIB)
        assert cuda.try_allocate(1)[0] == OUT_OF_MEMORY
        """
    )


def test_entry_points_newer_than_the_list(native_dir: Path, odd_driver: Path, slice_home: Path) -> None:
    limited_on(odd_driver, slice_home).run(
        """
        cuda = Cuda().start()
        VERSION_NOT_SUFFICIENT = 2
        assert cuda.proc_address("cuFutureAlloc", 14000) == (NOT_FOUND, VERSION_NOT_SUFFICIENT, None)
        assert cuda.proc_address("cuMemFree", 14000) == (NOT_FOUND, VERSION_NOT_SUFFICIENT, None)
        assert cuda.proc_address("cuMemFree", 13000)[0] == SUCCESS
        assert cuda.proc_address("cuMemAlloc", 14000)[0] == SUCCESS
        """
    )


def test_the_owner_of_a_slice_may_let_them_through(
    native_dir: Path, odd_driver: Path, slice_home: Path
) -> None:
    limited_on(odd_driver, slice_home, allow_unlisted=True).run(
        """
        cuda = Cuda().start()
        assert cuda.proc_address("cuFutureAlloc", 14000)[0] == SUCCESS
        assert cuda.proc_address("cuMemFree", 14000)[0] == SUCCESS
        """
    )


def test_what_the_driver_calls_itself_is_charged_once(
    native_dir: Path, odd_driver: Path, slice_home: Path
) -> None:
    limited_on(odd_driver, slice_home).run(
        """
        cuda = Cuda().start()
        address, pitch = ctypes.c_uint64(), ctypes.c_size_t()
        shape = ctypes.byref(address), ctypes.byref(pitch), 512, 64 * 1024, ctypes.c_uint(4)
        cuda.check("cuMemAllocPitch_v2", *shape)
        assert cuda.used() == 32 * MIB
        cuda.free(address.value)
        assert cuda.used() == 0
        """
    )


def test_the_driver_is_searched_for_and_is_never_ourselves(
    native_dir: Path, null_driver: Path, slice_home: Path, tmp_path: Path
) -> None:
    """Our own file, a link to it, a broken file, and then a driver: the driver is taken."""
    ours = native_dir / "limiter/libcuda.so.1"
    (tmp_path / "link").mkdir()
    (tmp_path / "link/libcuda.so.1").symlink_to(ours.resolve())
    (tmp_path / "broken").mkdir()
    shutil.copy("/etc/hostname", tmp_path / "broken/libcuda.so.1")
    folders = [ours.parent, tmp_path / "link", tmp_path / "missing", tmp_path / "broken", null_driver.parent]
    limited_on(None, slice_home, LD_LIBRARY_PATH=":".join(map(str, folders))).run(
        """
        cuda = Cuda().start()
        assert cuda.info() == (64 * MIB, 64 * MIB)
        assert sum("null_driver/libcuda" in line for line in open("/proc/self/maps")) > 0
        """
    )


def test_a_slice_that_names_the_limiter_as_its_driver(native_dir: Path, slice_home: Path) -> None:
    limited_on(native_dir / "limiter/libcuda.so.1", slice_home).run(
        "assert Cuda().call('cuInit', 0) == NO_DEVICE"
    )
