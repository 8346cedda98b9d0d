"""Runs a program in a slice of every card of the simulated machine; `aliquot run` makes slices of one card.

    python conformance/slice_of_all.py VRAM USE_FILE -- PROGRAM [ARGUMENTS]...

VRAM is of each card. What the slice was used for is written to USE_FILE as `aliquot run --json` does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aliquot.errors import AliquotError
from aliquot.limits import DeviceLimit, Slice, SliceUsage
from aliquot.mechanisms import limiter
from aliquot.model import parse_bytes
from aliquot.node import arbiter, cards, simulation
from aliquot.node.programs import run_program
from aliquot.vendors import nvidia


def main(arguments: Sequence[str]) -> int:
    """Returns the program's status as a shell reports it."""
    vram, use, separator, *command = arguments
    if separator != "--":
        raise SystemExit(__doc__)
    driver, nvml = nvidia.simulated_driver()
    limits = [
        DeviceLimit(vram_bytes=parse_bytes(vram), device=card.uuid)
        for card in cards.available_cards(simulate=True).devices
    ]
    # Beside the machine's own files, and gone with them, should this process be killed.
    home = Path(os.environ["ALIQUOT_SIMGPU_HOME"]) / "slices"
    with Slice.create_on(limits, driver=driver, nvml=nvml, home=home) as slice_:
        watch = arbiter.Watch(slice_)
        watch.ensure()
        environment = limiter.environment(slice_, simulation.environment(os.environ, driver=driver))
        ended = run_program(command, environment, lambda: _look(watch))
        Path(use).write_text(json.dumps({"use": _use(slice_.usage())}), encoding="utf-8")
    return ended.shell_status


def _look(watch: arbiter.Watch) -> None:
    with suppress(AliquotError):
        watch.look()


def _use(usage: SliceUsage) -> dict[str, int]:
    return {
        "launches": usage.work.launches + usage.work.graph_launches,
        "waited_ns": sum(device.waited_ns for device in usage.devices),
        "refused_allocations": usage.work.refused_allocations,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
