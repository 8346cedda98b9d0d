"""Reads the catalogue's files, once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from aliquot.catalog.models import Board, Capability, Compute, Memory, MigLayout, MigProfile, Model, Vendor
from aliquot.model.quantities import Bytes

CATALOG_DIRECTORY: Final = Path(__file__).parent / "data"
"""Where the files lie: one for each architecture or vendor, and one for the CUDA compute capabilities."""

_CAPABILITIES: Final = "nvidia-compute-capabilities.toml"
_KIB: Final = 1 << 10
_MIB: Final = 1 << 20


@cache
def catalog() -> Mapping[str, Model]:
    """All models by key, in the order of their keys. Raises `ValueError` where a file does not make sense."""
    capabilities = {key: _capability(entry) for key, entry in _read(_CAPABILITIES)["capability"].items()}
    files = sorted(path.name for path in CATALOG_DIRECTORY.glob("*.toml") if path.name != _CAPABILITIES)
    models = [_model(entry, capabilities) for name in files for entry in _read(name)["model"]]
    by_key = {model.key: model for model in sorted(models, key=lambda model: model.key)}
    names = [name for model in models for name in (model.key, *model.aliases)]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two models are called {', '.join(sorted(repeated))}")
    return MappingProxyType(by_key)


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((CATALOG_DIRECTORY / name).read_text("utf-8"))


def _model(entry: dict[str, Any], capabilities: dict[str, Capability]) -> Model:
    compute = entry["compute"]
    return Model(
        key=entry["key"],
        vendor=Vendor(entry["vendor"]),
        name=entry["name"],
        aliases=tuple(entry["aliases"]),
        compute=_compute(compute),
        memory=_memory(entry["memory"]),
        board=_board(entry["board"]),
        capability=capabilities[compute["compute_capability"]] if "compute_capability" in compute else None,
        mig=_mig(entry["mig"]) if "mig" in entry else None,
    )


def _capability(entry: dict[str, Any]) -> Capability:
    return Capability(
        architecture=entry["architecture"],
        threads_per_sm=entry["threads_per_sm"],
        blocks_per_sm=entry["blocks_per_sm"],
        registers_per_sm=entry["registers_per_sm"],
        shared_per_sm=Bytes(entry["shared_per_sm_kib"] * _KIB),
        shared_per_block_optin=Bytes(entry["shared_per_block_optin_kib"] * _KIB),
        fp32_fma=entry["fp32_fma"],
        fp16_tensor_fma=entry["fp16_tensor_fma"],
    )


def _compute(entry: dict[str, Any]) -> Compute:
    return Compute(
        fp16_tflops=float(entry["fp16_tflops"]),
        fp32_tflops=float(entry["fp32_tflops"]) if "fp32_tflops" in entry else None,
        sm_count=entry.get("sm_count"),
        boost_mhz=entry.get("boost_mhz"),
        compute_capability=entry.get("compute_capability"),
        source=entry["source"],
    )


def _memory(entry: dict[str, Any]) -> Memory:
    bandwidth = entry.get("bandwidth_gbps")
    return Memory(
        vram=Bytes(entry["vram_mib"] * _MIB),
        nominal_gb=entry["nominal_gb"],
        kind=entry["kind"],
        bandwidth=round(bandwidth * 1e9) if bandwidth is not None else None,
        bus_bits=entry.get("bus_bits"),
        clock_mhz=entry.get("clock_mhz"),
        l2=Bytes(entry["l2_kib"] * _KIB) if "l2_kib" in entry else None,
        ecc=entry["ecc"],
        source=entry["source"],
    )


def _board(entry: dict[str, Any]) -> Board:
    return Board(
        form=entry["form"],
        power_watts=entry.get("power_w"),
        pcie_generation=entry.get("pcie_generation"),
        pcie_width=entry.get("pcie_width"),
        source=entry["source"],
    )


def _mig(entry: dict[str, Any]) -> MigLayout:
    profiles = tuple(
        MigProfile(
            name=profile["name"],
            compute_slices=profile["compute_slices"],
            memory_slices=profile["memory_slices"],
            instances=profile["instances"],
            placements=tuple(profile["placements"]),
            sm_count=profile["sm_count"],
            memory_mib=profile["memory_mib"],
        )
        for profile in entry["profiles"]
    )
    return MigLayout(memory_slices=entry["memory_slices"], profiles=profiles, source=entry["source"])
