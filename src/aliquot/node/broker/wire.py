"""What a person's process asks the broker, and its answers: one packet each of a SOCK_SEQPACKET socket.

A packet is a JSON object. Nothing that a stranger sent is believed: every member is checked for its type and
range, unknown ones are refused, and what is no request raises `InvalidValueError`. No I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Final

from aliquot.errors import AliquotError, InvalidValueError, UnavailableError
from aliquot.limits import SliceAccessError, SliceDamagedError, SliceExistsError, SliceNotFoundError
from aliquot.model import WHOLE_CARD

VERSION: Final = 1
MOST_REQUEST_BYTES: Final = 4096
MOST_ANSWER_BYTES: Final = 1 << 16
PASSED_ON: Final = ("ALIQUOT_SIMGPU", "ALIQUOT_SIMGPU_HOME")
"""Variables of the broker's that say which simulated machine it means."""

_MOST_UID: Final = 2**32 - 2
_MOST_VRAM: Final = 2**48 - 1
_MOST_DEVICES: Final = 16
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_WORD: Final = re.compile(r"[ -~]{1,96}", re.ASCII)


class BrokerError(UnavailableError):
    """The machine's broker does not answer, or not as it should."""

    code = "broker-failed"


class BrokerUntrustedError(BrokerError):
    """What is in the broker's place is not root's."""

    code = "broker-not-trusted"


class AllowanceExceededError(AliquotError):
    """More than a person may have of this machine, or than the card has left."""

    code = "allowance-exceeded"
    exit_status = 5


_ERRORS: Final[Mapping[str, type[AliquotError]]] = {
    kind.code: kind
    for kind in (
        AllowanceExceededError,
        InvalidValueError,
        SliceAccessError,
        SliceDamagedError,
        SliceExistsError,
        SliceNotFoundError,
        UnavailableError,
        BrokerError,
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Which cards are there, and how a program reaches them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A slice of one card. Without a name it is gone some time after the process that asks for it."""

    device: str
    vram_bytes: int
    compute: int = 0
    """Millionths of the card; 0 asks for none."""
    compute_limit: int = 0
    qos: str = ""
    name: str = ""
    number: int = 0
    """Tells several nameless slices of a process apart."""
    owner: int | None = None
    """Whose slice it becomes: a uid, by default the asker's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Other limits for a slice; what is None stays."""

    name: str
    owner: int | None = None
    index: int = 0
    vram_bytes: int | None = None
    compute: int | None = None
    compute_limit: int | None = None
    qos: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """A slice goes. Programs that still run on it keep its last limits."""

    name: str
    owner: int | None = None


Request = Cards | Create | Change | Remove
_KINDS: Final[Mapping[str, type[Cards | Create | Change | Remove]]] = {
    "cards": Cards,
    "create": Create,
    "change": Change,
    "remove": Remove,
}


def _number(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _text(pattern: re.Pattern[str], *, empty: bool = False) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, str) and (pattern.fullmatch(value) is not None or (empty and not value))
    )


_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "name": _text(_NAME, empty=True),
    "device": _text(_WORD),
    "qos": _text(_WORD, empty=True),
    "owner": _number(0, _MOST_UID),
    "number": _number(0, 2**31),
    "index": _number(0, _MOST_DEVICES - 1),
    "vram_bytes": _number(1, _MOST_VRAM),
    "compute": _number(0, WHOLE_CARD),
    "compute_limit": _number(0, WHOLE_CARD),
}


def write_request(request: Request) -> bytes:
    """The packet. Raises `InvalidValueError` for what would not be understood."""
    kind = next(name for name, each in _KINDS.items() if isinstance(request, each))
    members = {name: value for name, value in asdict(request).items() if value is not None}
    packet = json.dumps({"version": VERSION, "do": kind, **members}).encode()
    read_request(packet)
    return packet


def read_request(packet: bytes) -> Request:
    """What is asked. Raises `InvalidValueError` for everything that is not exactly a request."""
    members = _read_object(packet, MOST_REQUEST_BYTES)
    if (version := members.pop("version", None)) != VERSION or type(version) is not int:
        raise InvalidValueError(
            "the broker is of another version", hint="install the same version for all, and restart it"
        )
    kind = members.pop("do", None)
    shape = _KINDS.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise InvalidValueError("the broker is not asked for anything that it does")
    known = {field.name: field for field in fields(shape)}
    for name, value in members.items():
        if name not in known or not _CHECKS[name](value):
            raise InvalidValueError(f"the broker is asked with a {name[:32]!a} that makes no sense")
    missing = [name for name, field in known.items() if field.default is MISSING and not members.get(name)]
    if missing:
        raise InvalidValueError(f"the broker is asked without a {missing[0]}")
    return shape(**members)


def write_answer(content: Mapping[str, Any]) -> bytes:
    """The packet of an answer that went well."""
    return _bounded({"ok": dict(content)})


def write_error(error: AliquotError) -> bytes:
    """The packet of a refusal."""
    return _bounded({"error": error.as_dict()})


def read_answer(packet: bytes) -> dict[str, Any]:
    """What the broker says. Raises the error that it answered with, `BrokerError` for what is no answer."""
    try:
        members = _read_object(packet, MOST_ANSWER_BYTES)
    except InvalidValueError as error:
        raise BrokerError("the broker's answer is none") from error
    if isinstance(found := members.get("ok"), dict):
        return found
    refusal = members.get("error")
    if not isinstance(refusal, dict) or not all(isinstance(each, str) for each in refusal.values()):
        raise BrokerError("the broker's answer is none")
    kind = _ERRORS.get(refusal.get("code", ""), BrokerError)
    raise kind(refusal.get("reason", "the broker refused"), hint=refusal.get("hint", ""))


def _bounded(members: Mapping[str, Any]) -> bytes:
    packet = json.dumps(members).encode()
    if len(packet) <= MOST_ANSWER_BYTES:
        return packet
    return write_error(BrokerError("the broker's answer is too long"))


def _read_object(packet: bytes, most: int) -> dict[str, Any]:
    if not 0 < len(packet) <= most:
        raise InvalidValueError(f"a packet has 1 to {most} bytes")
    try:
        members = json.loads(packet.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise InvalidValueError("a packet is a JSON object in ASCII") from error
    if not isinstance(members, dict):
        raise InvalidValueError("a packet is a JSON object in ASCII")
    return members
