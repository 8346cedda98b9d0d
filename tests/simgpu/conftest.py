"""The development tools that show what the native parsers make of their input."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Module = dict[str, Any]


def _program(native_build: Path, name: str) -> str:
    found = native_build / "native" / "simgpu" / name
    if not found.is_file():
        pytest.fail(f"{found} is not built: run `make native`, or set ALIQUOT_BUILD_DIR", pytrace=False)
    return str(found)


class PtxDump:
    """ptx-dump: the module that the parser makes of a text, or its error."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def run(self, *arguments: str, texts: Sequence[str | bytes]) -> subprocess.CompletedProcess[str]:
        """Runs the tool on texts; a status other than 0 and 1 is a crash and fails the test."""
        files: list[str] = []
        for number, text in enumerate(texts):
            file = self._folder / f"{number}.ptx"
            file.write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
            files.append(str(file))
        done = subprocess.run(
            [self._program, *arguments, *files], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in (0, 1), (done.returncode, done.stderr[-2000:])
        return done

    def parse(self, *texts: str | bytes) -> Module:
        """The module of a text, or the linked one of several. Fails the test where there is none."""
        done = self.run(texts=texts)
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout)

    def error(self, *texts: str | bytes) -> tuple[int, str]:
        """Line and message of the refusal. Fails the test where there is none."""
        done = self.run("--quiet", texts=texts)
        assert done.returncode == 1, "the text was accepted"
        answer = json.loads(done.stdout)
        return answer["line"], answer["error"]

    def body(self, statements: str) -> Module:
        """The function that has these statements."""
        return self.parse(kernel(statements))["functions"][0]


def kernel(statements: str) -> str:
    """A module with one kernel; its statements begin on line 2."""
    header = ".version 8.0 .target sm_80 .address_size 64 .visible .entry k(.param .u64 data)"
    return f"{header} {{\n{statements}\n}}\n"


@pytest.fixture
def ptx_dump(native_build: Path, tmp_path: Path) -> PtxDump:
    """The PTX parser."""
    return PtxDump(_program(native_build, "ptx/ptx-dump"), tmp_path)


@pytest.fixture
def image_dump(native_build: Path) -> Callable[..., list[Module]]:
    """The image reader: `image_dump([bytes, ...], "--sm", "90")` gives an answer for each image."""
    program = _program(native_build, "image/image-dump")

    def run(images: Sequence[bytes], *arguments: str) -> list[Module]:
        stream = b"".join(struct.pack("<I", len(image)) + image for image in images)
        done = subprocess.run(
            [program, *arguments, "-"], input=stream, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
        return [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]

    return run


@pytest.fixture
def pack_linked(native_build: Path, tmp_path: Path) -> Callable[[Sequence[str]], bytes]:
    """The linked image of PTX texts."""
    program = _program(native_build, "image/image-dump")

    def run(texts: Sequence[str]) -> bytes:
        files: list[str] = []
        for number, text in enumerate(texts):
            file = tmp_path / f"linked{number}.ptx"
            file.write_text(text)
            files.append(str(file))
        return subprocess.run([program, "--pack", *files], capture_output=True, timeout=60, check=True).stdout

    return run


@pytest.fixture
def fuzz(native_build: Path, tmp_path: Path) -> Callable[..., str]:
    """Runs a fuzz target: `fuzz("ptx", "--iterations", "100")`. Fails the test with the input's text."""

    def run(target: str, *arguments: str) -> str:
        program = _program(native_build, f"fuzz/fuzz-{target}")
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path
        )
        failure = tmp_path / "fuzz-failure.bin"
        seen = failure.read_bytes()[:4000] if failure.is_file() else b""
        assert done.returncode == 0, (done.stderr[-2000:], seen)
        return done.stdout

    return run
