"""Writes the C++ table of card models from the catalogue's TOML files.

Usage: generate_card_models.py DATA_FOLDER OUTPUT

Run by CMake, so standard library only. It converts and orders; facts and their sources live in the catalogue.
"""

import pathlib
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

KIB = 1 << 10
MIB = 1 << 20
CAPABILITIES = "nvidia-compute-capabilities.toml"


def read_models(data: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The NVIDIA models of the catalogue, in the order of their keys."""
    files = [path for path in data.glob("*.toml") if path.name != CAPABILITIES]
    models = [model for path in files for model in tomllib.loads(path.read_text("utf-8"))["model"]]
    yield from sorted((m for m in models if m["vendor"] == "nvidia"), key=lambda m: m["key"])


def quoted(text: str) -> str:
    """A C++ string literal. Raises `ValueError` where one would need escapes."""
    if not text.isascii() or any(c in text for c in '"\\\n'):
        raise ValueError(f"not a plain string: {text!r}")
    return f'"{text}"'


def fields(model: dict[str, Any], capability: dict[str, Any], context: dict[str, Any]) -> dict[str, str]:
    """Designated initialisers of one CardModel, in the order in which the struct declares them."""
    compute, memory, board = model["compute"], model["memory"], model["board"]
    major, minor = compute["compute_capability"].split(".")
    return {
        "key": quoted(model["key"]),
        "name": quoted(model["name"]),
        "compute_major": major,
        "compute_minor": minor,
        "sm_count": str(compute["sm_count"]),
        "vram_bytes": f"{memory['vram_mib'] * MIB}ULL",
        "clock_khz": str(compute["boost_mhz"] * 1000),
        "memory_clock_khz": str(memory["clock_mhz"] * 1000),
        "memory_bus_bits": str(memory["bus_bits"]),
        "l2_bytes": str(memory["l2_kib"] * KIB),
        "shared_per_block_bytes": str(48 * KIB),
        "shared_per_block_optin_bytes": str(capability["shared_per_block_optin_kib"] * KIB),
        "shared_per_sm_bytes": str(capability["shared_per_sm_kib"] * KIB),
        "threads_per_sm": str(capability["threads_per_sm"]),
        "blocks_per_sm": str(capability["blocks_per_sm"]),
        "registers_per_sm": str(capability["registers_per_sm"]),
        "power_limit_mw": str(board["power_w"] * 1000),
        "pcie_generation": str(board["pcie_generation"]),
        "pcie_width": str(board["pcie_width"]),
        "architecture": quoted(capability["architecture"]),
        "idle_power_mw": str(board["idle_w"] * 1000),
        "fans": str(board["fans"]),
        "ecc": "true" if memory["ecc"] else "false",
        "mig_capable": "true" if "mig" in model else "false",
        "fp32_cores_per_sm": str(capability["fp32_fma"]),
        "fp16_gflops": str(round(compute["fp16_tflops"] * 1000)),
        "bandwidth_mb_per_s": str(round(memory["bandwidth_gbps"] * 1000)),
        "mig_memory_slices": str(model["mig"]["memory_slices"]) if "mig" in model else "0",
        "mig_profiles": mig_table(model) if "mig" in model else "{}",
        "form": quoted(board["form"]),
        "context_bytes_per_sm": str(context["kib_per_sm"] * KIB),
    }


def mig_table(model: dict[str, Any]) -> str:
    """The name of the array that holds a model's MIG profiles."""
    return "kMig_" + model["key"].replace("-", "_")


def mig_profile(profile: dict[str, Any]) -> dict[str, str]:
    """Designated initialisers of one MigProfile."""
    return {
        "name": quoted(profile["name"]),
        "id": str(profile["id"]),
        "compute_slices": str(profile["compute_slices"]),
        "memory_slices": str(profile["memory_slices"]),
        "instances": str(profile["instances"]),
        "sm_count": str(profile["sm_count"]),
        "memory_bytes": f"{profile['memory_mib'] * MIB}ULL",
        "copy_engines": str(profile["copy_engines"]),
        "decoders": str(profile["decoders"]),
        "jpegs": str(profile["jpegs"]),
        "ofas": str(profile["ofas"]),
        "placements": str(sum(1 << start for start in profile["placements"])),
    }


def designated(members: dict[str, str]) -> str:
    """`.a = 1, .b = 2`"""
    return ", ".join(f".{name} = {value}" for name, value in members.items())


def mig_tables(data: pathlib.Path) -> Iterator[str]:
    """An array of MIG profiles for each model that has them."""
    for model in read_models(data):
        if "mig" in model:
            yield f"constexpr MigProfile {mig_table(model)}[] = {{"
            yield from (f"    {{{designated(mig_profile(each))}}}," for each in model["mig"]["profiles"])
            yield "};"


def render(data: pathlib.Path) -> str:
    """The text of the generated include file."""
    shared = tomllib.loads((data / CAPABILITIES).read_text("utf-8"))
    capabilities = shared["capability"]
    rows, aliases = [], []
    for index, model in enumerate(read_models(data)):
        capability = capabilities[model["compute"]["compute_capability"]]
        rows.append(f"    CardModel{{{designated(fields(model, capability, shared['context']))}}},")
        aliases += [f"    Alias{{{quoted(alias)}, {index}}}," for alias in model["aliases"]]
    return "\n".join(
        [
            "// Generated by generate_card_models.py from src/aliquot/catalog/data. Do not edit.",
            *mig_tables(data),
            "constexpr CardModel kCardModels[] = {",
            *rows,
            "};",
            "constexpr Alias kAliases[] = {",
            *aliases,
            "};",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Runs as a program; returns its exit status."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    output = pathlib.Path(arguments[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render(pathlib.Path(arguments[0])), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
