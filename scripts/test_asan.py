"""Builds with g++ under address and undefined-behaviour sanitizers; runs fuzzers and marked tests, or soaks.

The sanitizers' runtime must be the first library of a process, so Python preloads it. A leak is no fault
here: a driver's library keeps its state until the process ends, and so do Python's modules. Arguments that
are not listed below go to pytest, or to the soak.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "asan"
INSTALL = ROOT / "build" / "asan-installed"


def build() -> None:
    """The native part, instrumented, installed beside the build."""
    command = [
        str(ROOT / "scripts" / "build_native.sh"),
        str(BUILD),
        str(INSTALL),
        "-DCMAKE_CXX_COMPILER=g++",
        "-DCMAKE_C_COMPILER=gcc",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        "-DALIQUOT_SANITIZE=ON",
    ]
    subprocess.run(command, check=True, cwd=ROOT)


def runtime() -> str:
    """The sanitizers' runtime libraries, for LD_PRELOAD; with the C++ library, which their hooks need."""
    names = ("libasan.so", "libubsan.so", "libstdc++.so.6")
    asked = [["g++", f"-print-file-name={name}"] for name in names]
    found = [
        subprocess.run(each, capture_output=True, text=True, check=True).stdout.strip() for each in asked
    ]
    return ":".join(str(Path(file).resolve()) for file in found)


def settings() -> dict[str, str]:
    """What the sanitizers shall do: stop at the first fault, and leave out leaks.

    The limiter puts itself before all else that is preloaded, the runtime included, so the runtime's place
    is not checked.
    """
    return {
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:handle_segv=1:allocator_may_return_null=1"
        ":verify_asan_link_order=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def fuzz(seconds: int) -> int:
    """Runs each fuzzer of the build for so long; how many of them found something."""
    programs = [each for each in sorted(BUILD.rglob("fuzz-*")) if each.is_file() and os.access(each, os.X_OK)]
    if not programs:
        print("there is no fuzzer in the build", file=sys.stderr)
        return 1
    return sum(fuzz_one(program, seconds) for program in programs)


def fuzz_one(program: Path, seconds: int) -> bool:
    """Runs one fuzzer on its corpus, which lies in the source folder that it was built from."""
    print(f"{program.name}: {seconds} s", flush=True)
    corpus = ROOT / program.relative_to(BUILD).parent / "corpus" / program.name.removeprefix("fuzz-")
    command = [str(program), "--seconds", str(seconds), *([str(corpus)] if corpus.is_dir() else [])]
    done = subprocess.run(command, env={**os.environ, **settings()}, cwd=BUILD, check=False)
    if done.returncode != 0:
        print(f"{program.name} ended with {done.returncode}; its input is in {BUILD}/fuzz-failure.bin")
    return done.returncode != 0


def instrumented() -> dict[str, str]:
    """An environment in which tests find the instrumented parts."""
    return {
        **os.environ,
        **settings(),
        "ALIQUOT_NATIVE_DIR": str(INSTALL),
        "ALIQUOT_BUILD_DIR": str(BUILD),
        "ALIQUOT_TEST_PRELOAD": runtime(),
    }


def test(arguments: Sequence[str]) -> int:
    """The tests marked `sanitized`, on the instrumented libraries; how many of pytest's runs failed.

    Those of `tests/driver` load the driver into pytest's own process, so the runtime is preloaded there.
    """
    environment = instrumented()
    marked = [sys.executable, "-m", "pytest", "-m", "sanitized", "-q", *arguments]
    preloaded = {**environment, "LD_PRELOAD": runtime()}
    runs = (
        ([*marked, "tests", "--ignore", "tests/driver"], environment),
        ([*marked, "tests/driver"], preloaded),
    )
    done = [subprocess.run(command, env=env, cwd=ROOT, check=False) for command, env in runs]
    return sum(each.returncode != 0 for each in done)


def soak(seconds: float, arguments: Sequence[str]) -> int:
    """Random driver calls by many processes on the instrumented libraries; the soak's status.

    `arguments` go to it: `--seed`, `--processes` and what else `python -m tests.soak.soak --help` lists.
    """
    report = ROOT / "out" / "soak.json"
    command = [sys.executable, "-m", "tests.soak.soak", "--seconds", str(seconds), "--json", str(report)]
    return subprocess.run([*command, *arguments], env=instrumented(), cwd=ROOT, check=False).returncode


def main() -> int:
    """Builds, fuzzes, tests (or soaks); 0 where nothing was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=20, help="for each fuzzer (default: %(default)s)")
    parser.add_argument("--soak", nargs="?", const=600.0, type=float, metavar="SECONDS", help="only soak")
    options, others = parser.parse_known_args()
    build()
    if options.soak:
        return soak(options.soak, others)
    return 1 if fuzz(options.seconds) + test(others) else 0


if __name__ == "__main__":
    sys.exit(main())
