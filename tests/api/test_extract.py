"""The extractor on a copy of the list: it finds what is missing or wrong, and keeps what people wrote."""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from listing import toml_io
from listing.model import ApiList

from .conftest import API

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def copy(tmp_path: Path, toolkits: list[Path]) -> Path:
    for name in ("cuda", "nvml"):
        shutil.copytree(API / name, tmp_path / name)
    assert toolkits
    return tmp_path


def rewrite(copy: Path, change: Callable[[ApiList], None]) -> None:
    api = toml_io.load(copy / "cuda")
    change(api)
    toml_io.save(api, copy / "cuda")


def extract(copy: Path, action: str) -> int:
    import extract as extractor

    return extractor.main([action, "--list", str(copy)])


def remove_function(api: ApiList) -> None:
    del api.functions["cuMemAlloc"]


def remove_interface(api: ApiList) -> None:
    api.functions["cuCtxCreate"].abis.pop()


def change_type(api: ApiList) -> None:
    abi = api.functions["cuInit"].abis[0]
    api.functions["cuInit"].abis[0] = replace(abi, params=(replace(abi.params[0], type="int"),))


def change_version(api: ApiList) -> None:
    abi = api.functions["cuDriverGetVersion"].abis[0]
    api.functions["cuDriverGetVersion"].abis[0] = replace(abi, since=3000)


def change_value(api: ApiList) -> None:
    api.enums["CUresult"].values["CUDA_ERROR_OUT_OF_MEMORY"] = 3


def change_size(api: ApiList) -> None:
    api.records["CUuuid"] = replace(api.records["CUuuid"], size=17)


CHANGES = {
    remove_function: "cuda: function cuMemAlloc: new",
    remove_interface: "cuda: function cuCtxCreate_v4: new",
    change_type: "cuda: function cuInit: differs",
    change_version: "cuda: function cuDriverGetVersion: differs",
    change_value: "cuda: enums: CUresult",
    change_size: "cuda: records: CUuuid",
}


def test_every_difference_is_reported_and_then_written(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change_all(api: ApiList) -> None:
        for change in CHANGES:
            change(api)

    rewrite(copy, change_all)
    assert extract(copy, "--check") == 1
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(CHANGES.values())
    assert extract(copy, "--write") == 0
    assert extract(copy, "--check") == 0


def test_writing_keeps_what_people_annotated(copy: Path) -> None:
    def annotate(api: ApiList) -> None:
        remove_function(api)
        abi = api.functions["cuInit"].abis[0]
        api.functions["cuInit"].abis[0] = replace(abi, note="a remark", stream_field=None)
        api.functions["cuInit"].family = "context"

    rewrite(copy, annotate)
    before = toml_io.load(copy / "cuda")
    assert extract(copy, "--write") == 0
    after = toml_io.load(copy / "cuda")
    assert after.functions.pop("cuMemAlloc").family == "memory"
    assert after == before


def test_writing_an_up_to_date_list_changes_no_byte(copy: Path) -> None:
    """Undeclared symbols are among what must survive."""
    assert extract(copy, "--write") == 0
    for path in API.glob("*/**/*.toml"):
        assert (copy / path.relative_to(API)).read_text() == path.read_text(), path
    assert "cudbgGetAPI" in toml_io.load(copy / "cuda").functions
