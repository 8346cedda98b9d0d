"""The driver API as the tests call it: through ctypes, with nothing in between."""

from __future__ import annotations

import ctypes
import sys

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED = 0, 1, 2, 3
NO_DEVICE, NOT_FOUND, NOT_SUPPORTED, SYSTEM_NOT_READY = 100, 500, 801, 802
MIB = 2**20
BLOCK = 2 * MIB
"""What a card hands out: sizes that are multiples of it are charged as they are."""


class Cuda:
    """One driver library, whichever name or way of loading it came by."""

    def __init__(self, name: str = "libcuda.so.1", mode: int = ctypes.DEFAULT_MODE) -> None:
        self.library = ctypes.CDLL(name, mode=mode)

    def call(self, symbol: str, *arguments: object) -> int:
        """The CUresult of a call. Plain integers are passed as 64-bit ones."""
        function = getattr(self.library, symbol)
        return function(*(ctypes.c_uint64(a) if isinstance(a, int) else a for a in arguments))

    def check(self, symbol: str, *arguments: object) -> None:
        result = self.call(symbol, *arguments)
        if result != SUCCESS:
            sys.exit(f"{symbol} answered {result}")

    def start(self, device: int = 0) -> Cuda:
        """cuInit, and the primary context of a device."""
        self.check("cuInit", 0)
        self.use(device)
        return self

    def use(self, device: int) -> None:
        context = ctypes.c_void_p()
        self.check("cuDevicePrimaryCtxRetain", ctypes.byref(context), ctypes.c_int(device))
        self.check("cuCtxSetCurrent", context)

    def try_allocate(self, size: int, symbol: str = "cuMemAlloc_v2") -> tuple[int, int]:
        """The result and the address."""
        address = ctypes.c_uint64()
        return self.call(symbol, ctypes.byref(address), size), address.value

    def allocate(self, size: int) -> int:
        result, address = self.try_allocate(size)
        if result != SUCCESS:
            sys.exit(f"cuMemAlloc of {size} answered {result}")
        return address

    def free(self, address: int) -> None:
        self.check("cuMemFree_v2", address)

    def info(self) -> tuple[int, int]:
        """Free and total, in bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.check("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def used(self) -> int:
        free, total = self.info()
        return total - free

    def total(self, device: int = 0) -> int:
        total = ctypes.c_size_t()
        self.check("cuDeviceTotalMem_v2", ctypes.byref(total), ctypes.c_int(device))
        return total.value

    def proc_address(self, symbol: str, version: int = 12000, flags: int = 0) -> tuple[int, int, int | None]:
        """Result, status and function of cuGetProcAddress_v2."""
        function, status = ctypes.c_void_p(), ctypes.c_int(-1)
        result = self.call(
            "cuGetProcAddress_v2",
            symbol.encode(),
            ctypes.byref(function),
            ctypes.c_int(version),
            flags,
            ctypes.byref(status),
        )
        return result, status.value, function.value
