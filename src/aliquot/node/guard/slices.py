"""The slices of this machine, as the comparison sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from aliquot.errors import AliquotError
from aliquot.limits import Slice, SliceDamagedError, Standing, homes, people_homes
from aliquot.model import DeviceKind
from aliquot.node.broker.home import is_installed
from aliquot.policy.guard import CardTerms, Claim, FileId, SliceView

_MOST_SLICES: Final = 4096
"""Of one home; whoever makes more has the rest of them not counted."""


def find_homes(stated: Iterable[str], kind: DeviceKind) -> list[Path]:
    """The folders whose slices count: those stated, else those of the machine, else everybody's own.

    Where the machine's broker lends its real cards, a slice that somebody made for himself lends him nothing.
    Raises `SliceAccessError` where the machine's home is not root's.
    """
    if chosen := [Path(each) for each in stated]:
        return chosen
    return people_homes() if kind is DeviceKind.REAL and is_installed() else homes()


def views(folders: Sequence[Path], uuids: Mapping[int, str]) -> list[SliceView]:
    """Every slice of these homes; `uuids` are the cards by number. What cannot be read is left out.

    A slice whose owner's files are another version's is there, and not judged.
    """
    found: list[SliceView] = []
    for folder in folders:
        for entry in _entries(folder):
            with suppress(AliquotError, OSError):
                found.append(_view(Slice(entry), uuids))
    return found


def _entries(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        for count, entry in enumerate(folder.iterdir()):
            if count >= _MOST_SLICES:
                return
            if not entry.name.startswith("."):
                yield entry


def _view(slice_: Slice, uuids: Mapping[int, str]) -> SliceView:
    try:
        standing = slice_.standing()
    except SliceDamagedError:
        file = (slice_.path / "account").lstat()
        return SliceView(
            path=str(slice_.path),
            account=FileId(file.st_dev, file.st_ino),
            account_uid=file.st_uid,
            judged=False,
        )
    cards = [_uuid(limit.device, uuids) for limit in standing.limits]
    return SliceView(
        path=str(slice_.path),
        account=FileId(*standing.account),
        account_uid=standing.tenant_uid,
        terms={
            card: CardTerms(vram_bytes=limit.vram_bytes, held_ns=held_ns)
            for card, limit, held_ns in zip(cards, standing.limits, standing.held_ns, strict=True)
        },
        generation=standing.generation,
        preempts=standing.preempts,
        arbiter_epoch=standing.arbiter.epoch if standing.arbiter.alive else None,
        claims=tuple(_claims(standing, cards)),
    )


def _claims(standing: Standing, cards: Sequence[str]) -> Iterator[Claim]:
    for member in standing.members:
        yield Claim(
            pid=member.pid,
            start_ticks=member.start_ticks,
            namespace=member.pid_namespace,
            held=dict(zip(cards, member.held_bytes, strict=True)),
            opened=dict(zip(cards, member.opened_bytes, strict=True)),
        )


def _uuid(device: int | str, uuids: Mapping[int, str]) -> str:
    return uuids.get(device, f"number {device}") if isinstance(device, int) else device
