"""Runs clang-tidy over the native sources, with the headers of the compiler that builds them.

The product is built with zig's clang, which adds its own header folders; it is asked for them, so that no
system compiler is needed. Files that did not change since they last passed are not read again.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import clang_tidy

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "native"
STATE = ROOT / "build" / "tidy"


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
        if file.is_relative_to(ROOT / "native"):
            driver = "clang" if file.suffix == ".c" else "clang++"
            found[file] = [driver, *flags, *theirs(shlex.split(entry["command"]))]
    return found


def theirs(arguments: list[str]) -> list[str]:
    """The build's own arguments without the compiler's name and without what only zig knows."""
    spelling = {"-march=x86_64_v3": "-march=x86-64-v3", "-march=x86_64_v4": "-march=x86-64-v4"}
    kept = [word for word in arguments[1:] if not word.startswith("-fno-sanitize") and word != "-Werror"]
    return [spelling.get(word, word) for word in kept]


def fingerprint(file: Path, arguments: list[str]) -> str:
    """Changes with the file, with any of our headers, with the checks and with the arguments."""
    digest = hashlib.sha256("\0".join(arguments).encode())
    for path in [file, ROOT / ".clang-tidy", *sorted((ROOT / "native").rglob("*.h*"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check(file: Path, database: Path) -> tuple[Path, int, str]:
    """Runs clang-tidy on one file; its status and what it said."""
    tidy = Path(sys.executable).parent / "clang-tidy"
    done = subprocess.run(
        [str(tidy), "--quiet", "--warnings-as-errors=*", "-p", str(database), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    return file, done.returncode, done.stdout


def main() -> int:
    """Checks what changed; 1 where something is wrong."""
    STATE.mkdir(parents=True, exist_ok=True)
    known = commands()
    entries = [{"directory": str(BUILD), "file": str(f), "arguments": a} for f, a in known.items()]
    (STATE / "compile_commands.json").write_text(json.dumps(entries), encoding="utf-8")
    passed_file = STATE / "passed.json"
    passed = set(json.loads(passed_file.read_text(encoding="utf-8"))) if passed_file.exists() else set()
    prints = {file: fingerprint(file, arguments) for file, arguments in known.items()}
    todo = [file for file in known if prints[file] not in passed]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for file, status, text in pool.map(lambda each: check(each, STATE), todo):
                if status == 0:
                    passed.add(prints[file])
                else:
                    failed += 1
                    print(text.strip() or f"{file}: clang-tidy ended with {status}", file=sys.stderr)
        finally:
            passed_file.write_text(json.dumps(sorted(passed & set(prints.values()))), encoding="utf-8")
    print(f"clang-tidy: {len(known)} files, {len(todo)} looked at, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
