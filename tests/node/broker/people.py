"""Other users of this machine: programs that run under their uids, with nothing of root's left to them."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
GROUP = 54321
"""Of those who share the simulated cards."""
ALICE, BOB = 12345, 65534

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs to become other users")


def modules() -> str:
    """PYTHONPATH of an interpreter that is not the tests' own."""
    return ":".join([str(ROOT / "src"), *site.getsitepackages()])


def interpreter(uid: int) -> str:
    """A Python that this user can run: the tests' own may lie in root's folder."""
    for program in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [program, "-c", "import typer, rich, aliquot"],
                env={"PYTHONPATH": modules(), "PATH": "/usr/bin:/bin"},
                user=uid,
                group=uid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=False,
                timeout=60,
            )
        except OSError:
            continue
        if done.returncode == 0:
            return program
    pytest.skip("other users cannot run any Python that has Aliquot's dependencies")


@dataclass(frozen=True)
class Person:
    """A user, in the group that shares the cards."""

    uid: int
    python: str
    env: Mapping[str, str]
    groups: Sequence[int] = field(default=(GROUP,))

    def start(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Starts a program of hers."""
        settings: dict[str, Any] = {
            "env": self.env,
            "user": self.uid,
            "group": self.uid,
            "extra_groups": list(self.groups),
            "cwd": "/",
            "text": True,
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        }
        return subprocess.Popen([str(each) for each in command], **settings)

    def run(
        self, *command: str | Path, timeout: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of hers to its end."""
        process = self.start(*command, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess([], process.returncode, out, err)

    def aliquot(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs `aliquot` as a command of hers."""
        return self.run(self.python, "-m", "aliquot", *arguments, **options)

    def refusal(self, *arguments: str, **options: Any) -> str:
        """The code with which an `aliquot` command that has --json refuses."""
        done = self.aliquot(*arguments, "--json", **options)
        assert done.returncode != 0, done.stdout
        return json.loads(done.stdout)["error"]["code"]

    def answers(self, program: str, *arguments: str | Path, **options: Any) -> Any:
        """What a Python program of hers, given as text, prints as JSON."""
        done = self.run(self.python, "-c", textwrap.dedent(program), *arguments, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
