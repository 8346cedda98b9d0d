"""What can go wrong, as a typed protocol.

Every error that a person or a program may meet is an `AliquotError` with a stable code, the reason, and what
to do. Nothing here prints; the command line shows an error as text or as JSON, and other programs match on
the code.
"""

from __future__ import annotations

from typing import ClassVar


class AliquotError(Exception):
    """Base of all errors that Aliquot raises on purpose.

    `code` is stable and is what programs match on; `reason` says what happened in one sentence; `hint` says
    what to do about it, or is empty; `exit_status` is what the command line ends with.
    """

    code: ClassVar[str] = "failed"
    exit_status: ClassVar[int] = 1

    def __init__(self, reason: str, *, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """The error as it appears in JSON output: `code`, `reason` and `hint`."""
        return {"code": self.code, "reason": self.reason, "hint": self.hint}

    def __str__(self) -> str:
        return f"{self.reason}\n{self.hint}" if self.hint else self.reason


class InvalidValueError(AliquotError, ValueError):
    """A value that a person or a program gave does not make sense."""

    code = "invalid-value"
    exit_status = 2


class NotInstalledError(AliquotError):
    """A native part that the installation should carry is not there."""

    code = "native-part-missing"
    exit_status = 4


class UnavailableError(AliquotError):
    """What was asked for cannot be had on this machine as it is."""

    code = "unavailable"
    exit_status = 5


class ProgramNotFoundError(AliquotError):
    """The program to run does not exist, or is not executable. The status is the shell's."""

    code = "program-not-found"
    exit_status = 127
