"""A program that a test talks with: a line in, a line out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class LineProgram:
    """One process. It is there once its first line, the greeting, has been read."""

    def __init__(self, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.greeting = self.answer()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def send(self, *words: object) -> None:
        """Tells it something and does not wait."""
        assert self.process.stdin
        self.process.stdin.write(" ".join(map(str, words)) + "\n")

    def answer(self) -> str:
        """The next line; empty once it has ended."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, *words: object) -> str:
        """Tells it something and waits for the answer."""
        self.send(*words)
        return self.answer()

    def cpu_s(self) -> float:
        """Processor time so far, of user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once; may be called again."""
        self.process.kill()
        self.process.communicate()

    def end(self) -> str:
        """Closes its input, waits for it, and returns what it wrote to standard error."""
        return self.process.communicate(timeout=30)[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
