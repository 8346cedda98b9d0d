"""A slice as it stands to who compares it with the cards' own figures, from the bytes of its files.

No I/O. Who is a member is what the account says: tenants write it, so it may be a lie, and nothing here asks
whether a process lives. The terms are the owner's and the arbiter's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aliquot.limits.errors import SliceDamagedError
from aliquot.limits.layout import load
from aliquot.limits.processes import unpack_owner
from aliquot.limits.usage import Arbiter, DeviceLimit
from aliquot.limits.words import amount, check_head, text, word


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process that the account names. Sizes in bytes, for each device of the slice."""

    pid: int
    """In its own pid namespace."""
    pid_namespace: int
    """Inode of that; 0 where the process could not say."""
    start_ticks: int
    """When it started; 0 where the process could not read it."""
    command: str
    held_bytes: tuple[int, ...]
    opened_bytes: tuple[int, ...]
    """Of memory that others made and that it has open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A slice at one moment: its terms, and who says to be on it."""

    account: tuple[int, int]
    """Device and inode of the file `account`: the same slice has the same, and who has it mapped shows it."""
    tenant_uid: int
    limits: tuple[DeviceLimit, ...]
    generation: int
    """How often the limits were changed, plus one."""
    preempts: bool
    """Its level of service lets it begin work without a turn."""
    held_ns: tuple[int, ...]
    """For so long each device was at its disposal: the arbiter's count."""
    arbiter: Arbiter
    members: tuple[Member, ...]


HEAD_BYTES: Final = load().structures["Account"].offset("processes")
"""The first part of an account, which says how much of the rest was ever used."""


def used_bytes(head: bytes) -> int:
    """How much of an account was ever used, from its beginning, by its head: what is behind that is zero."""
    layout = load()
    shape = layout.structures["Account"]
    if word(head, shape.offset("shared_used")) != 0:
        return shape.size
    slots = min(word(head, shape.offset("slots_used")), layout.number("max_processes"))
    return shape.offset("processes") + slots * layout.structures["Process"].size


def read_members(account: bytes, devices: int) -> tuple[Member, ...]:
    """Who an account names: at most as many as it has places; none in one that is not what it should be."""
    layout = load()
    try:
        shape = check_head(account, "Account", "account_magic")
    except SliceDamagedError:
        return ()
    slots = min(word(account, shape.offset("slots_used")), layout.number("max_processes"))
    opened = _opened(account, devices)
    found = (_read_member(account, shape.offset("processes", slot), devices, opened) for slot in range(slots))
    return tuple(each for each in found if each is not None)


def read_held_ns(grant: bytes, devices: int) -> tuple[int, ...]:
    """For how long each device was lent. Raises `SliceDamagedError`."""
    shape, lent = check_head(grant, "Grant", "grant_magic"), load().structures["DeviceGrant"]
    return tuple(
        amount(grant, shape.offset("devices", index) + lent.offset("held_ns")) for index in range(devices)
    )


def _read_member(content: bytes, at: int, devices: int, opened: dict[int, tuple[int, ...]]) -> Member | None:
    layout = load()
    shape, device = layout.structures["Process"], layout.structures["DeviceAccount"]
    owner_word = word(content, at + shape.offset("owner"))
    owner = unpack_owner(owner_word, layout)
    if owner_word == 0 or owner.claiming:
        return None
    held = device.offset("held")
    return Member(
        pid=owner.pid,
        pid_namespace=_namespace(content, owner.pid_namespace),
        start_ticks=owner.start_ticks,
        command=text(content, at + shape.offset("command"), shape.fields["command"].size),
        held_bytes=tuple(
            amount(content, at + shape.offset("devices", index) + held) for index in range(devices)
        ),
        opened_bytes=opened.get(owner_word, (0,) * devices),
    )


def _namespace(content: bytes, number: int) -> int:
    """The inode behind an owner's number of a namespace; 0 where there is none."""
    layout = load()
    if not 1 <= number <= layout.number("max_pid_namespaces"):
        return 0
    return word(content, layout.structures["Account"].offset("pid_namespaces", number - 1))


def _opened(content: bytes, devices: int) -> dict[int, tuple[int, ...]]:
    """What each holder has open that others made, by owner word."""
    found: dict[int, list[int]] = {}
    for holder, device, size in _entries(content):
        if device < devices:
            found.setdefault(holder, [0] * devices)[device] += size
    return {holder: tuple(sizes) for holder, sizes in found.items()}


def _entries(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Holder, device and size of each entry whose maker is somebody else."""
    layout = load()
    shape, entry = layout.structures["Account"], layout.structures["SharedMemory"]
    used = min(word(content, shape.offset("shared_used")), layout.number("max_shared"))
    for at in (shape.offset("shared", index) for index in range(used)):
        holder, maker, device = (
            word(content, at + entry.offset(field)) for field in ("holder", "maker", "device")
        )
        if holder not in (0, maker):
            yield holder, device, amount(content, at + entry.offset("bytes"))
