"""Builds a CUDA C++ program as nvcc's users do, on a machine that has no compiler of its own.

    build.py NAME 12|13 shared|static COMPRESSION

prints the path of the program made from NAME.cu. The toolkit is the one on PyPI: nvcc 13 compiles the device
code to PTX for compute capability 7.5; headers and libcudart are those of the toolkit asked for (nvcc 12 is
not on PyPI, but its runtime's headers and libraries are). clang from the ziglang package compiles and links
the host's part. COMPRESSION is nvcc's --compress-mode.

Programs are kept below build/clients under a name that changes with whatever they are made of.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parents[2] / "build" / "clients"
TOOLS = ("nvidia-cuda-nvcc", "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "ziglang")

# The CUDA headers declare functions that the newest C library also declares, and ask for its version first:
# so zig is told the newest one for compiling. Linked is against the oldest, so that the program starts
# everywhere, and with -O3, for which the C++ library was built already when the native parts were.
COMPILER = """#!/bin/sh
target=x86_64-linux-gnu.2.17
for word in "$@"; do case $word in -E|-c) target=x86_64-linux-gnu.2.42 ;; esac; done
exec {python} -m ziglang c++ -target "$target" "$@"
"""


def nvidia(package: str) -> Path:
    """The folder of an NVIDIA wheel."""
    import nvidia  # a namespace package: the wheels share it

    for folder in nvidia.__path__:
        if (Path(folder) / package).is_dir():
            return Path(folder) / package
    raise SystemExit(f"the package nvidia/{package} is not installed")


def recipe_of(name: str, toolkit: str, runtime: str, compression: str) -> str:
    """A name for everything that the program is made of."""
    made_of = [Path(__file__).read_bytes(), (HERE / f"{name}.cu").read_bytes()]
    made_of += [header.read_bytes() for header in sorted(HERE.glob("*.hpp"))]
    made_of.append(repr((toolkit, runtime, compression, [version(tool) for tool in TOOLS])).encode())
    return hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]


def run(*command: str | Path) -> None:
    """Run a compiler. Raises `SystemExit` with what it said if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def compile_object(name: str, toolkit: str, compression: str, folder: Path) -> Path:
    """The host's object with the device code in it."""
    compiler = folder / "c++"
    compiler.write_text(COMPILER.format(python=sys.executable), encoding="utf-8")
    compiler.chmod(0o755)
    target = folder / f"{name}.o"
    include = nvidia("cu13" if toolkit == "13" else "cuda_runtime") / "include"
    options = (
        "-O3",
        "-std=c++17",
        "-arch=compute_75",
        f"--compress-mode={compression}",
        "-allow-unsupported-compiler",
    )
    run(
        nvidia("cu13") / "bin" / "nvcc", "-ccbin", compiler, *options, f"-I{include}", "-c", "-o", target,
        HERE / f"{name}.cu",
    )  # fmt: skip
    return target


def link(source: Path, toolkit: str, runtime: str, target: Path) -> None:
    """The program, with libcudart inside or beside it."""
    library = nvidia("cu13" if toolkit == "13" else "cuda_runtime") / "lib"
    if runtime == "shared":
        cudart = [library / f"libcudart.so.{toolkit}", f"-Wl,-rpath,{library}"]
    else:
        cudart = [library / "libcudart_static.a", "-lpthread", "-ldl", "-lrt"]
        cudart += [library / "libculibos.a"] if toolkit == "12" else []
    zig = (sys.executable, "-m", "ziglang", "c++", "-target", "x86_64-linux-gnu.2.17")
    run(*zig, "-O3", "-o", target, source, *cudart)


def main(name: str, toolkit: str, runtime: str, compression: str) -> int:
    """Build unless it is there, print where."""
    program = KEPT / f"{name}-{recipe_of(name, toolkit, runtime, compression)}"
    if not program.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            made = Path(folder) / name
            link(compile_object(name, toolkit, compression, Path(folder)), toolkit, runtime, made)
            made.replace(program)  # whole or not at all, whoever else builds it now
    print(program)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
