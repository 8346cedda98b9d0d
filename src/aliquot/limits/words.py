"""Numbers and text within the files of a slice. No I/O; whoever reads says what the numbers may mean."""

from __future__ import annotations

import struct

from aliquot.limits.errors import SliceDamagedError
from aliquot.limits.layout import Structure, load

WORD = struct.Struct("<Q")
HALF = struct.Struct("<I")
_MOST = 2**63 - 1
"""No honest count of bytes or nanoseconds reaches it; a dishonest one is cut to it."""


def word(content: bytes, at: int) -> int:
    """The 64-bit word at an offset."""
    return WORD.unpack_from(content, at)[0]


def amount(content: bytes, at: int) -> int:
    """The word as an amount that fits a signed one."""
    return min(word(content, at), _MOST)


def text(content: bytes, at: int, size: int) -> str:
    """What stands before the first zero of a field, with everything that a terminal would obey replaced."""
    found = content[at : at + size].split(b"\0")[0].decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in found)


def new_file(structure: str, magic: str) -> bytearray:
    """A file with its head filled in and all else zero."""
    layout = load()
    shape, beginning = layout.structures[structure], layout.text(magic).encode()
    content = bytearray(shape.size)
    content[shape.offset("magic") : shape.offset("magic") + len(beginning)] = beginning
    HALF.pack_into(content, shape.offset("version"), layout.version)
    HALF.pack_into(content, shape.offset("size"), shape.size)
    return content


def check_head(content: bytes, structure: str, magic: str) -> Structure:
    """The structure of a file that is what it should be. Raises `SliceDamagedError` for any other."""
    layout = load()
    shape = layout.structures[structure]
    if len(content) != shape.size or not content.startswith(layout.text(magic).encode()):
        raise SliceDamagedError("this is not the file of a slice")
    (version,), (size,) = (HALF.unpack_from(content, shape.offset(field)) for field in ("version", "size"))
    if version != layout.version or size != shape.size:
        raise SliceDamagedError(
            f"the slice was made by another version ({version}; this one reads {layout.version})"
        )
    return shape
