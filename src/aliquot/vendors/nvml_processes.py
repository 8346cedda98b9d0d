"""Who is on a device, by NVML: processes, what each holds, for how long the device worked for each.

Structures and constants are those of nvml.h (CUDA 13); lists of older drivers are read in their older form. A
driver answers with pids of the caller's pid namespace, and leaves out whom that namespace does not have.
"""

from __future__ import annotations

import ctypes
import time
from ctypes import byref, c_uint, c_ulonglong, c_void_p
from dataclasses import dataclass
from typing import Any, Final

from aliquot.vendors.nvml import Nvml, NvmlError

_SUCCESS: Final = 0
_NOT_SUPPORTED: Final = 3  # NVML_ERROR_NOT_SUPPORTED
_NOT_FOUND: Final = 6  # NVML_ERROR_NOT_FOUND
_INSUFFICIENT_SIZE: Final = 7  # NVML_ERROR_INSUFFICIENT_SIZE
_NOT_AVAILABLE: Final = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE, -1 in an unsigned word
_ROOM: Final = 16
"""For processes that come between the question how many there are and the next one."""
_TRIES: Final = 8
_MOST: Final = 1 << 16
_SAMPLED_US: Final = 1_000_000
"""How far back a process' utilisation may lie: drivers sample about each sixth of a second to each second."""


class _ProcessV1(ctypes.Structure):
    _fields_ = (("pid", c_uint), ("used", c_ulonglong))


class _Process(ctypes.Structure):
    """nvmlProcessInfo_v2_t, which is nvmlProcessInfo_t."""

    _fields_ = (
        ("pid", c_uint),
        ("used", c_ulonglong),
        ("gpu_instance", c_uint),
        ("compute_instance", c_uint),
    )


class _Sample(ctypes.Structure):
    """nvmlProcessUtilizationSample_t."""

    _fields_ = (
        ("pid", c_uint),
        ("at_us", c_ulonglong),
        ("sm", c_uint),
        ("memory", c_uint),
        ("encoder", c_uint),
        ("decoder", c_uint),
    )


class _MemoryV2(ctypes.Structure):
    """nvmlMemory_v2_t."""

    _fields_ = (
        ("version", c_uint),
        ("total", c_ulonglong),
        ("reserved", c_ulonglong),
        ("free", c_ulonglong),
        ("used", c_ulonglong),
    )


@dataclass(frozen=True, slots=True)
class OnDevice:
    """A process on a device. Memory in bytes, None where the driver does not say."""

    pid: int
    held: int | None
    compute: bool
    """It has a compute context; otherwise it only draws."""


def processes(nvml: Nvml, device: c_void_p) -> dict[int, OnDevice]:
    """Every process on a device, all of its instances included, by pid. Raises `NvmlError`."""
    found: dict[int, OnDevice] = {}
    for kind, compute in (("Compute", True), ("MPSCompute", True), ("Graphics", False)):
        for pid, held in _totals(_list(nvml, device, kind)).items():
            # Several lists may have the same process: each says all that it holds.
            before = found.get(pid)
            if before is None:
                found[pid] = OnDevice(pid, held, compute)
            elif held is not None:
                found[pid] = OnDevice(pid, max(held, before.held or 0), before.compute)
    return found


def utilisation(nvml: Nvml, device: c_void_p) -> dict[int, int] | None:
    """Percent of about the last second in which the device worked for each process, by pid.

    Who is not in it was idle. None where the driver does not tell (a divided card). Raises `NvmlError`.
    """
    since = c_ulonglong(int(time.time() * 1e6) - _SAMPLED_US)
    count = c_uint(0)
    for _ in range(_TRIES):
        room = min(count.value + _ROOM, _MOST)
        samples, count = (_Sample * room)(), c_uint(room)
        status = nvml.status("nvmlDeviceGetProcessUtilization", device, samples, byref(count), since)
        if status == _NOT_FOUND:
            return {}
        if status == _SUCCESS:
            return _latest(samples[: min(count.value, room)])
        if status != _INSUFFICIENT_SIZE:
            return None
    return None


def used_bytes(nvml: Nvml, device: c_void_p) -> int | None:
    """What everybody holds of a device together, without the driver's own reserve; None if not told."""
    memory = _MemoryV2(version=ctypes.sizeof(_MemoryV2) | 2 << 24)  # NVML_STRUCT_VERSION(Memory, 2)
    if not nvml.has("nvmlDeviceGetMemoryInfo_v2"):
        return None
    if nvml.status("nvmlDeviceGetMemoryInfo_v2", device, byref(memory)) != _SUCCESS:
        return None
    return memory.used


def _latest(samples: list[Any]) -> dict[int, int]:
    newest: dict[int, Any] = {}
    for each in samples:
        if each.pid not in newest or newest[each.pid].at_us <= each.at_us:
            newest[each.pid] = each
    return {pid: min(each.sm, 100) for pid, each in newest.items() if pid}


def _totals(entries: list[Any]) -> dict[int, int | None]:
    """By pid: a process has an entry for each instance that it uses."""
    found: dict[int, int | None] = {}
    for each in entries:
        if not each.pid:
            continue
        before = found.get(each.pid, 0)
        known = each.used != _NOT_AVAILABLE and before is not None
        found[each.pid] = (before or 0) + each.used if known else None
    return found


def _list(nvml: Nvml, device: c_void_p, kind: str) -> list[Any]:
    base = f"nvmlDeviceGet{kind}RunningProcesses"
    newer = next((name for name in (f"{base}_v3", f"{base}_v2") if nvml.has(name)), None)
    if newer is None and not nvml.has(base):
        return []
    name, form = (newer, _Process) if newer else (base, _ProcessV1)
    count = c_uint(0)
    for _ in range(_TRIES):
        room = min(count.value + _ROOM, _MOST)
        entries, count = (form * room)(), c_uint(room)
        status = nvml.status(name, device, byref(count), entries)
        if status == _SUCCESS:
            return list(entries[: min(count.value, room)])
        if status == _NOT_SUPPORTED and kind != "Compute":
            return []
        if status != _INSUFFICIENT_SIZE:
            raise NvmlError(f"{name} failed: {nvml.explain(status)}", status=status)
    raise NvmlError(f"{name} failed: the list of processes grew faster than it could be read")
