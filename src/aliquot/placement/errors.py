"""What can go wrong when the state of a cluster is changed."""

from __future__ import annotations

from aliquot.errors import AliquotError, InvalidValueError


class UnknownClaimError(InvalidValueError):
    """No claim of that name holds anything."""

    code = "unknown-claim"

    def __init__(self, name: str) -> None:
        super().__init__(f"no claim {name!r} holds anything here", hint="it may have been released already")


class ClaimExistsError(InvalidValueError):
    """A claim of that name holds something already."""

    code = "claim-exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"claim {name!r} holds devices already", hint="release it, or resize it in place")


class IllegalGrantError(AliquotError):
    """A grant breaks a rule of sharing: mechanisms that do not mix, or MIG instances that overlap."""

    code = "illegal-grant"
    exit_status = 6


class CannotResizeError(AliquotError):
    """A claim cannot be changed where it stands; it may be placed again."""

    code = "cannot-resize"
    exit_status = 6
