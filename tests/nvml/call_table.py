"""Every question of nvidia-ml-py and what each card answers, as JSON and as a table.

    python tests/nvml/call_table.py [--json FILE] [--compare FILE] [--card N]

Runs on whatever NVML the loader finds, simulated or real. `--compare` reads the JSON of another run and lists
the calls whose kind of answer (value, or which error) differs, and those that tell a fact of the model and
tell another one.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pynvml
from asking import Answer, Card, ask, calls

FACTS = re.compile(
    r"nvmlDeviceGet(Architecture|Attributes.*|Brand|BusType|CudaComputeCapability|DefaultApplicationsClock"
    r"|DefaultEccMode|GpuInstanceProfileInfo.*|GpuMaxPcieLinkGeneration|MaxClockInfo|MaxPcieLinkWidth"
    r"|MemoryBusWidth|MinMaxClockOfPState|MinMaxFanSpeed|MultiGpuBoard|NumFans|NumGpuCores"
    r"|PowerManagementDefaultLimit|PowerManagementLimitConstraints|Supported.*|TemperatureThreshold)"
)
"""Calls whose values are the model's, not the single card's or the moment's."""

Table = dict[str, dict[str, dict[str, str]]]
"""By call and number of the card: `kind` and `text` of the answer."""


def table() -> Table:
    """Asks every card every question."""
    cards = [Card(index) for index in range(pynvml.nvmlDeviceGetCount())]
    return {
        name: {str(i): vars(ask(name, call, card)) for i, card in enumerate(cards)}
        for name, call in calls().items()
    }


def differing(here: Table, there: Table, card: str) -> dict[str, tuple[Answer, Answer]]:
    """The calls that the card here and the first card there answer in another way."""
    found: dict[str, tuple[Answer, Answer]] = {}
    for name in sorted(here.keys() | there.keys()):
        ours = Answer(**here.get(name, {}).get(card, {"kind": "no such call"}))
        theirs = Answer(**there.get(name, {}).get("0", {"kind": "no such call"}))
        if ours.kind != theirs.kind or (FACTS.fullmatch(name) and ours.text != theirs.text):
            found[name] = ours, theirs
    return found


def shown(answer: Answer) -> str:
    """For a cell of the table."""
    return (answer.text[:120] or "(nothing)") if answer.kind == "value" else answer.kind


def main() -> None:
    """Runs as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write all answers of all cards")
    parser.add_argument("--compare", type=Path, help="such a file; its first card is compared with")
    parser.add_argument("--card", default="0", help="the card here that is shown or compared")
    options = parser.parse_args()
    pynvml.nvmlInit()
    here = table()
    if options.json:
        options.json.write_text(json.dumps(here, indent=1) + "\n", "utf-8")
    if options.compare is None:
        print("| call | answer |\n|---|---|")
        for name, answers in here.items():
            print(f"| {name} | {shown(Answer(**answers[options.card]))} |")
        return
    print("| call | here | there |\n|---|---|---|")
    for name, both in differing(here, json.loads(options.compare.read_text("utf-8")), options.card).items():
        print(f"| {name} | {shown(both[0])} | {shown(both[1])} |")


if __name__ == "__main__":
    main()
