"""Runs clang-tidy over the native sources, with the headers of the compiler that builds them.

The product is built with zig's clang, whose wrapper adds its own header folders; they are stated here, so
that no system compiler is needed. Files that did not change since they last passed are not read again.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import ziglang

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "native"
STATE = ROOT / "build" / "tidy"
CHECKED = ("native/",)


def header_flags() -> list[str]:
    """What zig's wrapper adds for C++ on Linux with glibc (its `libcxx` and `libc` folders)."""
    lib = Path(ziglang.__file__).parent / "lib"
    machine = os.uname().machine
    system = [
        lib / "libcxx" / "include",
        lib / "libcxxabi" / "include",
        lib / "include",
        lib / "libc" / "include" / f"{machine}-linux-gnu",
        lib / "libc" / "include" / "generic-glibc",
        lib / "libc" / "include" / f"{'x86' if machine == 'x86_64' else machine}-linux-any",
        lib / "libc" / "include" / "any-linux-any",
    ]
    return ["-nostdinc", "-nostdinc++", *(word for folder in system for word in ("-isystem", str(folder)))]


def commands() -> dict[Path, list[str]]:
    """The compiler's arguments for each source of ours, as a plain clang understands them."""
    found: dict[Path, list[str]] = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
        file = Path(entry["file"])
        if file.is_relative_to(ROOT) and str(file.relative_to(ROOT)).startswith(CHECKED):
            found[file] = clean(entry["command"].split())
    return found


def clean(arguments: list[str]) -> list[str]:
    """Drops the compiler's name and what only it knows; adds the headers and the target."""
    kept = [word for word in arguments[1:] if not word.startswith("-fno-sanitize") and word != "-Werror"]
    own = [
        f"--target={os.uname().machine}-linux-gnu",
        "-D_LIBCPP_ABI_VERSION=1",
        "-D_LIBCPP_ABI_NAMESPACE=__1",
        "-D_LIBCPP_HAS_NO_VENDOR_AVAILABILITY_ANNOTATIONS",
        "-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_NONE",
    ]
    return ["clang++", *own, *header_flags(), *kept]


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
        for file, status, text in pool.map(lambda each: check(each, STATE), todo):
            if status == 0:
                passed.add(prints[file])
            else:
                failed += 1
                print(text.strip() or f"{file}: clang-tidy ended with {status}", file=sys.stderr)
    passed_file.write_text(json.dumps(sorted(passed & set(prints.values()))), encoding="utf-8")
    print(f"clang-tidy: {len(known)} files, {len(todo)} looked at, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
