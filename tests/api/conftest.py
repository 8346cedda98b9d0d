"""What the tests of the list share: the list itself, vendor headers, the product's compiler, built probes."""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "native" / "api"
sys.path.insert(0, str(API))

from listing import toml_io  # noqa: E402  (found through the line above)
from listing.model import ApiList  # noqa: E402

# Types of OpenGL, EGL and VDPAU headers that the vendor's interoperability headers include.
FOREIGN_HEADERS = {
    "GL/gl.h": "typedef unsigned int GLuint; typedef unsigned int GLenum;",
    "EGL/egl.h": "typedef int EGLint; typedef void *EGLStreamKHR; typedef void *EGLImageKHR;"
    "typedef void *EGLSyncKHR;",
    "EGL/eglext.h": "",
    "vdpau/vdpau.h": "typedef unsigned int VdpDevice; typedef unsigned int VdpVideoSurface;"
    "typedef unsigned int VdpOutputSurface; typedef unsigned int VdpFuncId; typedef int VdpStatus;"
    "typedef VdpStatus VdpGetProcAddress(VdpDevice, VdpFuncId, void **);",
}

Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def cuda_list() -> ApiList:
    return toml_io.load(API / "cuda")


@pytest.fixture(scope="session")
def nvml_list() -> ApiList:
    return toml_io.load(API / "nvml")


@pytest.fixture(scope="session")
def toolkits() -> list[Path]:
    """Include folders of the installed toolkit wheels, oldest first."""
    import extract  # needs libclang, which only these tests do

    found = extract.installed_toolkits()
    assert found, "the development environment has no toolkit headers"
    return found


@pytest.fixture(scope="session")
def newest_toolkit(toolkits: list[Path]) -> Path:
    return toolkits[-1]


@pytest.fixture(scope="session")
def foreign_headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    for name, text in FOREIGN_HEADERS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{text}\n")
    return folder


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `aliquot/` with everything that is generated from the committed list."""
    folder = tmp_path_factory.mktemp("generated")
    command = [sys.executable, str(API / "emit.py"), str(folder / "aliquot")]
    subprocess.run(command, check=True, timeout=60)
    return folder


@pytest.fixture(scope="session")
def zig() -> list[str]:
    """The product's C++ compiler with the flags that every build of ours has."""
    site = Path(sysconfig.get_paths()["purelib"]) / "ziglang" / "zig"
    if not site.exists():
        pytest.fail("the development environment has no ziglang", pytrace=False)
    flags = ["-std=gnu++20", "-O1", "-fPIC", "-fvisibility=hidden", "-fno-sanitize=undefined"]
    return [str(site), "c++", *flags]


@pytest.fixture(scope="session")
def compile_cpp(zig: list[str]) -> Compile:
    """Compiles C++ sources with the product's compiler: compile_cpp(output, *arguments)."""

    def compile_(output: Path, *arguments: str | Path) -> Path:
        command = [*zig, *map(str, arguments), "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        return output

    return compile_


@pytest.fixture(scope="session")
def stubs(compile_cpp: Compile, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver's weak definitions as an object file."""
    source = generated / "aliquot" / "cuda_stubs.cpp"
    flags = [f"-I{ROOT}", f"-I{generated}", "-c", "-Wall", "-Wextra", "-Werror"]
    return compile_cpp(tmp_path_factory.mktemp("stubs") / "cuda_stubs.o", source, *flags)
