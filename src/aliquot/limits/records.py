"""The bytes of a slice's file `limits`: made, read and changed at the offsets that the layout states. No I/O.

What it reads may have been written by anybody: counts are bounded, numbers are cut to what they can mean.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from aliquot.errors import InvalidValueError
from aliquot.limits.errors import SliceDamagedError
from aliquot.limits.layout import Structure, load
from aliquot.limits.usage import DeviceLimit
from aliquot.limits.words import HALF, WORD, amount, check_head, new_file, text, word
from aliquot.model import Ppm, QosLevel

_UUID_PREFIX = "GPU-"
_MOST_INDEX = 2**16
_MOST_RANK = 2**16
_MOST_NS = 10**12


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
    qos: QosLevel,
    allow_unlisted: bool = False,
    fixed: bool = False,
) -> bytes:
    """The content of the file `limits`. Raises `InvalidValueError`."""
    layout = load()
    shape = layout.structures["Limits"]
    content = new_file("Limits", "limits_magic")
    HALF.pack_into(content, shape.offset("device_count"), len(limits))
    WORD.pack_into(content, shape.offset("generation"), 1)
    flags = layout.number("flag_allow_unlisted") if allow_unlisted else 0
    flags |= layout.number("flag_fixed") if fixed else 0
    WORD.pack_into(content, shape.offset("flags"), flags)
    _put_text(content, shape, "name", name)
    _put_text(content, shape, "driver_path", _path_text(driver))
    _put_text(content, shape, "nvml_path", _path_text(nvml))
    for index, limit in enumerate(limits):
        _put_device(content, shape.offset("devices", index), limit)
    for at, value in _qos_words(qos).items():
        WORD.pack_into(content, at, value)
    return bytes(content)


def read_limits(content: bytes) -> tuple[DeviceLimit, ...]:
    """What the slice may use of each device. Raises `SliceDamagedError`."""
    shape = check_head(content, "Limits", "limits_magic")
    (count,) = HALF.unpack_from(content, shape.offset("device_count"))
    if not 1 <= count <= load().number("max_devices"):
        raise SliceDamagedError(f"a slice of {count} devices cannot be")
    return tuple(_read_device(content, shape.offset("devices", index)) for index in range(count))


def read_qos(content: bytes) -> QosLevel:
    """The level of service that the slice carries. Raises `SliceDamagedError`."""
    at = check_head(content, "Limits", "limits_magic").offset("qos")
    shape = load().structures["QosLevel"]

    def number(field: str, most: int) -> int:
        return min(word(content, at + shape.offset(field)), most)

    try:
        return QosLevel(
            name=text(content, at + shape.offset("name"), shape.fields["name"].size),
            rank=number("rank", _MOST_RANK),
            preempts=bool(number("preempts", 1)),
            neighbour_in_flight_ns=number("neighbour_in_flight_ns", _MOST_NS),
            idle_window_ns=number("idle_window_ns", _MOST_NS),
        )
    except InvalidValueError as error:
        raise SliceDamagedError("the slice's level of service makes no sense") from error


def read_fixed(content: bytes) -> bool:
    """Whether nobody but root may change the slice. Raises `SliceDamagedError`."""
    flags = word(content, check_head(content, "Limits", "limits_magic").offset("flags"))
    return bool(flags & load().number("flag_fixed"))


def read_generation(content: bytes) -> int:
    """How often the limits were changed, plus one. Raises `SliceDamagedError`."""
    return word(content, check_head(content, "Limits", "limits_magic").offset("generation"))


def write_device(words: memoryview, index: int, changes: Mapping[str, int]) -> None:
    """Stores words of one device's limit. `words` is the file as 64-bit words, `changes` by field name."""
    layout = load()
    shape, device = layout.structures["Limits"], layout.structures["DeviceLimit"]
    at = shape.offset("devices", index)
    _write(words, {at + device.offset(field): value for field, value in changes.items()})


def write_qos(words: memoryview, qos: QosLevel) -> None:
    """Stores a level of service."""
    _write(words, _qos_words(qos))


def _write(words: memoryview, changes: Mapping[int, int]) -> None:
    """Each word with one store, and the generation behind them: who sees it grow sees all that is new."""
    for at, value in changes.items():
        words[at // WORD.size] = value
    generation = load().structures["Limits"].offset("generation") // WORD.size
    words[generation] = (words[generation] + 1) % 2**64


def _qos_words(qos: QosLevel) -> dict[int, int]:
    """The level as words by their offset in the file."""
    layout = load()
    shape, at = layout.structures["QosLevel"], layout.structures["Limits"].offset("qos")
    name = qos.name.encode("ascii").ljust(shape.fields["name"].size, b"\0")
    first = at + shape.offset("name")
    numbers = ("rank", "preempts", "neighbour_in_flight_ns", "idle_window_ns")
    return {
        **{first + part: word(name, part) for part in range(0, len(name), WORD.size)},
        **{at + shape.offset(field): int(getattr(qos, field)) for field in numbers},
    }


def _put_text(content: bytearray, shape: Structure, field: str, value: str) -> None:
    encoded = value.encode()
    if len(encoded) >= shape.fields[field].size or 0 in encoded:
        raise InvalidValueError(f"{value!r} is too long")
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
    for field in ("vram_bytes", "compute_request_ppm", "compute_limit_ppm"):
        WORD.pack_into(content, at + shape.offset(field), getattr(limit, field))
    if isinstance(limit.device, str):
        content[at + shape.offset("uuid") : at + shape.offset("uuid") + 16] = parse_uuid(limit.device).bytes
        HALF.pack_into(content, at + shape.offset("known_by"), layout.number("known_by_uuid"))
        return
    if not 0 <= limit.device < _MOST_INDEX:
        raise InvalidValueError(f"a card's number is not {limit.device}")
    HALF.pack_into(content, at + shape.offset("physical_index"), limit.device)


def _read_device(content: bytes, at: int) -> DeviceLimit:
    layout = load()
    shape, whole = layout.structures["DeviceLimit"], layout.number("whole_card_ppm")

    def part(field: str) -> Ppm:
        return Ppm(min(word(content, at + shape.offset(field)), whole))

    return DeviceLimit(
        vram_bytes=amount(content, at + shape.offset("vram_bytes")),
        device=_read_identity(content, at),
        compute_request_ppm=part("compute_request_ppm"),
        compute_limit_ppm=part("compute_limit_ppm"),
    )


def _read_identity(content: bytes, at: int) -> int | str:
    layout = load()
    shape = layout.structures["DeviceLimit"]
    (known_by,) = HALF.unpack_from(content, at + shape.offset("known_by"))
    if known_by == layout.number("known_by_uuid"):
        identity = content[at + shape.offset("uuid") : at + shape.offset("uuid") + 16]
        return f"{_UUID_PREFIX}{uuid.UUID(bytes=identity)}"
    return HALF.unpack_from(content, at + shape.offset("physical_index"))[0]
