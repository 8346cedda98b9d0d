"""Contexts: primary and created ones, the stack of current ones, limits."""

from __future__ import annotations

import threading
from typing import Any

import pytest


def test_primary_context_is_one_and_counted(api: Any, context: Any) -> None:
    device = api.cuDeviceGet(0)
    assert int(api.cuDevicePrimaryCtxRetain(device)) == int(context)
    api.cuDevicePrimaryCtxRelease(device)
    assert api.cuDevicePrimaryCtxGetState(device)[1] == 1
    assert int(api.cuCtxGetCurrent()) == int(context)


def test_release_of_what_was_not_retained(api: Any) -> None:
    device = api.cuDeviceGet(0)
    assert api.cuDevicePrimaryCtxGetState(device)[1] == 0
    assert api.code("cuDevicePrimaryCtxRelease", device) == "INVALID_CONTEXT"


def test_reset_frees_all_and_the_handle_survives(api: Any, context: Any) -> None:
    free_before, _ = api.cuMemGetInfo()
    api.cuMemAlloc(64 << 20)
    device = api.cuDeviceGet(0)
    api.cuDevicePrimaryCtxReset(device)
    assert api.code("cuCtxSynchronize") == "CONTEXT_IS_DESTROYED"
    assert api.code("cuMemAlloc", 16) == "CONTEXT_IS_DESTROYED"
    again = api.cuDevicePrimaryCtxRetain(device)
    assert int(again) == int(context)
    assert api.cuMemGetInfo()[0] == free_before
    api.cuDevicePrimaryCtxRelease(device)


def test_created_context_is_pushed_and_popped(api: Any, context: Any) -> None:
    made = api.cuCtxCreate(None, 0, api.cuDeviceGet(0))
    assert int(api.cuCtxGetCurrent()) == int(made)
    assert int(api.cuCtxPopCurrent()) == int(made)
    assert int(api.cuCtxGetCurrent()) == int(context)
    api.cuCtxPushCurrent(made)
    assert api.cuCtxGetApiVersion(made) == 3020
    api.cuCtxDestroy(made)
    assert int(api.cuCtxGetCurrent()) == int(context)
    assert api.code("cuCtxDestroy", made) == "INVALID_CONTEXT"
    assert api.code("cuCtxSetCurrent", made) == "INVALID_CONTEXT"


def test_a_created_context_owns_what_is_made_in_it(api: Any, context: Any) -> None:
    free_before, _ = api.cuMemGetInfo()
    made = api.cuCtxCreate(None, 0, api.cuDeviceGet(0))
    address, stream, event = api.cuMemAlloc(32 << 20), api.cuStreamCreate(0), api.cuEventCreate(0)
    api.cuCtxDestroy(made)
    assert api.cuMemGetInfo()[0] == free_before
    assert api.code("cuMemFree", address) == "INVALID_VALUE"
    assert api.code("cuStreamSynchronize", stream) == "INVALID_HANDLE"
    assert api.code("cuEventQuery", event) == "INVALID_HANDLE"


def test_each_thread_has_its_own_current_context(api: Any, context: Any) -> None:
    seen: list[Any] = []

    def other() -> None:
        seen.append(int(api.cuCtxGetCurrent()))
        seen.append(api.code("cuMemAlloc", 16))
        api.cuCtxSetCurrent(context)
        seen.append(api.code("cuCtxSynchronize"))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [0, "INVALID_CONTEXT", "SUCCESS"]


def test_primary_context_cannot_be_destroyed(api: Any, context: Any) -> None:
    assert api.code("cuCtxDestroy", context) == "INVALID_CONTEXT"


@pytest.mark.parametrize("flags", [0x100, 0x3, 0x7])
def test_bad_flags(api: Any, flags: int) -> None:
    assert api.code("cuCtxCreate", None, flags, api.cuDeviceGet(0)) == "INVALID_VALUE"


def test_bad_device(api: Any) -> None:
    assert api.code("cuCtxCreate", None, 0, 99) == "INVALID_DEVICE"
    assert api.code("cuDevicePrimaryCtxRetain", -1) == "INVALID_DEVICE"


def test_limits(api: Any, context: Any) -> None:
    limits = api.CUlimit
    assert api.cuCtxGetLimit(limits.CU_LIMIT_STACK_SIZE) == 1024
    api.cuCtxSetLimit(limits.CU_LIMIT_PRINTF_FIFO_SIZE, 1 << 16)
    assert api.cuCtxGetLimit(limits.CU_LIMIT_PRINTF_FIFO_SIZE) >= 1 << 16
    assert api.code("cuCtxSetLimit", limits.CU_LIMIT_MAX_L2_FETCH_GRANULARITY, 4096) == "INVALID_VALUE"


def test_priority_range(api: Any, context: Any) -> None:
    least, greatest = api.cuCtxGetStreamPriorityRange()
    assert least == 0
    assert greatest < 0


def test_identity(api: Any, context: Any) -> None:
    made = api.cuCtxCreate(None, 0, api.cuDeviceGet(0))
    assert api.cuCtxGetId(made) != api.cuCtxGetId(context)
    assert int(api.cuCtxGetDevice()) == 0
    api.cuCtxDestroy(made)
