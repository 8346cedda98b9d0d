"""NVML through ctypes: the few calls that discovery needs, on a library that the caller names by path.

Signatures and constants are those of nvml.h (CUDA 13). The real library and the simulated one answer alike,
so one reader serves both. Foreign code runs here: everything it returns is checked before it leaves this
module.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_char_p, c_uint, c_ulonglong, c_void_p, create_string_buffer
from dataclasses import dataclass
from typing import Any, Final

from aliquot.errors import UnavailableError

_SUCCESS: Final = 0
_NAME_BYTES: Final = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE
_UUID_BYTES: Final = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE
_VERSION_BYTES: Final = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE


class _Memory(ctypes.Structure):
    _fields_ = (("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", c_uint), ("memory", c_uint))


@dataclass(frozen=True, slots=True)
class Reading:
    """What NVML says of one device. Memory in bytes, utilisation in percent."""

    index: int
    name: str
    uuid: str
    memory_total: int
    memory_used: int
    utilisation: int


class NvmlError(UnavailableError):
    """The library cannot be loaded, or a call failed."""

    code = "nvml-failed"

    def __init__(self, reason: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(reason, hint=hint)
        self.status = status
        """The nvmlReturn_t of the call; None where no call was made."""


class Nvml:
    """An initialised NVML. Made by `opened`, which also shuts it down."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def readings(self) -> list[Reading]:
        """Every device that the library knows, in its order. Raises `NvmlError`."""
        count = c_uint()
        self._call("nvmlDeviceGetCount_v2", byref(count))
        return [self._reading(index) for index in range(count.value)]

    def driver_version(self) -> str:
        """The driver's version, e.g. `580.65.06`. Raises `NvmlError`."""
        version = create_string_buffer(_VERSION_BYTES)
        self._call("nvmlSystemGetDriverVersion", version, c_uint(_VERSION_BYTES))
        return _text(version)

    def device(self, uuid: str) -> c_void_p:
        """The handle of a device, which keeps its UUID when another one falls off. Raises `NvmlError`."""
        found = c_void_p()
        self._call("nvmlDeviceGetHandleByUUID", c_char_p(uuid.encode()), byref(found))
        return found

    def has(self, name: str) -> bool:
        """Whether the library has a function of that name: older ones lack newer versions."""
        return hasattr(self._library, name)

    def status(self, name: str, *arguments: Any) -> int:
        """Calls a function of the library; its nvmlReturn_t. For calls that say something by failing."""
        return getattr(self._library, name)(*arguments)

    def explain(self, status: int) -> str:
        """What an nvmlReturn_t means, in the library's words."""
        explain = self._library.nvmlErrorString
        explain.restype = c_char_p
        text = explain(status)
        return text.decode(errors="replace") if text else f"status {status}"

    def _reading(self, index: int) -> Reading:
        device = c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", c_uint(index), byref(device))
        name, uuid = create_string_buffer(_NAME_BYTES), create_string_buffer(_UUID_BYTES)
        self._call("nvmlDeviceGetName", device, name, c_uint(_NAME_BYTES))
        self._call("nvmlDeviceGetUUID", device, uuid, c_uint(_UUID_BYTES))
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", device, byref(memory))
        return Reading(
            index=index,
            name=_text(name),
            uuid=_text(uuid),
            memory_total=memory.total,
            memory_used=memory.used,
            utilisation=self._utilisation(device),
        )

    def _utilisation(self, device: c_void_p) -> int:
        rates = _Utilization()
        try:
            self._call("nvmlDeviceGetUtilizationRates", device, byref(rates))
        except NvmlError:  # a card in MIG mode has none of its own
            return 0
        return min(rates.gpu, 100)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != _SUCCESS:
            raise NvmlError(f"{name} failed: {self.explain(status)}", status=status)


@contextmanager
def opened(library: str) -> Iterator[Nvml]:
    """Loads and initialises NVML from `library`, a path or a name for the loader. Raises `NvmlError`."""
    try:
        loaded = ctypes.CDLL(library)
        nvml = Nvml(loaded)
        nvml._call("nvmlInit_v2")
    except (OSError, AttributeError) as error:
        raise NvmlError(f"{library} cannot be used: {error}") from error
    try:
        yield nvml
    finally:
        loaded.nvmlShutdown()


def _text(buffer: ctypes.Array[ctypes.c_char]) -> str:
    return buffer.value.decode(errors="replace")
