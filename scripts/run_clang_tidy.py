"""Runs clang-tidy over the native sources, with the headers of the compiler that builds them.

    run_clang_tidy.py [--jobs N] [--again] [PATH ...]

The product is built with zig's clang, which adds its own header folders; it is asked for them, so that no
system compiler is needed. A file that passed is remembered, as it goes along, by what clang-tidy's answer
depends on: the file, the headers of ours that it includes, the checks, the arguments and clang-tidy itself.
It is not read again until one of them changes. ALIQUOT_BUILD_DIR names another build to take arguments from.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import hashlib
import importlib.metadata
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import clang_tidy

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("ALIQUOT_BUILD_DIR", ROOT / "build" / "native"))
STATE = ROOT / "build" / "tidy"
MOST_REMEMBERED = 20_000
INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)


def compiler_flags() -> list[str]:
    """The header folders and definitions that the build's compiler adds by itself, asked of it."""
    wrapper = BUILD / "zig" / "c++"
    asked = [str(wrapper), "-E", "-v", "-x", "c++", os.devnull]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stderr
    command = next(shlex.split(line) for line in said.splitlines() if " -cc1 " in line)
    flags = ["-nostdinc", "-nostdinc++"]
    for option, value in itertools.pairwise(command):
        if option == "-D":
            flags.append(f"-D{value}")
        elif option in ("-isystem", "-internal-isystem", "-internal-externc-isystem"):
            flags += ["-isystem", str(own_headers(Path(value).resolve()))]
    return flags


def own_headers(folder: Path) -> Path:
    """clang-tidy's version of the headers that come with a clang; any other folder as it is."""
    if (folder / "immintrin.h").exists():
        return next((Path(clang_tidy.__file__).parent / "data" / "lib" / "clang").glob("*/include"))
    return folder


def commands() -> dict[Path, list[str]]:
    """The compiler's arguments for each source of ours, as a plain clang understands them."""
    flags = [f"--target={os.uname().machine}-linux-gnu", *compiler_flags()]
    found: dict[Path, list[str]] = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
        file = Path(entry["file"])
        if file.is_relative_to(ROOT / "native") and file not in found:
            driver = "clang" if file.suffix == ".c" else "clang++"
            found[file] = [driver, *flags, *theirs(shlex.split(entry["command"]))]
    return found


def theirs(arguments: list[str]) -> list[str]:
    """The build's own arguments without launcher and compiler, and without what only zig knows."""
    spelling = {"-march=x86_64_v3": "-march=x86-64-v3", "-march=x86_64_v4": "-march=x86-64-v4"}
    compiler = next(at for at, word in enumerate(arguments) if word.startswith(str(BUILD / "zig")))
    kept = [
        word
        for word in arguments[compiler + 1 :]
        if not word.startswith("-fno-sanitize") and word != "-Werror"
    ]
    return [spelling.get(word, word) for word in kept]


@functools.cache
def read(path: Path) -> tuple[str, tuple[str, ...]]:
    """A file's hash, and what it includes in quotation marks: all of ours is included so."""
    content = path.read_bytes()
    names = tuple(name.decode() for name in INCLUDE.findall(content))
    return hashlib.sha256(content).hexdigest(), names


def included(file: Path) -> Iterator[Path]:
    """The file and everything of ours that it includes, generated headers too, each once.

    Conditions are not evaluated, so it may be more than a compiler would read, never less.
    """
    seen = {file}
    waiting = [file]
    while waiting:
        one = waiting.pop()
        yield one
        for name in read(one)[1]:
            for folder in (one.parent, ROOT, BUILD / "generated"):
                header = folder / name
                if header.is_file() and header not in seen:
                    seen.add(header)
                    waiting.append(header)


@functools.cache
def what_checks() -> str:
    """The checks and the program that makes them."""
    return read(ROOT / ".clang-tidy")[0] + importlib.metadata.version("clang-tidy")


def fingerprint(file: Path, arguments: list[str]) -> str:
    """Changes with everything that clang-tidy's answer for the file depends on."""
    parts = [what_checks(), *(word.replace(str(BUILD), "build") for word in arguments)]
    parts += sorted(f"{path.name}:{read(path)[0]}" for path in included(file))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def check(file: Path, database: Path) -> tuple[Path, int, str]:
    """Runs clang-tidy on one file; its status and what it said."""
    tidy = Path(sys.executable).parent / "clang-tidy"
    done = subprocess.run(
        [str(tidy), "--quiet", "--warnings-as-errors=*", "-p", str(database), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    return file, done.returncode, done.stdout or done.stderr


class Passed:
    """The fingerprints of files that passed, in a file, so that nothing is lost when a run is interrupted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: set[str] = set()
        if path.exists():
            self.known = set(path.read_text(encoding="utf-8").split())

    def add(self, name: str) -> None:
        """Remembers one more."""
        self.known.add(name)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(name + "\n")

    def keep(self, names: set[str]) -> None:
        """Forgets all others once they are many; some of them may be another build's, or another branch's.

        Another run at the same time sees the old file or the new one.
        """
        if len(self.known) < MOST_REMEMBERED:
            return
        self.known &= names
        fresh = self.path.with_suffix(f".{os.getpid()}")
        fresh.write_text("".join(f"{name}\n" for name in sorted(self.known)), encoding="utf-8")
        fresh.replace(self.path)


def check_all(
    todo: Sequence[Path], prints: dict[Path, str], passed: Passed, *, database: Path, jobs: int
) -> int:
    """Checks files, prints findings; how many files had some."""
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        try:
            for done in concurrent.futures.as_completed(
                [pool.submit(check, file, database) for file in todo]
            ):
                file, status, text = done.result()
                if status == 0:
                    passed.add(prints[file])
                else:
                    failed += 1
                    print(
                        text.strip() or f"{file}: clang-tidy ended with {status}", file=sys.stderr, flush=True
                    )
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def wanted(file: Path, paths: Sequence[Path]) -> bool:
    """Whether the file is, or lies below, one of the paths; without paths all files are."""
    return not paths or any(file.is_relative_to(path) for path in paths)


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders; all native sources without")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--again", action="store_true", help="check files that passed, too")
    return parser.parse_args()


def main() -> int:
    """Checks what changed; 1 where something is wrong."""
    options = arguments()
    begun = time.monotonic()
    STATE.mkdir(parents=True, exist_ok=True)
    known = commands()
    entries = [{"directory": str(BUILD), "file": str(f), "arguments": a} for f, a in known.items()]
    passed = Passed(STATE / "passed.txt")
    prints = {file: fingerprint(file, arguments) for file, arguments in known.items()}
    passed.keep(set(prints.values()))
    paths = [path.resolve() for path in options.paths]
    chosen = [file for file in known if wanted(file, paths)]
    todo = [file for file in chosen if options.again or prints[file] not in passed.known]
    with tempfile.TemporaryDirectory() as database:  # another run may have another build
        (Path(database) / "compile_commands.json").write_text(json.dumps(entries), encoding="utf-8")
        failed = check_all(todo, prints, passed, database=Path(database), jobs=options.jobs)
    took = time.monotonic() - begun
    print(f"clang-tidy: {len(chosen)} files, {len(todo)} looked at, {failed} with findings, {took:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
