"""What a slice uses, from the bytes of its files `account` and `grant`. No I/O.

The account is written by tenants, who may be hostile: counts are bounded, numbers are cut to what they can
mean. The grant is written by the arbiter, and read as warily.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from aliquot.limits.layout import load
from aliquot.limits.processes import Owner, is_dead, unpack_owner
from aliquot.limits.shared import orphaned_bytes
from aliquot.limits.usage import Arbiter, DeviceLimit, DeviceUsage, ProcessUsage, SliceUsage, Work
from aliquot.limits.words import amount, check_head, new_file, text, word
from aliquot.model import Ppm

_ALIVE_NS = 500_000_000
"""An arbiter that gave no sign of life for so long is gone: the same figure as in the limiter."""


def new_account() -> bytes:
    """The content of the file `account` before any process came."""
    return bytes(new_file("Account", "account_magic"))


def new_grant() -> bytes:
    """The content of the file `grant` before any arbiter came."""
    return bytes(new_file("Grant", "grant_magic"))


def read_usage(account: bytes, grant: bytes, limits: tuple[DeviceLimit, ...], *, now_ns: int) -> SliceUsage:
    """What the two files say at the moment `now_ns` of CLOCK_MONOTONIC. Raises `SliceDamagedError`."""
    layout = load()
    shape = check_head(account, "Account", "account_magic")
    slots = min(word(account, shape.offset("slots_used")), layout.number("max_processes"))
    namespaces = [
        word(account, shape.offset("pid_namespaces", i)) for i in range(layout.number("max_pid_namespaces"))
    ]
    offsets = [shape.offset("processes", slot) for slot in range(slots)]
    owners = {
        offset: owner
        for offset in offsets
        if (owner := _living_owner(account, offset, namespaces)) is not None
    }
    processes = tuple(_read_process(account, at, owner, len(limits)) for at, owner in owners.items())
    living = {word(account, at + layout.structures["Process"].offset("owner")) for at in owners}
    arbiter = read_arbiter(grant, now_ns=now_ns)
    counters = layout.structures["Process"].offset("counters")
    return SliceUsage(
        devices=tuple(
            _read_usage_of(index, limit, account, grant, processes, offsets, living)
            for index, limit in enumerate(limits)
        ),
        processes=processes,
        work=_add([_read_work(account, offset + counters) for offset in offsets]),
        arbiter=arbiter,
    )


def _read_usage_of(
    index: int,
    limit: DeviceLimit,
    account: bytes,
    grant: bytes,
    processes: Sequence[ProcessUsage],
    slots: Sequence[int],
    living: Set[int],
) -> DeviceUsage:
    layout = load()
    lent, at = layout.structures["DeviceGrant"], layout.structures["Grant"].offset("devices", index)
    flags = word(grant, at + lent.offset("flags"))

    def from_grant(field: str) -> int:
        return amount(grant, at + lent.offset(field))

    return DeviceUsage(
        limit=limit,
        vram_used_bytes=sum(process.vram_used_bytes[index] for process in processes)
        + orphaned_bytes(account, index, living),
        vram_peak_bytes=amount(account, layout.structures["Account"].offset("peak", index)),
        held_ns=from_grant("held_ns"),
        waited_ns=from_grant("waited_ns"),
        turns=from_grant("turns"),
        share_ppm=Ppm(min(from_grant("share_ppm"), layout.number("whole_card_ppm"))),
        has_turn=bool(word(grant, at + lent.offset("turn")) & 1),
        contended=bool(flags & layout.number("grant_contended")),
        gpu_ns=sum(_work_word(account, slot, index, "gpu_ns") for slot in slots),
        held_back_ns=sum(_work_word(account, slot, index, "held_back_ns") for slot in slots),
    )


def read_arbiter(grant: bytes, *, now_ns: int) -> Arbiter:
    """Whether an arbiter serves the slice at the moment `now_ns` of CLOCK_MONOTONIC. Raises
    `SliceDamagedError`."""
    shape = check_head(grant, "Grant", "grant_magic")
    alive_ns = word(grant, shape.offset("alive_ns"))
    return Arbiter(
        epoch=amount(grant, shape.offset("epoch")),
        alive=alive_ns != 0 and abs(now_ns - alive_ns) <= _ALIVE_NS,
    )


def _living_owner(content: bytes, at: int, namespaces: Sequence[int]) -> Owner | None:
    layout = load()
    owner_word = word(content, at + layout.structures["Process"].offset("owner"))
    if owner_word == 0:
        return None
    owner = unpack_owner(owner_word, layout)
    return None if owner.claiming or is_dead(owner, namespaces) else owner


def _read_process(content: bytes, at: int, owner: Owner, devices: int) -> ProcessUsage:
    layout = load()
    shape, account = layout.structures["Process"], layout.structures["DeviceAccount"]
    places = [at + shape.offset("devices", index) for index in range(devices)]
    now = _read_work(content, at + shape.offset("counters"))
    before = _read_work(content, at + shape.offset("at_attach"))

    def of_devices(field: str) -> tuple[int, ...]:
        return tuple(_work_word(content, at, index, field) for index in range(devices))

    return ProcessUsage(
        pid=owner.pid,
        start_ticks=owner.start_ticks,
        command=text(content, at + shape.offset("command"), shape.fields["command"].size),
        vram_used_bytes=tuple(amount(content, place + account.offset("held")) for place in places),
        vram_peak_bytes=tuple(amount(content, place + account.offset("peak")) for place in places),
        gpu_ns=of_devices("gpu_ns"),
        held_back_ns=of_devices("held_back_ns"),
        in_flight_ns=tuple(
            max(0, admitted - finished)
            for admitted, finished in zip(of_devices("admitted_ns"), of_devices("finished_ns"), strict=True)
        ),
        work=Work(**{name: max(0, value - getattr(before, name)) for name, value in _work_items(now)}),
    )


def _work_word(content: bytes, slot: int, device: int, field: str) -> int:
    layout = load()
    at = slot + layout.structures["Process"].offset("work", device)
    return amount(content, at + layout.structures["DeviceWork"].offset(field))


_WORK_FIELDS = {
    "launches": "launches",
    "graph_launches": "graph_launches",
    "copies": "copies",
    "copied_to_device_bytes": "copied_to_device",
    "copied_to_host_bytes": "copied_to_host",
    "copied_on_device_bytes": "copied_on_device",
    "allocations": "allocations",
    "refused_allocations": "refused",
}


def _read_work(content: bytes, at: int) -> Work:
    shape = load().structures["Counters"]
    return Work(**{name: amount(content, at + shape.offset(field)) for name, field in _WORK_FIELDS.items()})


def _work_items(work: Work) -> list[tuple[str, int]]:
    return [(name, getattr(work, name)) for name in _WORK_FIELDS]


def _add(works: Sequence[Work]) -> Work:
    return Work(**{name: sum(getattr(work, name) for work in works) for name in _WORK_FIELDS})
