"""The rules of the comparison: data, from TOML. `guard.toml` has the defaults and says what each means."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from aliquot.errors import InvalidValueError

_DEFAULTS: Final = Path(__file__).with_name("guard.toml")
_TOP: Final = frozenset(
    {
        "interval_ms",
        "grace_ms",
        "action",
        "kill_after_ms",
        "kinds",
        "slack",
        "exempt",
        "device",
        "homes",
        "only_uid",
    }
)
_KINDS: Final = frozenset({"stranger", "wrong-card", "unaccounted", "over-limit", "out-of-turn", "drawing"})
_SLACK: Final = frozenset({"memory_bytes", "compute_percent", "compute_window_ms"})
_MOST_MS: Final = 3_600_000
_MS: Final = 1_000_000


class Action(StrEnum):
    """What becomes of somebody who is found."""

    REPORT = "report"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Who may be on a card without a slice: all that is stated must hold."""

    program: str = ""
    """Absolute path of the file that it runs; empty for any."""
    uid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule:
    """What holds for one card instead of the general action."""

    uuid: str
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All of it. Times in nanoseconds."""

    interval_ns: int
    grace_ns: int
    kill_after_ns: int
    action: Action
    kinds: Mapping[str, Action]
    """By kind of finding; `drawing` is that of processes that only draw, whatever they are found for."""
    memory_slack_bytes: int
    compute_slack_percent: int
    compute_window_ns: int
    exempt: tuple[Exemption, ...] = ()
    devices: tuple[DeviceRule, ...] = ()
    homes: tuple[str, ...] = ()
    """The folders whose slices count; empty for every person's own."""
    only_uid: int | None = None
    """Judges the processes of this user alone; None judges everybody's."""

    def action_for(self, kind: str, card: str, *, compute: bool) -> Action:
        """What becomes of a finding: the kind's own action, else the card's, else the general one.

        A card's own action and that for processes that only draw can make it milder, never harder.
        """
        of_card = next((each.action for each in self.devices if each.uuid == card), None)
        stated = [self.kinds.get(kind, of_card or self.action), of_card or Action.STOP]
        if not compute:
            stated.append(self.kinds.get("drawing", Action.REPORT))
        return Action.REPORT if Action.REPORT in stated else Action.STOP

    def with_action(self, action: Action) -> Rules:
        """The same rules with another general action; cards that have one of their own keep it."""
        return replace(self, action=action)

    @property
    def programs(self) -> frozenset[str]:
        """The exempted programs' paths."""
        return frozenset(each.program for each in self.exempt if each.program)


@cache
def default_rules() -> Rules:
    """The rules that ship with the package."""
    return _rules(tomllib.loads(_DEFAULTS.read_text("utf-8")))


def parse_rules(text: str) -> Rules:
    """The default rules, with what `text` (TOML) says otherwise. Raises `InvalidValueError`."""
    try:
        own = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidValueError(f"the rules are not TOML: {error}") from error
    _check_names("a rule", own, _TOP)
    base = tomllib.loads(_DEFAULTS.read_text("utf-8"))
    merged: dict[str, Any] = {**base, **own}
    for table in ("kinds", "slack"):
        merged[table] = {**base[table], **_table(own, table)}
    for entries in ("exempt", "device"):
        merged[entries] = [*base.get(entries, []), *_list(own, entries)]
    return _rules(merged)


def _rules(document: Mapping[str, Any]) -> Rules:
    kinds, slack = _table(document, "kinds"), _table(document, "slack")
    _check_names("a kind", kinds, _KINDS)
    _check_names("a slack", slack, _SLACK)
    return Rules(
        interval_ns=_number(document, "interval_ms", 20, _MOST_MS) * _MS,
        grace_ns=_number(document, "grace_ms", 0, _MOST_MS) * _MS,
        kill_after_ns=_number(document, "kill_after_ms", 0, _MOST_MS) * _MS,
        action=_action(document.get("action"), "action"),
        kinds={name: _action(value, f"kinds.{name}") for name, value in kinds.items()},
        memory_slack_bytes=_number(slack, "memory_bytes", 0, 2**48),
        compute_slack_percent=_number(slack, "compute_percent", 1, 100),
        compute_window_ns=_number(slack, "compute_window_ms", 500, 60_000) * _MS,
        exempt=tuple(_exemption(entry) for entry in _list(document, "exempt")),
        devices=tuple(_device(entry) for entry in _list(document, "device")),
        only_uid=_number(document, "only_uid", 0, 2**32 - 2) if "only_uid" in document else None,
        homes=tuple(_path(entry, "homes") for entry in _values(document, "homes")),
    )


def _exemption(entry: Mapping[str, Any]) -> Exemption:
    _check_names("an exemption", entry, frozenset({"program", "uid"}))
    if not entry:
        raise InvalidValueError("an exemption of everybody is none", hint="state a program, a uid, or both")
    return Exemption(
        program=_path(entry["program"], "program") if "program" in entry else "",
        uid=_number(entry, "uid", 0, 2**32 - 2) if "uid" in entry else None,
    )


def _device(entry: Mapping[str, Any]) -> DeviceRule:
    _check_names("a device", entry, frozenset({"uuid", "action"}))
    uuid = entry.get("uuid")
    if not isinstance(uuid, str) or not uuid:
        raise InvalidValueError("a rule of a device names it", hint='uuid = "GPU-..."; see `aliquot devices`')
    return DeviceRule(uuid=uuid, action=_action(entry.get("action"), f"the action of {uuid}"))


def _check_names(what: str, found: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(set(found) - known):
        raise InvalidValueError(
            f"{unknown[0]!r} is not {what} of the guard", hint=f"there are: {', '.join(sorted(known))}"
        )


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value: object = document.get(name, {})
    if not isinstance(value, dict):
        raise InvalidValueError(f"{name} is a table of rules, not {value!r}")
    return cast(dict[str, Any], value)


def _values(document: Mapping[str, Any], name: str) -> list[Any]:
    value: object = document.get(name, [])
    if not isinstance(value, list):
        raise InvalidValueError(f"{name} is a list, not {value!r}")
    return cast(list[Any], value)


def _list(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    entries = _values(document, name)
    if wrong := [each for each in entries if not isinstance(each, dict)]:
        raise InvalidValueError(f"{name} is a list of tables ([[{name}]]), not of {wrong[0]!r}")
    return entries


def _number(document: Mapping[str, Any], name: str, least: int, most: int) -> int:
    value: object = document.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidValueError(f"{name} is a number from {least} to {most}, not {value!r}")
    return value


def _action(value: object, name: str) -> Action:
    if value not in tuple(Action):
        raise InvalidValueError(f"{name} is {' or '.join(Action)}, not {value!r}")
    return Action(cast(str, value))


def _path(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise InvalidValueError(f"{name} is an absolute path, not {value!r}")
    return value
