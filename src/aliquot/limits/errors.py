"""What can go wrong with a slice."""

from __future__ import annotations

from aliquot.errors import AliquotError


class SliceNotFoundError(AliquotError):
    """There is no slice at that path."""

    code = "slice-not-found"


class SliceExistsError(AliquotError):
    """A slice of that name is there already."""

    code = "slice-exists"


class SliceDamagedError(AliquotError):
    """The files of a slice are not what this version writes: another version's, cut short, or scribbled
    over."""

    code = "slice-damaged"


class SliceAccessError(AliquotError):
    """The slice, or the folder that it would lie in, belongs to somebody else."""

    code = "slice-access-denied"
