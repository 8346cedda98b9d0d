"""Memory that several processes of a slice hold, from the bytes of its file `account`. No I/O.

Its maker is charged for it in his own entry of the account. Once he has gone it is charged, once, to the
slice for as long as one of those who opened it lives.
"""

from __future__ import annotations

from collections.abc import Set

from aliquot.limits.layout import load
from aliquot.limits.words import amount, word


def orphaned_bytes(account: bytes, device: int, living: Set[int]) -> int:
    """Bytes of the slice's `device` whose maker is not among `living` (owner words) while an opener is."""
    layout = load()
    shape, entry = layout.structures["Account"], layout.structures["SharedMemory"]
    used = min(word(account, shape.offset("shared_used")), layout.number("max_shared"))
    orphans: dict[tuple[int, int], int] = {}
    for at in (shape.offset("shared", index) for index in range(used)):
        holder, maker, key, of_device = (
            word(account, at + entry.offset(field)) for field in ("holder", "maker", "key", "device")
        )
        if holder in living and maker not in living and of_device == device:
            orphans.setdefault((maker, key), amount(account, at + entry.offset("bytes")))
    return sum(orphans.values())
