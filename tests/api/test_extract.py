"""The extractor on a copy of the list: it finds what is missing or wrong, and keeps what people wrote."""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from listing import toml_io
from listing.model import ApiList

from .conftest import API

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def list_copy(tmp_path: Path, toolkits: list[Path]) -> Path:
    for name in ("cuda", "nvml"):
        shutil.copytree(API / name, tmp_path / name)
    assert toolkits
    return tmp_path


@pytest.fixture(autouse=True, scope="module")
def headers_read_once() -> Iterator[None]:
    """The headers stay the same from test to test, and reading them is what takes the time."""
    from listing import headers

    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_cuda", "read_nvml"):
            read = functools.cache(getattr(headers, name))
            patch.setattr(headers, name, lambda include, read=read: deepcopy(read(include)))
        yield


def rewrite(list_copy: Path, change: Callable[[ApiList], None]) -> None:
    api = toml_io.load(list_copy / "cuda")
    change(api)
    toml_io.save(api, list_copy / "cuda")


def extract(list_copy: Path, action: str) -> int:
    import extract as extractor

    return extractor.main([action, "--list", str(list_copy)])


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
    list_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change_all(api: ApiList) -> None:
        for change in CHANGES:
            change(api)

    rewrite(list_copy, change_all)
    assert extract(list_copy, "--check") == 1
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(CHANGES.values())
    assert extract(list_copy, "--write") == 0
    assert extract(list_copy, "--check") == 0


def test_writing_keeps_what_people_annotated(list_copy: Path) -> None:
    def annotate(api: ApiList) -> None:
        remove_function(api)
        abi = api.functions["cuInit"].abis[0]
        api.functions["cuInit"].abis[0] = replace(abi, note="a remark", stream_field=None)
        api.functions["cuInit"].family = "context"

    rewrite(list_copy, annotate)
    before = toml_io.load(list_copy / "cuda")
    assert extract(list_copy, "--write") == 0
    after = toml_io.load(list_copy / "cuda")
    assert after.functions.pop("cuMemAlloc").family == "memory"
    assert after == before


def test_writing_an_up_to_date_list_changes_no_byte(list_copy: Path) -> None:
    """Undeclared symbols are among what must survive."""
    assert extract(list_copy, "--write") == 0
    for path in API.glob("*/**/*.toml"):
        assert (list_copy / path.relative_to(API)).read_text() == path.read_text(), path
    assert "cudbgGetAPI" in toml_io.load(list_copy / "cuda").functions
