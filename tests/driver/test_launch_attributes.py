"""cuLaunchKernelEx: which attributes a launch takes, and what they do."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

REAL = os.environ.get("ALIQUOT_TEST_REAL_GPU") == "1"


@pytest.fixture
def launch_with(api: Any, context: Any, kernels: Any) -> Any:
    """Launches the kernel `increment` with attributes, given as (name, value setter); returns the code."""

    def run(out: Any, *attributes: tuple[str, Any], grid: int = 1, stream: Any = 0) -> str:
        config = api.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = grid, 1, 1
        config.blockDimX = config.blockDimY = config.blockDimZ = 1
        made = []
        for name, fill in attributes:
            attribute = api.CUlaunchAttribute()
            attribute.id = getattr(api.CUlaunchAttributeID, f"CU_LAUNCH_ATTRIBUTE_{name}")
            fill(attribute.value)
            made.append(attribute)
        config.hStream, config.attrs, config.numAttrs = stream, made, len(made)
        box = np.array(int(out), np.uint64)
        pointers = np.array([box.ctypes.data], np.uint64)
        return api.code("cuLaunchKernelEx", config, kernels("increment"), pointers.ctypes.data, 0)

    return run


def dimension(x: int) -> Any:
    def fill(value: Any) -> None:
        value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = x, 1, 1

    return fill


def number(field: str, value: int) -> Any:
    return lambda values: setattr(values, field, value)


@pytest.mark.parametrize(
    ("name", "fill"),
    [
        ("COOPERATIVE", number("cooperative", 1)),
        ("PRIORITY", number("priority", -3)),
        ("PROGRAMMATIC_STREAM_SERIALIZATION", number("programmaticStreamSerializationAllowed", 1)),
        ("PREFERRED_SHARED_MEMORY_CARVEOUT", number("sharedMemCarveout", 50)),
        ("CLUSTER_DIMENSION", dimension(1)),
    ],
)
def test_attributes_that_are_taken(
    api: Any, launch_with: Any, put: Any, get: Any, name: str, fill: Any
) -> None:
    out = put(np.zeros(1, np.uint32))
    assert launch_with(out, (name, fill)) == "SUCCESS"
    assert get(out, 1)[0] == 1


@pytest.mark.parametrize(
    ("name", "fill", "code"),
    [
        ("CLUSTER_DIMENSION", dimension(2), "NOT_SUPPORTED"),
        ("PREFERRED_SHARED_MEMORY_CARVEOUT", number("sharedMemCarveout", 101), "INVALID_VALUE"),
        ("PROGRAMMATIC_EVENT", lambda _: None, "INVALID_HANDLE"),
    ],
)
def test_attributes_that_are_not(
    api: Any, launch_with: Any, put: Any, get: Any, name: str, fill: Any, code: str
) -> None:
    out = put(np.zeros(1, np.uint32))
    assert launch_with(out, (name, fill)) == code
    assert get(out, 1)[0] == 0


@pytest.mark.parametrize("name", ["PROGRAMMATIC_EVENT", "LAUNCH_COMPLETION_EVENT"])
def test_events_that_a_launch_records(api: Any, launch_with: Any, put: Any, get: Any, name: str) -> None:
    out = put(np.zeros(1, np.uint32))
    untimed = api.cuEventCreate(api.CUevent_flags.CU_EVENT_DISABLE_TIMING.value)
    timed = api.cuEventCreate(0)
    field = "programmaticEvent" if name == "PROGRAMMATIC_EVENT" else "launchCompletionEvent"

    def fill(event: Any) -> Any:
        return lambda value: setattr(getattr(value, field), "event", event)

    assert launch_with(out, (name, fill(timed))) == "INVALID_VALUE"
    assert launch_with(out, (name, fill(untimed))) == "SUCCESS"
    api.cuEventSynchronize(untimed)
    assert get(out, 1)[0] == 1


def test_a_cooperative_launch_must_fit_the_card(api: Any, launch_with: Any, put: Any) -> None:
    out = put(np.zeros(1, np.uint32))
    cooperative = ("COOPERATIVE", number("cooperative", 1))
    assert launch_with(out, cooperative, grid=1 << 20) == "COOPERATIVE_LAUNCH_TOO_LARGE"


@pytest.fixture
def cluster_of(api: Any, context: Any, kernels: Any) -> Any:
    """What a configuration with these cluster dimensions answers, of `empty` or of no kernel."""

    def ask(call: str, *extent: int, threads: int = 128, kernel: Any = None) -> Any:
        config = api.CUlaunchConfig()
        config.gridDimX, config.gridDimY, config.gridDimZ = 4, 1, 1
        config.blockDimX, config.blockDimY, config.blockDimZ = threads, 1, 1
        if extent:
            attribute = api.CUlaunchAttribute()
            attribute.id = api.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
            size = attribute.value.clusterDim
            size.x, size.y, size.z = extent
            config.attrs, config.numAttrs = [attribute], 1
        function = kernels("empty") if kernel is None else kernel
        code = api.code(call, function, config)
        return getattr(api, call)(function, config) if code == "SUCCESS" else code

    return ask


def test_clusters_that_fit(api: Any, kernels: Any, cluster_of: Any) -> None:
    """As many as blocks, where a cluster is a block."""
    per_multiprocessor = api.cuOccupancyMaxActiveBlocksPerMultiprocessor(kernels("empty"), 128, 0)
    count = api.cuDeviceGetAttribute(api.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0)
    assert cluster_of("cuOccupancyMaxActiveClusters", 1, 1, 1) == per_multiprocessor * count
    assert cluster_of("cuOccupancyMaxActiveClusters") == "INVALID_VALUE"
    assert cluster_of("cuOccupancyMaxActiveClusters", 1, 1, 1, threads=0) == "INVALID_VALUE"


@pytest.mark.skipif(REAL, reason="of cards that launch no clusters")
def test_clusters_of_a_card_without(api: Any, cluster_of: Any) -> None:
    assert cluster_of("cuOccupancyMaxActiveClusters", 2, 1, 1) == "INVALID_CLUSTER_SIZE"
    assert cluster_of("cuOccupancyMaxActiveClusters", 1, 1, 1, kernel=api.CUfunction(0)) > 0
    assert cluster_of("cuOccupancyMaxPotentialClusterSize") == 1
    assert cluster_of("cuOccupancyMaxPotentialClusterSize", threads=2048) == "INVALID_VALUE"
