"""What the generator writes: the same every time, valid C, weak definitions that give way to strong ones."""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import time
from pathlib import Path

import emit
import pytest
from listing.model import ApiList

from .conftest import API, ROOT, Compile

pytestmark = pytest.mark.timeout(300)

NOT_SUPPORTED = 801  # CUDA_ERROR_NOT_SUPPORTED (cuda.h)
OUR_OWN = {"aliquot_probe_count", "aliquot_probe_name", "aliquot_probe_implemented", "aliquot_probe_address"}
IMPLEMENTED = {
    "cuMemAlloc_v2",
    "cuStreamQuery",
    "cuStreamQuery_ptsz",
    "cuMemcpyHtoD_v2",
    "cuMemcpyHtoD_v2_ptds",
    "cuLaunchKernelEx",
    "cuLaunchKernelEx_ptsz",
}


def test_the_same_list_gives_the_same_bytes_in_another_process(generated: Path, tmp_path: Path) -> None:
    """Another process has another hash seed, which is what would show an order taken from a set."""
    texts = emit.generate(API)
    assert len(texts) == 9
    for name, text in texts.items():
        assert (generated / "aliquot" / name).read_text() == text


def test_generation_is_fast_enough_to_run_in_every_build(tmp_path: Path) -> None:
    start = time.process_time()
    emit.generate(API)
    assert time.process_time() - start < 3


def test_an_unchanged_list_leaves_files_untouched(tmp_path: Path) -> None:
    assert emit.main([str(tmp_path)]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert emit.main([str(tmp_path)]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_the_generator_needs_only_the_standard_library(tmp_path: Path) -> None:
    """-I -S keeps every installed package away, as on the machine that builds a wheel."""
    code = f"import sys; sys.path.insert(0, {str(API)!r}); import emit; sys.exit(emit.main(sys.argv[1:]))"
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "out")]
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "out" / "cuda_abi.h").exists()


def test_a_list_that_is_not_valid_generates_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cuda", "nvml"):
        shutil.copytree(API / name, tmp_path / "list" / name)
    copy = tmp_path / "list" / "cuda" / "copy.toml"
    copy.write_text(copy.read_text().replace('bytes = "ByteCount"', 'bytes = "ByteCuont"', 1))
    assert emit.main([str(tmp_path / "out"), "--list", str(tmp_path / "list")]) == 1
    assert "ByteCuont, which is no parameter" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("language", [["-x", "c", "-std=c11"], ["-x", "c++", "-std=c++20"]])
@pytest.mark.parametrize("header", ["cuda_abi.h", "nvml_abi.h"])
def test_the_headers_are_c_and_cpp(
    language: list[str], header: str, generated: Path, zig: list[str], tmp_path: Path
) -> None:
    source = tmp_path / "include.c"
    source.write_text(f'#include "aliquot/{header}"\n')
    flags = ["-Wall", "-Wextra", "-Werror", "-c", "-o", str(tmp_path / "include.o"), f"-I{generated}"]
    command = [zig[0], "cc", *language, str(source), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="session", params=["zig", "g++"])
def driver(
    request: pytest.FixtureRequest,
    compile_cpp: Compile,
    generated: Path,
    stubs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The driver of driver_probe.cpp, the stubs once before and once after it on the command line."""
    output = tmp_path_factory.mktemp("driver") / "libdriver.so"
    source = ROOT / "tests" / "api" / "driver_probe.cpp"
    flags = [f"-I{ROOT}", f"-I{generated}", "-shared", "-Wl,-Bsymbolic", "-Wall", "-Wextra", "-Werror"]
    flags.append(f"-Wl,--version-script={generated}/aliquot/cuda_exports.map")
    if request.param == "zig":
        return compile_cpp(output, stubs, source, *flags)
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ on this machine")
    command = [compiler, "-std=gnu++20", "-O1", "-fPIC", "-fvisibility=hidden", *flags]
    own_stubs = generated / "aliquot" / "cuda_stubs.cpp"
    subprocess.run([*command, str(source), str(own_stubs), "-o", str(output)], check=True, timeout=300)
    return output


@pytest.fixture
def library(driver: Path) -> ctypes.CDLL:
    opened = ctypes.CDLL(str(driver))
    opened.aliquot_probe_count.restype = ctypes.c_size_t
    opened.aliquot_probe_name.restype = ctypes.c_char_p
    opened.aliquot_probe_name.argtypes = [ctypes.c_size_t]
    opened.aliquot_probe_implemented.argtypes = [ctypes.c_size_t]
    opened.aliquot_probe_address.argtypes = [ctypes.c_size_t]
    opened.aliquot_probe_address.restype = ctypes.c_void_p
    return opened


def names(library: ctypes.CDLL) -> list[str]:
    return [library.aliquot_probe_name(i).decode() for i in range(library.aliquot_probe_count())]


def test_coverage_is_what_the_linker_took(library: ctypes.CDLL) -> None:
    implemented = {n for i, n in enumerate(names(library)) if library.aliquot_probe_implemented(i)}
    assert implemented == IMPLEMENTED


def test_every_listed_symbol_is_exported_and_nothing_else(driver: Path, cuda_list: ApiList) -> None:
    command = ["nm", "-D", "--defined-only", "--format=posix", str(driver)]
    if shutil.which("nm") is None:
        pytest.skip("no nm on this machine")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    exported = {line.split()[0] for line in done.stdout.splitlines()}
    assert exported == set(cuda_list.symbols()) | OUR_OWN


def test_the_table_holds_the_exported_addresses(library: ctypes.CDLL) -> None:
    for index, name in enumerate(names(library)):
        assert library.aliquot_probe_address(index) == ctypes.cast(library[name], ctypes.c_void_p).value


def test_what_is_not_implemented_says_so(library: ctypes.CDLL) -> None:
    assert library.cuMemAlloc(None, 1) == NOT_SUPPORTED
    assert library.cuGraphLaunch(None, None) == NOT_SUPPORTED
    assert library.cuGraphLaunch_ptsz(None, None) == NOT_SUPPORTED
    assert library.cuProfilerStart() == NOT_SUPPORTED


@pytest.mark.parametrize(("stream", "arrives"), [(0, 2), (1, 1), (2, 2), (0x1000, 0x1000)])
def test_the_null_stream_of_a_ptsz_call_is_the_threads_own(
    library: ctypes.CDLL, stream: int, arrives: int
) -> None:
    assert library.cuStreamQuery(ctypes.c_void_p(stream)) == stream
    assert library.cuStreamQuery_ptsz(ctypes.c_void_p(stream)) == arrives


def test_a_ptds_call_runs_with_the_threads_own_default_stream(library: ctypes.CDLL) -> None:
    arguments = (ctypes.c_ulonglong(0), None, ctypes.c_size_t(0))
    assert library.cuMemcpyHtoD_v2(*arguments) == 1
    assert library.cuMemcpyHtoD_v2_ptds(*arguments) == 2
    assert library.cuMemcpyHtoD_v2(*arguments) == 1


def test_a_stream_inside_a_launch_configuration_is_replaced_in_a_copy(library: ctypes.CDLL) -> None:
    """CUlaunchConfig: seven 32-bit dimensions and sizes, padding, then the stream at byte 32."""
    config = (ctypes.c_char * 56)()
    assert library.cuLaunchKernelEx(config, None, None, None) == 0
    assert library.cuLaunchKernelEx_ptsz(config, None, None, None) == 2
    assert bytes(config) == bytes(56)
    assert library.cuLaunchKernelEx_ptsz(None, None, None, None) == 1
