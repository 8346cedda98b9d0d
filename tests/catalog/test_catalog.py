"""The catalogue agrees with itself: figures that vendors state separately must fit each other."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aliquot.catalog import (
    CATALOG_DIRECTORY,
    Model,
    UnknownModelError,
    Vendor,
    by_key,
    by_product_name,
    catalog,
)

ROOT = Path(__file__).resolve().parents[2]
NVIDIA = [model for model in catalog().values() if model.vendor is Vendor.NVIDIA]
GIB = 1 << 30


def test_every_model_that_was_promised_is_there() -> None:
    promised = "h200 h100 a100-40 a100-80 l40s l4 a10 t4 v100-16 v100-32 rtx4090 rtx5090 b200"
    promised += " mi300x ascend910b mlu370-x8"
    assert set(promised.split()) <= set(catalog())
    assert {model.vendor for model in catalog().values()} == set(Vendor)


@pytest.mark.parametrize("model", NVIDIA, ids=lambda model: model.key)
def test_tflops_follow_from_multiprocessors_and_clock(model: Model) -> None:
    """Operations a second = SMs x clock x multiply-adds a cycle x 2; a sparse figure would be twice that.

    FP32 is stated at the boost clock. Big tensor workloads do not reach it on the largest cards, so vendors
    state the tensor figure at up to 10% less, never at more.
    """
    compute, capability = model.compute, model.capability
    assert capability
    assert None not in (compute.sm_count, compute.boost_mhz)
    cycles = (compute.sm_count or 0) * (compute.boost_mhz or 0) * 1e6
    assert compute.fp32_tflops == pytest.approx(cycles * capability.fp32_fma * 2 / 1e12, rel=0.02)
    tensor = cycles * capability.fp16_tensor_fma * 2 / 1e12
    assert 0.90 * tensor <= compute.fp16_tflops <= 1.01 * tensor


@pytest.mark.parametrize("model", NVIDIA, ids=lambda model: model.key)
def test_bandwidth_follows_from_bus_and_clock(model: Model) -> None:
    memory = model.memory
    # All kinds report a clock whose double is the rate of a pin.
    pin_rate = 2 * (memory.clock_mhz or 0) * 1e6
    assert memory.bandwidth == pytest.approx(pin_rate * (memory.bus_bits or 0) / 8, rel=0.03)


@pytest.mark.parametrize("model", catalog().values(), ids=lambda model: model.key)
def test_memory_is_about_what_the_name_says(model: Model) -> None:
    memory = model.memory
    assert (
        0.93 * memory.nominal_gb * 1e9 <= memory.vram <= 1.07 * memory.nominal_gb * 1e9 * (GIB / 1e9) / 1.07
    )
    assert memory.vram % (1 << 20) == 0


@pytest.mark.parametrize("model", [m for m in NVIDIA if m.mig], ids=lambda model: model.key)
def test_mig_profiles_fit_the_card(model: Model) -> None:
    mig = model.mig
    assert mig
    whole = max(profile.compute_slices for profile in mig.profiles)
    assert len({profile.name for profile in mig.profiles}) == len(mig.profiles)
    for profile in mig.profiles:
        match = re.fullmatch(r"(\d)g\.(\d+)gb(\+me)?", profile.name)
        assert match
        assert int(match[1]) == profile.compute_slices
        share = int(match[2]) / model.memory.nominal_gb
        assert share == pytest.approx(profile.memory_slices / mig.memory_slices, rel=0.04)
        assert profile.instances * profile.compute_slices <= whole
        assert profile.instances * profile.memory_slices <= mig.memory_slices
        assert len(profile.placements) >= profile.instances
        assert all(start + profile.memory_slices <= mig.memory_slices for start in profile.placements)
        if match[3] is None:
            assert _most_without_overlap(profile.placements, profile.memory_slices) >= profile.instances


def _stated_profiles() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Key, table of the model and table of the profile, as stated; native code reads them all."""
    files = sorted(CATALOG_DIRECTORY.glob("*.toml"))
    models = [model for file in files for model in tomllib.loads(file.read_text("utf-8")).get("model", [])]
    return [(m["key"], m, profile) for m in models for profile in m.get("mig", {}).get("profiles", ())]


@pytest.mark.parametrize(
    ("model", "profile"), [pytest.param(m, p, id=f"{key}-{p['name']}") for key, m, p in _stated_profiles()]
)
def test_mig_instances_fit_together(model: dict[str, Any], profile: dict[str, Any]) -> None:
    memory, slices = model["memory"]["vram_mib"], profile["memory_slices"] / model["mig"]["memory_slices"]
    assert profile["instances"] * profile["memory_mib"] <= memory
    assert 0.9 * slices * memory <= profile["memory_mib"] <= slices * memory
    assert profile["instances"] * profile["sm_count"] <= model["compute"]["sm_count"]
    assert profile["sm_count"] % 2 == 0  # two to a texture processing cluster


def _most_without_overlap(placements: tuple[int, ...], size: int) -> int:
    count, end = 0, 0
    for start in sorted(placements):
        if start >= end:
            count, end = count + 1, start + size
    return count


@pytest.mark.parametrize("model", catalog().values(), ids=lambda model: model.key)
def test_every_group_names_its_document(model: Model) -> None:
    sources = [model.compute.source, model.memory.source, model.board.source]
    sources += [model.mig.source] if model.mig else []
    for source in sources:
        assert len(source) > 20
        assert "://" not in source
        assert any(
            word in source
            for word in ("data sheet", "white paper", "product", "User Guide", "specifications")
        )


def test_lookup_by_key_alias_and_product_name() -> None:
    assert by_key("H100").name == "NVIDIA H100 80GB HBM3"
    assert by_key(" a100 ") is by_key("a100-80")
    assert by_product_name("NVIDIA  H100 80GB HBM3 (simulated)") is by_key("h100")
    assert by_product_name("tesla t4") is by_key("t4")
    for model in catalog().values():
        assert by_product_name(model.name) is model


def test_an_unknown_model_names_what_is_near() -> None:
    with pytest.raises(UnknownModelError) as caught:
        by_key("h10")
    assert caught.value.near[0] == "h100"
    assert "did you mean h100" in caught.value.hint
    assert caught.value.as_dict()["code"] == "unknown-model"
    with pytest.raises(UnknownModelError) as caught:
        by_product_name("NVIDIA A100-SXM4-80G")
    assert "a100-80" in caught.value.near
    with pytest.raises(UnknownModelError) as caught:
        by_key("zzz")
    assert caught.value.near == ()
    assert "Known: a10," in caught.value.hint


def _generator() -> ModuleType:
    path = ROOT / "native/simgpu/machine/generate_card_models.py"
    spec = importlib.util.spec_from_file_location("generate_card_models", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_table_says_what_the_catalogue_says() -> None:
    text = _generator().render(CATALOG_DIRECTORY)
    rows = re.findall(r"^    CardModel\{(.*)\},$", text, re.MULTILINE)
    fields = [dict(re.findall(r"\.(\w+) = (\"[^\"]*\"|[^,]+)", row)) for row in rows]
    assert [row["key"].strip('"') for row in fields] == [model.key for model in NVIDIA]
    for row, model in zip(fields, NVIDIA, strict=True):
        capability = model.capability
        assert capability
        assert row["name"] == f'"{model.name}"'
        assert row["vram_bytes"] == f"{model.memory.vram}ULL"
        assert f"{row['compute_major']}.{row['compute_minor']}" == model.compute.compute_capability
        assert int(row["sm_count"]) == model.compute.sm_count
        assert int(row["shared_per_block_optin_bytes"]) == capability.shared_per_block_optin
        assert int(row["threads_per_sm"]) == capability.threads_per_sm
        assert int(row["fp16_gflops"]) == round(model.compute.fp16_tflops * 1000)
        assert int(row["power_limit_mw"]) == 1000 * (model.board.power_watts or 0)
        assert row["mig_capable"] == ("true" if model.mig else "false")


@pytest.mark.parametrize("struct", ["MigProfile", "CardModel"])
def test_generator_declares_fields_in_the_order_of_the_struct(struct: str) -> None:
    """Designated initialisers must come in that order; a compiler says so too, but later."""
    header = (ROOT / "native/simgpu/machine/card_model.hpp").read_text()
    body = header[header.index(f"struct {struct} {{") :]
    body = re.sub(r"//.*", "", body[: body.index("};")])
    declared = re.findall(r"(\w+)(?:;|,(?= \w+[;,]))", body)
    lines = _generator().render(CATALOG_DIRECTORY).splitlines()
    row = next(
        each for each in lines if each.startswith("    {" if struct == "MigProfile" else "    CardModel{")
    )
    assert re.findall(r"\.(\w+) = ", row) == declared


def test_generator_as_the_build_runs_it(tmp_path: Path) -> None:
    script = ROOT / "native/simgpu/machine/generate_card_models.py"
    output = tmp_path / "deep" / "models.inc"
    command = [sys.executable, "-I", "-S", script, CATALOG_DIRECTORY, output]
    subprocess.run(command, check=True)
    assert output.read_text() == _generator().render(CATALOG_DIRECTORY)
    assert subprocess.run([sys.executable, script], capture_output=True, check=False).returncode == 2
