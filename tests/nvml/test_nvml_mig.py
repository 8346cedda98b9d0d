"""Dividing cards by NVML: modes, instances, devices, and the rules of their geometry."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.sanitized

Nvml = Callable[..., Any]
IN_USE, RESOURCES, INVALID, NOT_SUPPORTED, NO_PERMISSION = 19, 23, 2, 3, 4

PROFILES = {19: (1, 7), 15: (2, 4), 14: (2, 3), 9: (4, 2), 5: (4, 1), 0: (8, 1)}
"""Of an H100: memory slices, and how many fit (NVIDIA Multi-Instance GPU User Guide, "Supported MIG
Profiles")."""
STARTS = {19: range(7), 15: (0, 2, 4, 6), 14: (0, 2, 4), 9: (0, 4), 5: (0,), 0: (0,)}
MIG = (
    "h = n.nvmlDeviceGetHandleByIndex(0)\n"
    "def code(call, *arguments):\n"
    "    try: call(*arguments); return 0\n"
    "    except n.NVMLError as error: return error.value\n"
)


def test_mode_and_devices(nvml: Nvml) -> None:
    seen = nvml(
        MIG + "result = dict(before=n.nvmlDeviceGetMigMode(h), most=n.nvmlDeviceGetMaxMigDeviceCount(h))\n"
        "result['activation'] = n.nvmlDeviceSetMigMode(h, 1)\n"
        "result['after'] = n.nvmlDeviceGetMigMode(h); result['most_on'] = "
        "n.nvmlDeviceGetMaxMigDeviceCount(h)\n"
        "g = n.nvmlDeviceCreateGpuInstance(h, 9)\n"
        "for profile in (1, 0): n.nvmlGpuInstanceCreateComputeInstance(g, profile)\n"
        "devices = [n.nvmlDeviceGetMigDeviceHandleByIndex(h, i) for i in range(2)]\n"
        "result['third'] = code(n.nvmlDeviceGetMigDeviceHandleByIndex, h, 2)\n"
        "result['names'] = [n.nvmlDeviceGetName(m).split(' MIG ')[1] for m in devices]\n"
        "uuids = [n.nvmlDeviceGetUUID(m) for m in devices]\n"
        "result['uuids'] = [u[:4] for u in uuids] + [len(set(uuids))]\n"
        "result['back'] = [n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(u)) for u in uuids]\n"
        "result['is'] = [getattr(i, 'value', i) for i in map(n.nvmlDeviceIsMigDeviceHandle, [h, *devices])]\n"
        "result['parent'] = [n.nvmlDeviceGetIndex(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m))\n"
        "                    for m in devices]\n"
        "result['gpu_ids'] = [getattr(i, 'value', i) for i in map(n.nvmlDeviceGetGpuInstanceId, devices)]\n"
        "a = n.nvmlDeviceGetAttributes_v2(devices[0])\n"
        "result['slices'] = [a.gpuInstanceSliceCount, a.computeInstanceSliceCount, a.memorySizeMB]\n"
        "result['memory'] = [n.nvmlDeviceGetMemoryInfo(m).total >> 20 for m in devices]\n"
        "result['power'] = code(n.nvmlDeviceGetPowerUsage, devices[0])\n"
        "result['rates'] = code(n.nvmlDeviceGetUtilizationRates, h)\n"
        "result['busy'] = [n.nvmlDeviceSetMigMode(h, 0), code(n.nvmlGpuInstanceDestroy, g)]",
        ALIQUOT_SIMGPU_ADMIN="1",
    )
    assert (seen["before"], seen["after"]) == ([0, 0], [1, 1])
    assert (seen["most"], seen["activation"], seen["most_on"]) == (0, 0, 7)
    assert (seen["names"], seen["uuids"]) == (["2c.3g.40gb", "1c.3g.40gb"], ["MIG-", "MIG-", 2])
    assert seen["third"] == 6
    assert (seen["back"], seen["is"], seen["parent"]) == ([0, 1], [0, 1, 1], [0, 0])
    assert seen["gpu_ids"][0] == seen["gpu_ids"][1]
    assert seen["slices"] == [3, 2, 40448]
    assert seen["memory"] == [40448, 40448]
    assert (seen["power"], seen["rates"]) == (NOT_SUPPORTED, NOT_SUPPORTED)
    assert seen["busy"] == [IN_USE, IN_USE]


def test_who_is_not_root_may_only_look(nvml: Nvml) -> None:
    calls = nvml(
        MIG + "result = [code(n.nvmlDeviceSetMigMode, h, 1), code(n.nvmlDeviceGetMigMode, h),\n"
        "          code(n.nvmlDeviceSetPersistenceMode, h, 0), "
        "code(n.nvmlDeviceSetPowerManagementLimit, h, 400000),\n"
        "          code(n.nvmlDeviceSetGpuLockedClocks, h, 300, 900), "
        "code(n.nvmlDeviceSetComputeMode, h, 3)]",
        ALIQUOT_SIMGPU_ADMIN="0",
    )
    assert calls == [NO_PERMISSION, 0, *[NO_PERMISSION] * 4]


def expected(steps: list[tuple[str, int, int]]) -> list[int]:
    """By the guide's rules: an instance needs a start of its profile, free slices, and a place in "
    "its count."""
    live: list[tuple[int, int]] = []
    outcome = []
    for action, profile, start in steps:
        size, most = PROFILES[profile]
        if action == "destroy":
            outcome.append(0 if live else INVALID)
            live = live[1:]
            continue
        taken = {slice_ for made, at in live for slice_ in range(at, at + PROFILES[made][0])}
        if start not in STARTS[profile]:
            outcome.append(INVALID)
        elif taken & set(range(start, start + size)) or sum(made == profile for made, _ in live) == most:
            outcome.append(RESOURCES)
        else:
            live.append((profile, start))
            outcome.append(0)
    return outcome


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "create", "destroy"]),
            st.sampled_from(list(PROFILES)),
            st.integers(0, 7),
        ),
        min_size=10,
        max_size=40,
    )
)
def test_geometry(nvml: Nvml, steps: list[tuple[str, int, int]]) -> None:
    outcome = nvml(
        MIG
        + f"import json\nsteps = json.loads({json.dumps(json.dumps(steps))})\nsizes = {dict(PROFILES)!r}\n"
        "if n.nvmlDeviceGetMigMode(h)[0] == 0: n.nvmlDeviceSetMigMode(h, 1)\n"
        "live, result = [], []\n"
        "L = ctypes.CDLL('libnvidia-ml.so.1')\n"
        "for action, profile, start in steps:\n"
        "    if action == 'destroy':\n"
        "        result.append(L.nvmlGpuInstanceDestroy(live.pop(0) if live else None)); continue\n"
        "    place = n.c_nvmlGpuInstancePlacement_t(start, sizes[profile][0]); g = ctypes.c_void_p()\n"
        "    result.append(L.nvmlDeviceCreateGpuInstanceWithPlacement(h, profile, "
        "ctypes.byref(place), ctypes.byref(g)))\n"
        "    if result[-1] == 0: live.append(g)\n"
        "for g in live: assert L.nvmlGpuInstanceDestroy(g) == 0\n",
        ALIQUOT_SIMGPU_ADMIN="1",
    )
    assert outcome == expected(steps)
