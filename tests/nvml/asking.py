"""How to ask every question that nvidia-ml-py knows: the arguments of each call, and what came of it.

The calls are those that the module itself lists; what a parameter wants is told by its name, and by the call
where one name means several things. Nothing here changes a setting. Knows nothing of the simulated card.
"""

from __future__ import annotations

import ctypes
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml as n

ASKING = re.compile(
    r"nvml(Device(Get|Is|On|Query|WorkloadPowerProfileGet)|SystemGet|UnitGet|Get|GpuInstanceGet"
    r"|ComputeInstanceGet|GpmQuery|VgpuTypeGet|VgpuInstanceGet)"
)

PLAIN = {
    "apiType": 0,
    "capability": 0,
    "c_nonce": [0] * 32,
    "clockId": 0,
    "clockType": 0,
    "computeInstanceId": 0,
    "counter": 0,
    "counterType": 0,
    "cpuNumber": 0,
    "cpuSetSize": 1,
    "encoderQueryType": 0,
    "engProfile": 0,
    "errorType": 0,
    "fan": 0,
    "fieldIds": [
        n.NVML_FI_DEV_ECC_CURRENT,
        n.NVML_FI_DEV_POWER_INSTANT,
        (n.NVML_FI_DEV_NVLINK_SPEED_MBPS_L0, 0),
    ],
    "id": 0,
    "index": 0,
    "infoRomObject": 1,
    "level": n.NVML_TOPOLOGY_SYSTEM,
    "link": 0,
    "locationType": 0,
    "mode": 0,
    "nodeSetSize": 1,
    "p2pIndex": 0,
    "perfPolicyType": 0,
    "pid": 1,
    "profile": 0,
    "profileId": 0,
    "pstate": 0,
    "sampling_type": 0,
    "scope": 0,
    "sensor": 0,
    "sensorindex": 0,
    "sourceFilter": 0,
    "threshold": 0,
    "timeStamp": 0,
    "type": 0,
    "version": n.nvmlProcessDetailList_v1,
    "vgpuInstance": 0,
    "vgpuTypeId": 0,
    "nvmlDeviceGetHandleByUUIDV.type": n.NVML_UUID_TYPE_ASCII,
}
"""Numbers and lists, by the name of the parameter, or of call and parameter."""

FILLED = {
    "nvmlDeviceGetAdaptiveTgpModeInfo_v1": n.c_nvmlAdaptiveTgpModeInfo_v1_t,
    "nvmlDeviceGetBankRemapperStatus_v1": n.c_nvmlEccBankRemapperStatus_v1_t,
    "nvmlDeviceGetCapabilities": n.c_nvmlDeviceCapabilities_v1_t,
    "nvmlDeviceGetClockOffsets": n.c_nvmlClockOffset_t,
    "nvmlDeviceGetGpuFabricInfo": n.c_nvmlGpuFabricInfo_t,
    "nvmlDeviceGetGpuFabricInfoV": n.c_nvmlGpuFabricInfo_v3_t,
    "nvmlDeviceGetGpuFabricInfo_v4": n.c_nvmlGpuFabricInfo_v4_t,
    "nvmlDeviceGetNvLinkInfo": n.c_nvmlNvLinkInfo_v2_t,
    "nvmlDeviceGetNvlinkBwMode": n.c_nvmlNvlinkGetBwMode_v1_t,
    "nvmlDeviceGetNvlinkSupportedBwModes": n.c_nvmlNvlinkSupportedBwModes_v1_t,
    "nvmlDeviceGetPciInfoExt": n.nvmlPciInfoExt_v1_t,
    "nvmlDeviceGetPlatformInfo": n.c_nvmlPlatformInfo_v2_t,
    "nvmlDeviceGetPowerMizerMode_v1": n.c_nvmlDevicePowerMizerModes_v1_t,
    "nvmlDeviceGetRemappedRows_v2": n.c_nvmlRemappedRowsInfo_v2_t,
    "nvmlDeviceGetSramEccErrorStatus": n.c_nvmlEccSramErrorStatus_v1_t,
    "nvmlDeviceGetSramUniqueUncorrectedEccErrorCounts": n.c_nvmlEccSramUniqueUncorrectedErrorCounts_v1_t,
    "nvmlDeviceWorkloadPowerProfileGetCurrentProfiles": n.c_nvmlWorkloadPowerProfileCurrentProfiles_v1_t,
    "nvmlDeviceWorkloadPowerProfileGetProfilesInfo": n.c_nvmlWorkloadPowerProfileProfilesInfo_v1_t,
    "nvmlSystemGetConfComputeSettings": n.c_nvmlSystemConfComputeSettings_v1_t,
}
"""Calls that hand a record of the caller's to NVML as it is, so that it must be a reference."""

TAKEN = {
    ("nvmlDeviceGetMemoryLimits_v1", "limits"): n.c_nvmlGetMemoryLimits_v1_t,
    ("nvmlDeviceGetNvLinkTelemetrySamples_v1", "samples"): n.c_nvmlNvlinkTelemetrySamples_v1_t,
    ("nvmlDeviceGetVgpuSchedulerLog_v2", "c_vgpu_sched_log_info_v2"): n.c_nvmlVgpuSchedulerLogInfo_v2_t,
    ("nvmlDeviceGetVgpuSchedulerState_v2", "c_vgpu_sched_state_info_v2"): n.c_nvmlVgpuSchedulerStateInfo_v2_t,
    ("nvmlGetVgpuCompatibility", "vgpuMetadata"): n.c_nvmlVgpuMetadata_t,
    ("nvmlGetVgpuCompatibility", "pgpuMetadata"): n.c_nvmlVgpuPgpuMetadata_t,
    ("nvmlGpuInstanceGetActiveVgpus", "c_vgpu_instance_info"): n.c_nvmlActiveVgpuInstanceInfo_v1_t,
    ("nvmlGpuInstanceGetCreatableVgpus", "c_vgpus"): n.c_nvmlVgpuTypeIdInfo_v1_t,
    ("nvmlGpuInstanceGetVgpuSchedulerLog", "c_vgpu_sched_log_info"): n.c_nvmlVgpuSchedulerLogInfo_v1_t,
    ("nvmlGpuInstanceGetVgpuSchedulerLog_v2", "c_vgpu_sched_log_info_v2"): n.c_nvmlVgpuSchedulerLogInfo_v2_t,
    ("nvmlGpuInstanceGetVgpuSchedulerState", "c_vgpu_sched_state_info"): n.c_nvmlVgpuSchedulerStateInfo_v1_t,
    (
        "nvmlGpuInstanceGetVgpuSchedulerState_v2",
        "c_vgpu_sched_state_info_v2",
    ): n.c_nvmlVgpuSchedulerStateInfo_v2_t,
    (
        "nvmlGpuInstanceGetVgpuTypeCreatablePlacements",
        "c_vgpu_placements",
    ): n.c_nvmlVgpuCreatablePlacementInfo_v1_t,
    ("nvmlSystemGetCPER_v1", "cper"): n.c_nvmlGetCPER_v1_t,
}
"""Calls that take a record and make the reference themselves."""

LISTS = {
    "nvmlDeviceGetGpuInstancePossiblePlacements": n.c_nvmlGpuInstancePlacement_t,
    "nvmlDeviceGetGpuInstances": n.c_nvmlGpuInstance_t,
    "nvmlGpuInstanceGetComputeInstancePossiblePlacements": n.c_nvmlComputeInstancePlacement_t,
    "nvmlGpuInstanceGetComputeInstances": n.c_nvmlComputeInstance_t,
}
"""Calls that fill an array of the caller's, and say in another parameter how much."""

STATUSES = {
    "nvmlDeviceGetCapabilities",
    "nvmlDeviceGetPowerMizerMode_v1",
    "nvmlSystemGetConfComputeSettings",
}
"""Calls of nvidia-ml-py that return NVML's status instead of raising it."""

ROOM = 64
"""Elements of an array that a call fills."""


@dataclass(frozen=True)
class Answer:
    """What came of a call: `value`, the name of an NVMLError, or `client: ...` where the client failed."""

    kind: str
    text: str = ""


class Card:
    """A card, and what hangs on it that calls ask for: its names, instances, MIG devices, clocks."""

    def __init__(self, index: int) -> None:
        self.handle = n.nvmlDeviceGetHandleByIndex(index)
        self.neighbour = n.nvmlDeviceGetHandleByIndex((index + 1) % n.nvmlDeviceGetCount())
        self.instance = self._instance()

    def named(self, parameter: str) -> Any:
        """What the card has for a parameter of this name. Raises KeyError where there is no such name."""
        return _OF_CARD[parameter](self)

    def or_none(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """The call's answer, or None where the card has none."""
        try:
            return call(*arguments)
        except n.NVMLError:
            return None

    def _instance(self) -> Any:
        for profile in range(n.NVML_GPU_INSTANCE_PROFILE_COUNT):
            info = self.or_none(n.nvmlDeviceGetGpuInstanceProfileInfo, self.handle, profile)
            found = (n.c_nvmlGpuInstance_t * ROOM)()
            count = ctypes.c_uint(0)
            if info is None:
                continue
            if (
                self.or_none(n.nvmlDeviceGetGpuInstances, self.handle, info.id, found, ctypes.byref(count))
                is None
            ):
                continue
            if count.value:
                return n.c_nvmlGpuInstance_t.from_buffer_copy(found)
        return None

    def compute_instance(self) -> Any:
        """The first of the first GPU instance."""
        if self.instance is None:
            return None
        return self.or_none(n.nvmlGpuInstanceGetComputeInstanceById, self.instance, 0)

    def instance_id(self) -> int:
        """Of the first GPU instance; 0 where there is none."""
        info = self.or_none(n.nvmlGpuInstanceGetInfo, self.instance) if self.instance else None
        return info.id if info else 0

    def memory_clock(self) -> int:
        """In MHz; 1 where the card does not say, which no card supports."""
        clocks = self.or_none(n.nvmlDeviceGetSupportedMemoryClocks, self.handle)
        return clocks[0] if clocks else 1


_OF_CARD: dict[str, Callable[[Card], Any]] = {
    **dict.fromkeys(("handle", "handle1", "device", "device1"), lambda card: card.handle),
    **dict.fromkeys(("handle2", "device2"), lambda card: card.neighbour),
    "computeInstance": Card.compute_instance,
    "gpuInstance": lambda card: card.instance,
    "gpuInstanceId": Card.instance_id,
    "memoryClockMHz": Card.memory_clock,
    "migDevice": lambda card: card.or_none(n.nvmlDeviceGetMigDeviceHandleByIndex, card.handle, 0),
    "pciBusId": lambda card: n.nvmlDeviceGetPciInfo(card.handle).busId,
    "pciInfo": lambda card: n.nvmlDeviceGetPciInfo(card.handle),
    "serial": lambda card: card.or_none(n.nvmlDeviceGetSerial, card.handle) or "0",
    "unit": lambda card: card.or_none(n.nvmlUnitGetHandleByIndex, 0),
    "uuid": lambda card: n.nvmlDeviceGetUUID(card.handle),
}


def calls() -> dict[str, Callable[..., Any]]:
    """All that ask something, by name."""
    found = {name: call for name, call in sorted(vars(n).items()) if ASKING.match(name)}
    return {name: call for name, call in found.items() if inspect.isfunction(call)}


def record(kind: type[ctypes.Structure]) -> ctypes.Structure:
    """An empty record, with its version where it has one (nvml.h: NVML_STRUCT_VERSION)."""
    made = kind()
    version = re.search(r"_v(\d+)_t$", kind.__name__)
    if any(name == "version" for name, *_ in kind._fields_):
        setattr(made, "version", ctypes.sizeof(kind) | int(version[1] if version else 1) << 24)  # noqa: B010
    return made


def ask(name: str, call: Callable[..., Any], card: Card) -> Answer:
    """Asks the card."""
    wanted = [p.name for p in inspect.signature(call).parameters.values() if p.default is p.empty]
    try:
        given = [argument(name, parameter, card) for parameter in wanted]
        value = call(*(ctypes.byref(each) if is_filled(name, each) else each for each in given))
    except n.NVMLError as error:
        return Answer(type(error).__name__)
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, ctypes.ArgumentError) as error:
        return Answer(f"client: {type(error).__name__}: {error}")
    if name in STATUSES and value:
        return Answer(type(n.NVMLError(value)).__name__)
    if name in LISTS:
        return Answer("value", text_of(given[-2][: given[-1].value]))
    filled = [each for each in given if isinstance(each, ctypes.Structure)]
    return Answer("value", text_of(filled if filled and value in (None, 0) else value))


def argument(name: str, parameter: str, card: Card) -> Any:
    """What a call gets for a parameter. Raises KeyError for one that nobody has thought of."""
    if parameter == "gpuInstance" or (name.startswith("nvmlGpuInstanceGet") and parameter == "device"):
        return card.instance
    if parameter in _OF_CARD:
        return card.named(parameter)
    if f"{name}.{parameter}" in PLAIN:
        return PLAIN[f"{name}.{parameter}"]
    if parameter in PLAIN:
        return PLAIN[parameter]
    if (name, parameter) in TAKEN:
        return record(TAKEN[name, parameter])
    if name in LISTS:
        return ctypes.c_uint(ROOM) if parameter == "countRef" else (LISTS[name] * ROOM)()
    return record(FILLED[name])


def is_filled(name: str, given: Any) -> bool:
    """Whether an argument is to be handed over by reference."""
    if name in FILLED:
        return isinstance(given, ctypes.Structure)
    return name in LISTS and isinstance(given, ctypes.c_uint)


def text_of(value: Any) -> str:
    """A value for people, the same for equal values: no addresses."""
    if isinstance(value, ctypes.Structure):
        return "{" + ", ".join(f"{f[0]}={text_of(getattr(value, f[0]))}" for f in value._fields_) + "}"
    if isinstance(value, n.c_nvmlValue_t):
        return hex(value.ullVal)
    if isinstance(value, (list, tuple, ctypes.Array)):
        return "[" + ", ".join(text_of(each) for each in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={text_of(each)}" for key, each in value.items()) + "}"
    if isinstance(value, ctypes._SimpleCData):  # pyright: ignore[reportPrivateUsage]
        return str(value.value)
    return "handle" if isinstance(value, ctypes._Pointer) else str(value)  # pyright: ignore[reportPrivateUsage]
