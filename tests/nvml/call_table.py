"""Every asking call of nvidia-ml-py and what each card answers, as JSON and as a table.

    python tests/nvml/call_table.py [--json FILE] [--compare FILE]

Runs on whatever NVML the loader finds, simulated or real. `--compare` reads the JSON of another run and lists
the calls whose kind of answer (value, or which error) differs.
"""

from __future__ import annotations

import argparse
import ctypes
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

ASKING = re.compile(r"nvml(Device(Get|Is|On|Query)|SystemGet|UnitGet|Get|GpmQuery)")
VALUES = {"index": 0, "link": 0, "sensor": 0, "type": 0, "counter": 0, "counterType": 0, "errorType": 0}
VALUES |= {"locationType": 0, "clockId": 0, "pstate": 0, "fan": 0, "profile": 0, "scope": 0, "level": 30}
VALUES |= {
    "nodeSetSize": 1,
    "cpuSetSize": 1,
    "cpuNumber": 0,
    "p2pIndex": 0,
    "pid": 1,
    "timeStamp": 0,
    "object": 1,
}
HANDLES = ("handle", "device", "device1", "device2", "handle1", "handle2")


def arguments(call: Callable[..., Any], device: Any) -> list[Any]:
    """By the names of the parameters; None for those that are not known."""
    wanted = [p for p in inspect.signature(call).parameters.values() if p.default is p.empty]
    return [device if p.name in HANDLES else VALUES.get(p.name) for p in wanted]


def answer(call: Callable[..., Any], device: Any) -> str:
    """The value as text, or the error's name."""
    try:
        given = call(*arguments(call, device))
    except pynvml.NVMLError as error:
        return type(error).__name__
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, ctypes.ArgumentError) as error:
        return f"client: {type(error).__name__}"
    fields = getattr(given, "_fields_", None)
    return str({name: getattr(given, name) for name, *_ in fields} if fields else given)[:120]


def table() -> dict[str, dict[str, str]]:
    """Answers by call and card."""
    cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    calls = {name: call for name, call in sorted(vars(pynvml).items()) if ASKING.match(name)}
    return {
        name: {str(i): answer(call, card) for i, card in enumerate(cards)}
        for name, call in calls.items()
        if inspect.isfunction(call)
    }


def kind(text: str) -> str:
    """What two cards can be compared by."""
    return text if text.startswith(("NVMLError", "client:")) else "value"


def main() -> None:
    """Runs as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--compare", type=Path)
    options = parser.parse_args()
    pynvml.nvmlInit()
    answers = table()
    if options.json:
        options.json.write_text(json.dumps(answers, indent=1), "utf-8")
    other = json.loads(options.compare.read_text("utf-8")) if options.compare else None
    print("| call | answer of card 0 |" + (" there |" if other else ""))
    print("|---|---|" + ("---|" if other else ""))
    for name, given in answers.items():
        there = other.get(name, {}).get("0", "-") if other else ""
        if other is None:
            print(f"| {name} | {given.get('0', '-')} |")
        elif kind(there) != kind(given.get("0", "-")):
            print(f"| {name} | {given.get('0', '-')} | {there} |")


if __name__ == "__main__":
    main()
