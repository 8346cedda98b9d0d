"""A program on a card that need not be on a slice, and what it may do to a slice's account that it can write.

The driver through ctypes, so that it starts in no time.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
import time
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path

from aliquot.limits.layout import load

MIB = 1 << 20
NAP = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry nap(.param .u64 ns) {
  .reg .u64 %rd<5>; .reg .pred %p;
  ld.param.u64 %rd1, [ns];
  mov.u64 %rd2, %globaltimer;
  add.u64 %rd1, %rd1, %rd2;
again:
  nanosleep.u32 20000;
  mov.u64 %rd3, %globaltimer;
  setp.lt.u64 %p, %rd3, %rd1;
  @%p bra again;
  ret;
}
"""


def ok(status: int) -> None:
    assert status == 0, status


class Trespasser:
    """A context on the first card."""

    def __init__(self, card: int = 0) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        device, context = c_int(), c_void_p()
        ok(self.cuda.cuInit(0))
        ok(self.cuda.cuDeviceGet(byref(device), card))
        ok(self.cuda.cuDevicePrimaryCtxRetain(byref(context), device))
        ok(self.cuda.cuCtxSetCurrent(context))

    def take(self, mebibytes: int) -> int:
        memory = c_uint64()
        return self.cuda.cuMemAlloc_v2(byref(memory), c_size_t(mebibytes * MIB))

    def work(self, seconds: float, kernel_ns: int = 2_000_000) -> None:
        """Keeps the card busy: two kernels are always queued."""
        module, function, stream = c_void_p(), c_void_p(), c_void_p()
        ok(self.cuda.cuModuleLoadData(byref(module), NAP + b"\0"))
        ok(self.cuda.cuModuleGetFunction(byref(function), module, b"nap"))
        ok(self.cuda.cuStreamCreate(byref(stream), 1))
        number = c_uint64(kernel_ns)
        arguments = (c_void_p * 1)(ctypes.addressof(number))
        one, none = c_uint(1), c_uint(0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(2):
                ok(
                    self.cuda.cuLaunchKernel(
                        function, one, one, one, one, one, one, none, stream, arguments, None
                    )
                )
            ok(self.cuda.cuStreamSynchronize(stream))


class Account:
    """The account of a slice, as somebody sees it who may write it."""

    def __init__(self, folder: str) -> None:
        self.shape = load().structures
        descriptor = os.open(Path(folder) / "account", os.O_RDWR)
        self.words = mmap.mmap(descriptor, self.shape["Account"].size)

    def put(self, at: int, value: int) -> None:
        struct.pack_into("<Q", self.words, at, value)

    def get(self, at: int) -> int:
        return struct.unpack_from("<Q", self.words, at)[0]

    def own_place(self) -> int:
        """The offset of this process' slot."""
        for slot in range(self.get(self.shape["Account"].offset("slots_used"))):
            at = self.shape["Account"].offset("processes", slot)
            if self.get(at + self.shape["Process"].offset("owner")) & (2**22 - 1) == os.getpid():
                return at
        raise LookupError("this process has no place in the account")

    def say_held(self, at: int, size: int) -> None:
        place = at + self.shape["Process"].offset("devices") + self.shape["DeviceAccount"].offset("held")
        self.put(place, size)

    def leave(self, at: int) -> None:
        self.put(at + self.shape["Process"].offset("owner"), 0)

    def enter(self, size: int, slot: int = 100) -> None:
        """Takes a slot without the limiter, and says to hold so much."""
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
        account = self.shape["Account"]
        self.put(account.offset("pid_namespaces", 40), namespace)
        self.put(account.offset("slots_used"), max(slot + 1, self.get(account.offset("slots_used"))))
        at = account.offset("processes", slot)
        self.say_held(at, size)
        owner = os.getpid() | 41 << 22 | int(fields[19]) << 28
        self.put(at + self.shape["Process"].offset("owner"), owner)


def say(*words: object) -> None:
    print(*words, flush=True)


def stay(seconds: float = 60.0) -> None:
    """Where the test waits for it to be found."""
    say("here")
    sys.stdout.flush()
    time.sleep(seconds)
