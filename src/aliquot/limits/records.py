"""The bytes of a slice's two files: made, read and changed at the offsets that the layout states. No I/O.

What it reads may have been written by a hostile tenant: counts are bounded, numbers are cut to what they can
mean.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from pathlib import Path

from aliquot.errors import InvalidValueError
from aliquot.limits.errors import SliceDamagedError
from aliquot.limits.layout import Structure, load
from aliquot.limits.processes import Owner, is_dead, unpack_owner
from aliquot.limits.usage import DeviceLimit, DeviceUsage, ProcessUsage, SliceUsage, Work

_WORD = struct.Struct("<Q")
_HALF = struct.Struct("<I")
_UUID_PREFIX = "GPU-"
_MOST_INDEX = 2**16
_MOST_BYTES = 2**63 - 1
"""No honest count of bytes reaches it; a dishonest one is cut to it."""


def parse_uuid(text: str) -> uuid.UUID:
    """Reads `GPU-xxxxxxxx-...` (or the bare digits). Raises `InvalidValueError`."""
    try:
        return uuid.UUID(text.removeprefix(_UUID_PREFIX))
    except ValueError:
        raise InvalidValueError(
            f"{text!r} is not the UUID of a card", hint="it looks like GPU-8f2c..."
        ) from None


def new_limits(
    limits: Sequence[DeviceLimit],
    *,
    name: str,
    driver: Path | None,
    nvml: Path | None,
    allow_unlisted: bool = False,
) -> bytes:
    """The content of the file `limits`. Raises `InvalidValueError`."""
    layout = load()
    shape = layout.structures["Limits"]
    content = _new_file(shape, layout.text("limits_magic"))
    _HALF.pack_into(content, shape.offset("device_count"), len(limits))
    _WORD.pack_into(content, shape.offset("generation"), 1)
    flags = layout.number("flag_allow_unlisted") if allow_unlisted else 0
    _WORD.pack_into(content, shape.offset("flags"), flags)
    _put_text(content, shape, "name", name)
    _put_text(content, shape, "driver_path", _path_text(driver))
    _put_text(content, shape, "nvml_path", _path_text(nvml))
    for index, limit in enumerate(limits):
        _put_device(content, shape.offset("devices", index), limit)
    return bytes(content)


def new_account() -> bytes:
    """The content of the file `account` before any process came."""
    layout = load()
    return bytes(_new_file(layout.structures["Account"], layout.text("account_magic")))


def read_limits(content: bytes) -> tuple[DeviceLimit, ...]:
    """Reads the file `limits`. Raises `SliceDamagedError`."""
    layout = load()
    shape = layout.structures["Limits"]
    _check_head(content, shape, layout.text("limits_magic"))
    (count,) = _HALF.unpack_from(content, shape.offset("device_count"))
    if not 1 <= count <= layout.number("max_devices"):
        raise SliceDamagedError(f"a slice of {count} devices cannot be")
    return tuple(_read_device(content, shape.offset("devices", index)) for index in range(count))


def write_vram_limit(words: memoryview, index: int, vram_bytes: int) -> None:
    """Stores a limit and then the generation, each with one store. `words` is the file as 64-bit words."""
    layout = load()
    shape, device = layout.structures["Limits"], layout.structures["DeviceLimit"]
    words[(shape.offset("devices", index) + device.offset("vram_bytes")) // _WORD.size] = vram_bytes
    generation = shape.offset("generation") // _WORD.size
    words[generation] = (words[generation] + 1) % 2**64


def read_usage(content: bytes, limits: tuple[DeviceLimit, ...]) -> SliceUsage:
    """Reads the file `account`. Raises `SliceDamagedError`."""
    layout = load()
    shape = layout.structures["Account"]
    _check_head(content, shape, layout.text("account_magic"))
    slots = min(_word(content, shape.offset("slots_used")), layout.number("max_processes"))
    namespaces = [
        _word(content, shape.offset("pid_namespaces", i)) for i in range(layout.number("max_pid_namespaces"))
    ]
    offsets = [shape.offset("processes", slot) for slot in range(slots)]
    processes = [
        _read_process(content, offset, owner, len(limits))
        for offset in offsets
        if (owner := _living_owner(content, offset, namespaces)) is not None
    ]
    devices = tuple(
        DeviceUsage(
            limit=limit,
            vram_used_bytes=sum(process.vram_used_bytes[i] for process in processes),
            vram_peak_bytes=_amount(content, shape.offset("peak", i)),
        )
        for i, limit in enumerate(limits)
    )
    counters = layout.structures["Process"].offset("counters")
    work = _add([_read_work(content, offset + counters) for offset in offsets])
    return SliceUsage(devices=devices, processes=tuple(processes), work=work)


def _new_file(shape: Structure, magic: str) -> bytearray:
    content = bytearray(shape.size)
    content[shape.offset("magic") : shape.offset("magic") + len(magic)] = magic.encode()
    _HALF.pack_into(content, shape.offset("version"), load().version)
    _HALF.pack_into(content, shape.offset("size"), shape.size)
    return content


def _check_head(content: bytes, shape: Structure, magic: str) -> None:
    if len(content) != shape.size or not content.startswith(magic.encode()):
        raise SliceDamagedError("this is not the file of a slice")
    (version,), (size,) = (_HALF.unpack_from(content, shape.offset(field)) for field in ("version", "size"))
    if version != load().version or size != shape.size:
        raise SliceDamagedError(
            f"the slice was made by another version ({version}; this one reads {load().version})"
        )


def _put_text(content: bytearray, shape: Structure, field: str, text: str) -> None:
    encoded = text.encode()
    if len(encoded) >= shape.fields[field].size or 0 in encoded:
        raise InvalidValueError(f"{text!r} is too long")
    content[shape.offset(field) : shape.offset(field) + len(encoded)] = encoded


def _path_text(path: Path | None) -> str:
    if path is None:
        return ""
    if not path.is_file():
        raise InvalidValueError(f"there is no library at {path}")
    return str(path.absolute())


def _put_device(content: bytearray, at: int, limit: DeviceLimit) -> None:
    layout = load()
    shape = layout.structures["DeviceLimit"]
    _WORD.pack_into(content, at + shape.offset("vram_bytes"), limit.vram_bytes)
    if isinstance(limit.device, str):
        content[at + shape.offset("uuid") : at + shape.offset("uuid") + 16] = parse_uuid(limit.device).bytes
        _HALF.pack_into(content, at + shape.offset("known_by"), layout.number("known_by_uuid"))
        return
    if not 0 <= limit.device < _MOST_INDEX:
        raise InvalidValueError(f"a card's number is not {limit.device}")
    _HALF.pack_into(content, at + shape.offset("physical_index"), limit.device)


def _read_device(content: bytes, at: int) -> DeviceLimit:
    layout = load()
    shape = layout.structures["DeviceLimit"]
    vram_bytes = _amount(content, at + shape.offset("vram_bytes"))
    (known_by,) = _HALF.unpack_from(content, at + shape.offset("known_by"))
    if known_by == layout.number("known_by_uuid"):
        identity = uuid.UUID(bytes=content[at + shape.offset("uuid") : at + shape.offset("uuid") + 16])
        return DeviceLimit(vram_bytes=vram_bytes, device=f"{_UUID_PREFIX}{identity}")
    (index,) = _HALF.unpack_from(content, at + shape.offset("physical_index"))
    return DeviceLimit(vram_bytes=vram_bytes, device=index)


def _living_owner(content: bytes, at: int, namespaces: Sequence[int]) -> Owner | None:
    layout = load()
    word = _word(content, at + layout.structures["Process"].offset("owner"))
    if word == 0:
        return None
    owner = unpack_owner(word, layout)
    return None if owner.claiming or is_dead(owner, namespaces) else owner


def _read_process(content: bytes, at: int, owner: Owner, devices: int) -> ProcessUsage:
    layout = load()
    shape, account = layout.structures["Process"], layout.structures["DeviceAccount"]
    command_at = at + shape.offset("command")
    command = content[command_at : command_at + shape.fields["command"].size].split(b"\0")[0]
    places = [at + shape.offset("devices", index) for index in range(devices)]
    now = _read_work(content, at + shape.offset("counters"))
    before = _read_work(content, at + shape.offset("at_attach"))
    return ProcessUsage(
        pid=owner.pid,
        start_ticks=owner.start_ticks,
        command="".join(c if c.isprintable() else "?" for c in command.decode(errors="replace")),
        vram_used_bytes=tuple(_amount(content, place + account.offset("held")) for place in places),
        vram_peak_bytes=tuple(_amount(content, place + account.offset("peak")) for place in places),
        work=Work(**{name: max(0, value - getattr(before, name)) for name, value in _work_items(now)}),
    )


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
    return Work(**{name: _amount(content, at + shape.offset(field)) for name, field in _WORK_FIELDS.items()})


def _work_items(work: Work) -> list[tuple[str, int]]:
    return [(name, getattr(work, name)) for name in _WORK_FIELDS]


def _add(works: Sequence[Work]) -> Work:
    return Work(**{name: sum(getattr(work, name) for work in works) for name in _WORK_FIELDS})


def _word(content: bytes, at: int) -> int:
    return _WORD.unpack_from(content, at)[0]


def _amount(content: bytes, at: int) -> int:
    return min(_word(content, at), _MOST_BYTES)
