"""Tests of numba-cuda end inside a slice, in turns with a busy neighbour, as they do outside.

These are some of its sample. `make conformance ARGS=--compare` compares all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance import comparing, suites
from conformance.run import Selection, SuiteRun
from conformance.surroundings import Inside

TESTS = [
    "cudadrv/test_array_attr.py::TestArrayAttr::test_ravel_stride_c",
    "cudadrv/test_context_stack.py::TestContextStack::test_gpus_cudevice_indexing",
    "cudadrv/test_cuda_devicerecord.py::TestCudaDeviceRecord::test_device_record_copy",
    "cudadrv/test_cuda_memory.py::TestCudaMemory::test_host_alloc",
    "cudadrv/test_cuda_ndarray.py::TestCudaNDArray::test_devicearray_no_copy",
    "cudadrv/test_emm_plugins.py::TestDeviceOnlyEMMPlugin::test_reset",
    "cudadrv/test_streams.py::TestCudaStream::test_multiple_async_done",
    "cudapy/test_atomics.py::TestCudaAtomics::test_atomic_exch_global",
    "cudapy/test_cuda_array_interface.py::TestCudaArrayInterface::test_negative_strided_copy_to_host",
    "cudapy/test_multigpu.py::TestMultiGPUContext::test_multithreaded",
    "cudapy/test_record_dtype.py::TestRecordDtype::test_rec_set_a",
    "cudapy/test_stream_api.py::TestStreamAPI::test_stream_create_and_sync",
    "cudapy/test_sync.py::TestCudaSync::test_simple_smem",
    "cudapy/test_vectorize_device.py::TestCudaVectorizeDeviceCall::test_cuda_vectorize_device_call",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_numba_cuda_ends_inside_a_slice_as_outside(tmp_path: Path) -> None:
    found = suites.suite("numba-cuda")
    suite = replace(found, cards=found.slice_cards)
    inside = Inside(options=("--compute", "30%"), neighbour=True)
    chosen = Selection(tests=TESTS, together=len(TESTS))
    outside, limited = (
        SuiteRun(suite, tmp_path / name, how) for name, how in (("out", None), ("in", inside))
    )
    compared = comparing.pairs(
        *(run.run(chosen, jobs=1, progress=lambda *_: None) for run in (outside, limited))
    )
    assert [str(each) for each in compared if not each.alike] == []
    assert sum(bool(each.now and each.now.passed) for each in compared) == len(TESTS) - 1, "one is skipped"
    assert limited.use.launches > 0
    assert limited.use.waited_ns > 0, "the neighbour never had the card"
