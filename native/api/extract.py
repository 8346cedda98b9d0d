"""Reads the vendor's headers and proposes what the list lacks: `extract.py --check` or `extract.py --write`.

A development tool (it needs libclang); the build never runs it. The headers are those of the toolkit wheels
that the running Python has, or of the folders given with --include.
"""

from __future__ import annotations

import argparse
import copy
import sys
import sysconfig
from pathlib import Path

from listing import headers, propose, toml_io
from listing.model import ApiList

HERE = Path(__file__).resolve().parent


def installed_toolkits() -> list[Path]:
    """Include folders of the toolkit wheels beside this Python that hold cuda.h, oldest toolkit first."""
    site = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    folders = [path.parent for path in site.glob("*/include/cuda.h")]
    return sorted(folders, key=headers.toolkit_version)


def propose_cuda(known: ApiList, includes: list[Path]) -> tuple[ApiList, list[str]]:
    """The driver API list extended by every toolkit in `includes` (oldest first), and what changed."""
    api = copy.deepcopy(known)
    toolkits = {headers.toolkit_version(i): propose.propose(headers.read_cuda(i)) for i in includes}
    older = ApiList()
    for toolkit in toolkits.values():
        propose.absorb(older, copy.deepcopy(toolkit))
    changes = propose.absorb(api, older)
    return api, changes + propose.mark_removed(api, toolkits)


def propose_nvml(known: ApiList, includes: list[Path]) -> tuple[ApiList, list[str]]:
    """The NVML list extended by every nvml.h in `includes` (oldest first), and what changed."""
    api, changes = copy.deepcopy(known), []
    for include in includes:
        if (include / "nvml.h").exists():
            changes += propose.absorb(api, propose.propose(headers.read_nvml(include)))
    return api, changes


def main(arguments: list[str] | None = None) -> int:
    """Compares or extends the list; 1 if --check found differences, 2 if there are no headers to read."""
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="print differences, and fail if there are any")
    action.add_argument("--write", action="store_true", help="add what is new, keep what people annotated")
    parser.add_argument(
        "--include", type=Path, action="append", help="folder with cuda.h (default: installed wheels)"
    )
    parser.add_argument("--list", type=Path, default=HERE, help="folder of the list (default: this one)")
    options = parser.parse_args(arguments)
    includes = sorted(options.include or installed_toolkits(), key=headers.toolkit_version)
    if not includes:
        print("extract.py: no toolkit headers found", file=sys.stderr)
        return 2
    changed = False
    for name, proposal in (("cuda", propose_cuda), ("nvml", propose_nvml)):
        folder = options.list / name
        api, changes = proposal(toml_io.load(folder), includes)
        changed = changed or bool(changes)
        for change in changes:
            print(f"{name}: {change}")
        if options.write:
            toml_io.save(api, folder)
    return 1 if changed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
