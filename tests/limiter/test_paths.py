"""Every path that takes device memory is charged what the card says, refused in one way, and given back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import MIB, Limited
from .simulated import make_slice

pytestmark = pytest.mark.sanitized

OUT_OF_MEMORY = 2
SOME = (
    8 * MIB
)  # and more take the paths of the program, but for one, which takes a part of it in each context
PATHS_OF_THE_DEVICE = {
    "memory", "pitched", "managed", "asynchronous", "asynchronous, freed at once", "own pool", "virtual",
    "array", "array of three dimensions", "mipmap", "module", "library", "graph", "limit", "context",
}  # fmt: skip
CARD = """
import pynvml, sys
pynvml.nvmlInit()
for line in sys.stdin:
    print(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used, flush=True)
"""


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return heard(process)


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    line = process.stdout.readline().rstrip("\n")
    assert line, process.communicate()[1]
    return line


@dataclass(frozen=True)
class Step:
    path: str
    what: str
    code: int
    held: int
    """By the slice's account, as the program reads it."""
    figure: int
    """By the card's own record."""


def run_all(limited: Limited, machine: Mapping[str, str]) -> tuple[list[Step], str]:
    """The steps of the program, and what was written to its stderr."""
    done: list[Step] = []
    with (
        limited.start("import memory_paths; memory_paths.main()") as process,
        Limited(limited.slice, machine).start(CARD) as card,
    ):
        line = heard(process)
        while line != "end":
            path, what, code, held = line.split("|")
            done.append(Step(path, what, int(code), int(held), int(told(card))))
            line = told(process)
        card.kill()
        return done, process.communicate(timeout=30)[1]


def test_each_path_is_charged_refused_and_given_back(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """The account is always the card's record, but for managed memory, which the card need not hold."""
    limited = make_slice(machine, native_dir, slice_home, contexts=3)
    (limit,) = limited.slice.limits()
    done, errors = run_all(limited, machine)
    base = done[0].held
    of_the_host = {"host", "host, old", "registered", "virtual of the host"}
    for each in done:
        taken = each.what == "taken" and each.path not in of_the_host
        assert each.code == (OUT_OF_MEMORY if each.what == "refused" else 0), each
        assert (each.held >= base + SOME) if taken else (each.held == base), each
        assert each.figure == each.held or (each.path == "managed" and each.figure < each.held), each
        assert each.held <= limit.vram_bytes, each
    assert {each.path for each in done if each.what == "refused"} >= PATHS_OF_THE_DEVICE
    check_lines(errors, base, limit.vram_bytes)


def check_lines(errors: str, base: int, limit: int) -> None:
    """Each refusal is told in one line: what was asked for, what is held and what is allowed."""
    parts = re.split(r"^refusing (.*)\n", errors, flags=re.MULTILINE)
    told_of = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(told_of) == PATHS_OF_THE_DEVICE
    for path, text in told_of.items():
        (line,) = text.splitlines()
        numbers = re.fullmatch(
            r"aliquot: out of memory: (\d+) bytes asked for, the slice holds (\d+) of the (\d+) that it is "
            r"allowed.*",
            line,
        )
        assert numbers, line
        asked, held, allowed = map(int, numbers.groups())
        assert asked + held > allowed == limit, (path, line)
        assert held >= base, (path, line)
