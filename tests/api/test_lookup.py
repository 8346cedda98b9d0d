"""What `cuGetProcAddress` answers: documented cases, and what must hold for any name, version and flags."""

# pyright: reportMissingImports=false
# (conftest.py puts native/api on the path)

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listing import toml_io
from listing.model import Abi

from .conftest import API, ROOT, Compile

pytestmark = pytest.mark.timeout(300)

# Values of CUdriverProcAddressQueryResult and CUdriverProcAddress_flags (cuda.h).
SUCCESS, NOT_FOUND, VERSION_NOT_SUFFICIENT = 0, 1, 2
LEGACY, PER_THREAD = 1, 2
# The list is read here once more because hypothesis draws names from it before any fixture runs.
FUNCTIONS = toml_io.load(API / "cuda").functions


@dataclass(frozen=True)
class Answer:
    status: int
    index: int
    symbol: str | None


Lookup = Callable[[str, int, int], Answer]


@pytest.fixture(scope="session")
def probe(compile_cpp: Compile, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    output = tmp_path_factory.mktemp("lookup") / "lookup.so"
    sources = [ROOT / "tests" / "api" / "lookup_probe.cpp", API / "lookup.cpp"]
    compile_cpp(output, *sources, f"-I{ROOT}", f"-I{generated}", "-shared")
    library = ctypes.CDLL(str(output))
    library.probe.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_uint64,
        ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(ctypes.c_char_p),
    ]
    library.probe_count.restype = ctypes.c_size_t
    library.probe_symbol.argtypes = [ctypes.c_size_t]
    library.probe_symbol.restype = ctypes.c_char_p
    return library


@pytest.fixture(scope="session")
def lookup(probe: ctypes.CDLL) -> Lookup:
    def ask(base: str, version: int, flags: int) -> Answer:
        name = base.encode("utf-8", "surrogatepass")
        index, symbol = ctypes.c_int(-1), ctypes.c_char_p()
        status = probe.probe(name, len(name), version, flags, ctypes.byref(index), ctypes.byref(symbol))
        return Answer(status, index.value, symbol.value.decode() if symbol.value else None)

    return ask


@pytest.mark.parametrize(
    ("base", "version", "flags", "status", "symbol"),
    [
        ("cuDeviceTotalMem", 3020, 0, SUCCESS, "cuDeviceTotalMem_v2"),
        ("cuDeviceTotalMem", 2000, 0, SUCCESS, "cuDeviceTotalMem"),
        ("cuDeviceTotalMem", 3010, 0, SUCCESS, "cuDeviceTotalMem"),
        ("cuDeviceTotalMem", 99990, 0, SUCCESS, "cuDeviceTotalMem_v2"),
        ("cuDeviceTotalMem", 1000, 0, VERSION_NOT_SUFFICIENT, None),
        ("cuInit", 2000, 0, SUCCESS, "cuInit"),
        ("cuLaunchKernel", 4000, 0, SUCCESS, "cuLaunchKernel"),
        ("cuLaunchKernel", 7000, 0, SUCCESS, "cuLaunchKernel"),
        ("cuLaunchKernel", 7000, LEGACY, SUCCESS, "cuLaunchKernel"),
        ("cuLaunchKernel", 7000, PER_THREAD, SUCCESS, "cuLaunchKernel_ptsz"),
        ("cuLaunchKernel", 4000, PER_THREAD, SUCCESS, "cuLaunchKernel"),
        ("cuMemcpyHtoD", 7000, PER_THREAD, SUCCESS, "cuMemcpyHtoD_v2_ptds"),
        ("cuMemcpyHtoD", 3020, PER_THREAD, SUCCESS, "cuMemcpyHtoD_v2"),
        ("cuMemAlloc", 3020, PER_THREAD, SUCCESS, "cuMemAlloc_v2"),
        ("cuCtxCreate", 3020, 0, SUCCESS, "cuCtxCreate_v2"),
        ("cuCtxCreate", 11040, 0, SUCCESS, "cuCtxCreate_v3"),
        ("cuCtxCreate", 12050, 0, SUCCESS, "cuCtxCreate_v4"),
        ("cuGetProcAddress", 11030, 0, SUCCESS, "cuGetProcAddress"),
        ("cuGetProcAddress", 12000, 0, SUCCESS, "cuGetProcAddress_v2"),
        ("cuStreamGetCaptureInfo", 10010, PER_THREAD, SUCCESS, "cuStreamGetCaptureInfo_ptsz"),
        ("cuStreamGetCaptureInfo", 12030, PER_THREAD, SUCCESS, "cuStreamGetCaptureInfo_v3_ptsz"),
        ("cuCtxGetDevice", 12090, 0, SUCCESS, "cuCtxGetDevice"),
        ("cuCtxGetDevice", 13000, 0, SUCCESS, "cuCtxGetDevice_v2"),
        ("cuLogsRegisterCallback", 12080, 0, VERSION_NOT_SUFFICIENT, None),
        ("", 0, 0, NOT_FOUND, None),
        ("", 13000, PER_THREAD, NOT_FOUND, None),
        ("cuNoSuchFunction", 13000, 0, NOT_FOUND, None),
        ("cuMemAlloc_v2", 13000, 0, NOT_FOUND, None),
        ("cuLaunchKernel_ptsz", 13000, PER_THREAD, NOT_FOUND, None),
        ("cuIni", 13000, 0, NOT_FOUND, None),
        ("cuInitX", 13000, 0, NOT_FOUND, None),
        ("cudbgGetAPI", 13000, 0, NOT_FOUND, None),
        ("cuInit", -1, 0, VERSION_NOT_SUFFICIENT, None),
    ],
)
def test_known_answers(
    lookup: Lookup, base: str, version: int, flags: int, status: int, symbol: str | None
) -> None:
    answer = lookup(base, version, flags)
    assert (answer.status, answer.symbol) == (status, symbol)


def expected_symbol(abis: list[Abi], version: int, flags: int) -> str | None:
    """The rule in other words than the library's: scan all, keep the last that fits."""
    chosen = None
    for abi in abis:
        if abi.since > version:
            continue
        thread = abi.thread_since is not None and abi.thread_since <= version
        chosen = abi.thread_symbol if flags & PER_THREAD and thread else abi.symbol
    return chosen


names = st.one_of(st.sampled_from(sorted(FUNCTIONS)), st.text(max_size=40), st.just(""))
versions = st.one_of(st.integers(1000, 14000), st.integers(-(2**31), 2**31 - 1))


@settings(max_examples=600, deadline=None)
@given(base=names, version=versions, flags=st.integers(0, 2**64 - 1))
def test_any_question_has_the_answer_of_the_list(
    lookup: Lookup, probe: ctypes.CDLL, base: str, version: int, flags: int
) -> None:
    answer = lookup(base, version, flags)
    abis = [abi for abi in FUNCTIONS[base].abis if abi.lookup] if base in FUNCTIONS else []
    if not abis:
        assert answer == Answer(NOT_FOUND, 0, None)
        return
    symbol = expected_symbol(abis, version, flags)
    assert answer.symbol == symbol
    assert answer.status == (SUCCESS if symbol else VERSION_NOT_SUFFICIENT)
    if symbol:
        assert probe.probe_symbol(answer.index).decode() == symbol


@settings(max_examples=200, deadline=None)
@given(base=st.sampled_from(sorted(FUNCTIONS)), version=versions, later=st.integers(0, 5000))
def test_a_newer_version_never_gets_an_older_interface(
    lookup: Lookup, base: str, version: int, later: int
) -> None:
    order = [abi.symbol for abi in FUNCTIONS[base].abis]
    before = lookup(base, version, 0)
    after = lookup(base, min(version + later, 2**31 - 1), 0)
    if before.symbol is not None:
        assert after.symbol is not None
        assert order.index(after.symbol) >= order.index(before.symbol)


def test_indices_cover_every_exported_symbol_once(probe: ctypes.CDLL) -> None:
    symbols = [probe.probe_symbol(i).decode() for i in range(probe.probe_count())]
    exported = [a.symbol for f in FUNCTIONS.values() for a in f.abis]
    exported += [a.thread_symbol for f in FUNCTIONS.values() for a in f.abis if a.thread_symbol]
    assert symbols == sorted(exported)
    assert probe.probe_symbol(len(symbols)) is None
