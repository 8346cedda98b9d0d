"""The list as TOML files: reading with the standard library, writing in one canonical form.

A folder holds one API: `<family>.toml` with functions, `types/*.toml` with everything else. Writing is
deterministic and keeps every annotation that the model knows; TOML comments are not kept, so remarks go into
`note`.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from .model import Abi, ApiList, Callback, Enum, Field, Function, Param, Record


class ListError(Exception):
    """A file of the list is not valid. The message names the file and the entry."""


def load(folder: Path) -> ApiList:
    """Reads the API in `folder`. Raises ListError where a file does not parse or lacks a key."""
    api = ApiList()
    for path in sorted(folder.glob("*.toml")) + sorted(folder.glob("types/*.toml")):
        try:
            _take(api, path.stem, tomllib.loads(path.read_text()))
        except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise ListError(f"{path}: {error!r}") from error
    return api


def _take(api: ApiList, family: str, data: dict[str, Any]) -> None:
    for entry in data.get("function", []):
        abis = [_abi(a) for a in entry["abi"]]
        if entry["name"] in api.functions:
            raise KeyError(f"{entry['name']} is listed twice")
        api.functions[entry["name"]] = Function(entry["name"], family, abis)
    api.handles.update(data.get("handle", {}))
    api.aliases.update(data.get("alias", {}))
    api.constants.update(data.get("constant", {}))
    for name, e in data.get("enum", {}).items():
        api.enums[name] = Enum(name, e["values"], e.get("tag"))
    for name, r in data.get("record", {}).items():
        fields = tuple(_field(f) for f in r["fields"])
        api.records[name] = Record(name, r["kind"], r["size"], r["align"], fields, r.get("tag"))
    for name, c in data.get("callback", {}).items():
        params = tuple(Param(**p) for p in c["params"])
        api.callbacks[name] = Callback(name, c["result"], params, c.get("pointer", True))


def _abi(entry: dict[str, Any]) -> Abi:
    known = {key: value for key, value in entry.items() if key != "params"}
    return replace(Abi(**known), params=tuple(Param(**p) for p in entry["params"]))


def _field(entry: dict[str, Any]) -> Field:
    return replace(Field(**{**entry, "array": ()}), array=tuple(str(n) for n in entry.get("array", ())))


# -- writing


def save(api: ApiList, folder: Path) -> None:
    """Writes every file of the API; families and types that are gone leave no file behind."""
    (folder / "types").mkdir(parents=True, exist_ok=True)
    texts = {folder / f"{family}.toml": _functions_text(api, family) for family in _families(api)}
    for name, text in _type_texts(api).items():
        texts[folder / "types" / f"{name}.toml"] = text
    for path in [*folder.glob("*.toml"), *folder.glob("types/*.toml")]:
        if path not in texts:
            path.unlink()
    for path, text in texts.items():
        path.write_text(text)


def _families(api: ApiList) -> list[str]:
    return sorted({function.family for function in api.functions.values()})


def _functions_text(api: ApiList, family: str) -> str:
    parts = []
    for function in api.functions.values():
        if function.family == family:
            parts.append(f'[[function]]\nname = "{function.name}"\n')
            parts.extend(_abi_text(abi) for abi in function.abis)
    return "\n".join(parts)


def _abi_text(abi: Abi) -> str:
    lines = ["[[function.abi]]", f"symbol = {_quoted(abi.symbol)}", f"since = {abi.since}"]
    for key in ("ptds", "ptsz", "until", "stream_field", "note"):
        if getattr(abi, key) is not None:
            lines.append(f"{key} = {_value(getattr(abi, key))}")
    if not abi.lookup:
        lines.append("lookup = false")
    if abi.result != "CUresult":
        lines.append(f"result = {_quoted(abi.result)}")
    lines.extend(_param_lines(abi.params))
    return "\n".join(lines) + "\n"


def _param_lines(params: tuple[Param, ...]) -> list[str]:
    if not params:
        return ["params = []"]
    return ["params = [", *(f"  {_param_text(p)}," for p in params), "]"]


def _param_text(param: Param) -> str:
    pairs = [("name", param.name), ("type", param.type), ("dir", param.dir), ("bytes", param.bytes)]
    pairs += [("count", param.count), ("text", param.text or None), ("note", param.note)]
    return _inline(pairs)


def _inline(pairs: list[tuple[str, Any]]) -> str:
    return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in pairs if value is not None) + " }"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _key(text: str) -> str:
    return text if text.replace("_", "").isalnum() else _quoted(text)


def _type_texts(api: ApiList) -> dict[str, str]:
    texts = {
        "handles": _table("handle", api.handles),
        "aliases": _table("alias", api.aliases),
        "constants": _table("constant", api.constants),
        "enums": "\n".join(_enum_text(e) for e in api.enums.values()),
        "records": "\n".join(_record_text(r) for r in api.records.values()),
        "callbacks": "\n".join(_callback_text(c) for c in api.callbacks.values()),
    }
    return {name: text for name, text in texts.items() if text}


def _table(name: str, values: dict[str, str]) -> str:
    if not values:
        return ""
    return "\n".join([f"[{name}]", *(f"{_key(k)} = {_quoted(v)}" for k, v in values.items())]) + "\n"


def _enum_text(enum: Enum) -> str:
    lines = [f"[enum.{enum.name}]"]
    if enum.tag:
        lines.append(f"tag = {_quoted(enum.tag)}")
    lines.append(f"[enum.{enum.name}.values]")
    lines += [f"{name} = {value}" for name, value in enum.values.items()]
    return "\n".join(lines) + "\n"


def _record_text(record: Record) -> str:
    lines = [f"[record.{_key(record.name)}]", f"kind = {_quoted(record.kind)}"]
    if record.tag:
        lines.append(f"tag = {_quoted(record.tag)}")
    lines += [f"size = {record.size}", f"align = {record.align}", "fields = ["]
    for f in record.fields:
        array = [int(n) if n.isdigit() else n for n in f.array] or None
        pairs = [
            ("name", f.name),
            ("type", f.type or None),
            ("inline", f.inline),
            ("array", array),
            ("bits", f.bits),
        ]
        lines.append(f"  {_inline(pairs)},")
    return "\n".join([*lines, "]"]) + "\n"


def _callback_text(callback: Callback) -> str:
    lines = [f"[callback.{callback.name}]", f"result = {_quoted(callback.result)}"]
    if not callback.pointer:
        lines.append("pointer = false")
    return "\n".join([*lines, *_param_lines(callback.params)]) + "\n"
