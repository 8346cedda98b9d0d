"""Every form of an instruction that the interpreter implements has a case that executes it.

The interpreter prints its forms (exec-run --list-forms); the PTX of the cases tells what is executed.
What must come out is for the cases to say.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import test_ptx_approximate
import test_ptx_control
import test_ptx_convert
import test_ptx_float
import test_ptx_forms
import test_ptx_integer
from exec_runner import find_program

HERE = Path(__file__).parent
# Tests of hand-written kernels; those of compiled and of random ones say nothing about a form.
RECORDED = sorted(
    set(HERE.glob("test_exec_*.py")) - {HERE / "test_exec_forms.py", HERE / "test_exec_random.py"}
)
LISTED = HERE / "forms_without_case.txt"


def executed(text: str) -> set[str]:
    """The names of instructions in a module, with their modifiers."""
    names: set[str] = set()
    for statement in re.split(r"[;{}\n]", re.sub(r"//.*", "", text)):
        bare = re.sub(r"^\s*(?:[A-Za-z_$]\w*:(?!:)\s*)*(?:@!?[%\w]+\s+)?", "", statement)
        if found := re.match(r"[a-z]\w*(?:(?:\.|::)\w+)*", bare):
            names.add(found[0])
    return names


def test_names_are_found() -> None:
    text = "L: @!%p1 add.sat.s32 %a, %b, %c;{ M: ld.global.L2::128B.b32 %a, [%b]; } ret; // sub.s32 %a"
    assert executed(text) >= {"add.sat.s32", "ld.global.L2::128B.b32", "ret"}
    assert "sub.s32" not in executed(text)


def recorded(folder: Path, build: Path) -> str:
    """The modules that the tests of exec-run would start with; a test's later ones are not seen."""
    record = folder / "recorded.ptx"
    record.write_text("")
    env = {**os.environ, "ALIQUOT_PTX_RECORD": str(record), "ALIQUOT_BUILD_DIR": str(build)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        *map(str, RECORDED),
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert record.stat().st_size > 100_000, done.stdout[-3000:]
    return record.read_text()


def forms(build: Path) -> list[str]:
    """The implemented forms, by name."""
    command = [find_program(build), "--list-forms"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    listed = [json.loads(line) for line in done.stdout.splitlines()]
    return sorted({form["form"] for form in listed if form["implemented"]})


def exemptions() -> dict[str, str]:
    """Name -> why it has no case: sections of the file begin with "[REASON]"."""
    found: dict[str, str] = {}
    reason = ""
    for line in filter(None, LISTED.read_text().splitlines()):
        if line.startswith("["):
            reason = line.strip("[]")
        elif not line.startswith("#"):
            found[line] = reason
    return found


def test_every_form_has_a_case(native_build: Path, tmp_path: Path) -> None:
    modules = (
        test_ptx_approximate, test_ptx_control, test_ptx_convert, test_ptx_float, test_ptx_forms,
        test_ptx_integer,
    )  # fmt: skip
    seen = executed(recorded(tmp_path, native_build))
    for module in modules:
        for one in module.CASES:
            seen |= executed(one.ptx())
    missing = [name for name in forms(native_build) if name not in seen]
    listed = exemptions()
    assert all(listed.values()), "an entry without a reason"
    unlisted = [name for name in missing if name not in listed]
    assert unlisted == [], f"{len(unlisted)} forms have no case:\n" + "\n".join(unlisted)
    stale = sorted(set(listed) - set(missing))
    assert stale == [], f"entries of {LISTED.name} that no form needs"
