"""A process of a slice that speaks the arbiter's protocol, with no driver: native/limiter/compute/README.md.

As a program: `turn_taker.py FOLDER SECONDS` says "ready" and waits for a line; then it wants the card all the
time, holds each turn to its end, and writes when it held it: JSON, pairs of CLOCK_MONOTONIC in ns.
`turn_taker.py FOLDER hold` takes a turn, says "holding" and keeps it until it is killed.
`turn_taker.py FOLDER flood SECONDS` says `Want` as often as it can.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from aliquot.limits.layout import load

HELLO, WANT, BEGAN, CLOSED, RUNNING, IDLE = range(1, 7)
NEVER = 2**64 - 1
FOREVER_S = 3600.0
_FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]
_FUTEX_WAIT = 0
_MESSAGE = struct.Struct("<IIQQQ")
_WORDS = (
    "turn",
    "ends_ns",
    "in_flight_ns",
    "flags",
    "idle_window_ns",
    "held_ns",
    "waited_ns",
    "turns",
    "share_ppm",
    "begins_ns",
)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class Tenant:
    """One process' side of one device."""

    def __init__(self, folder: Path, device: int = 0) -> None:
        self.socket: socket.socket | None = None
        self.folder = folder
        self.device = device
        shape = load().structures["Grant"]
        self._at = shape.offset("devices", device)
        self._alive_at = shape.offset("alive_ns")
        self._epoch_at = shape.offset("epoch")
        descriptor = os.open(folder / "grant", os.O_RDONLY)
        self._page = mmap.mmap(descriptor, shape.size, prot=mmap.PROT_READ)
        os.close(descriptor)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]

    def connect(self, hello: bytes | None = None) -> Tenant:
        """Connects and says `Hello`, or what is given instead."""
        self.close()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here = os.open(self.folder, os.O_PATH)  # the folder's own path may be too long for an address
        try:
            connection.connect(f"/proc/self/fd/{here}/arbiter")
        finally:
            os.close(here)
        self.socket = connection
        connection.send(_MESSAGE.pack(HELLO, 0, 0, load().version, 0) if hello is None else hello)
        return self

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def __del__(self) -> None:
        self.close()

    def say(self, kind: int, turn: int, value: int = 0, worked: int = 0) -> None:
        assert self.socket is not None
        self.socket.send(_MESSAGE.pack(kind, self.device, turn, value, worked))

    def hung_up_on(self, timeout_s: float = 2.0) -> bool:
        """Whether the arbiter closes the connection within the time."""
        assert self.socket is not None
        self.socket.settimeout(timeout_s)
        try:
            return self.socket.recv(1) == b""
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(None)

    def grant(self) -> SimpleNamespace:
        values = struct.unpack_from(f"<{len(_WORDS)}Q", self._page, self._at)
        return SimpleNamespace(**dict(zip(_WORDS, values, strict=True)))

    @property
    def alive_ns(self) -> int:
        return struct.unpack_from("<Q", self._page, self._alive_at)[0]

    @property
    def epoch(self) -> int:
        return struct.unpack_from("<Q", self._page, self._epoch_at)[0]

    def holds(self) -> bool:
        grant = self.grant()
        return bool(grant.turn & 1) and time.monotonic_ns() < grant.ends_ns

    def await_turn(self, timeout_s: float = 2.0, *, after: int = 0) -> float:
        """Wants the card and waits for a turn later than `after`. Returns for how many seconds; fails after
        `timeout_s`."""
        begin = time.monotonic()
        said = None
        while not (self.holds() and self.grant().turn > after):
            word = self.grant().turn
            if said != word:
                self.say(WANT, word)
                said = word
            self.sleep_on(word, 0.05)
            assert time.monotonic() - begin < timeout_s, f"no turn within {timeout_s} s: {self.grant()}"
        return time.monotonic() - begin

    def sleep_on(self, word: int, timeout_s: float) -> None:
        """Sleeps until the turn's word is another one, or the arbiter wakes all, or the time has passed."""
        address = self._address() + self._at
        seconds = max(timeout_s, 0.0)
        limit = _Timespec(int(seconds), int(seconds % 1 * 1e9))
        half = ctypes.c_uint32(word & 0xFFFFFFFF)
        self._libc.syscall(_FUTEX, ctypes.c_void_p(address), _FUTEX_WAIT, half, ctypes.byref(limit), None, 0)

    def _address(self) -> int:
        """Where a mapping of the page lies; Python's own tells its address only if it is writable."""
        if not hasattr(self, "_mapped"):
            descriptor = os.open(self.folder / "grant", os.O_RDONLY)
            self._mapped = self._libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
            os.close(descriptor)
        return self._mapped


def take_turns(tenant: Tenant, seconds: float) -> list[tuple[int, int]]:
    """Wants the card all the time; when it was held. Outlives the arbiter, and comes back to a new one."""
    held: list[tuple[int, int]] = []
    stop = time.monotonic_ns() + int(seconds * 1e9)
    wanted = None
    while (now := time.monotonic_ns()) < stop:
        grant = tenant.grant()
        try:
            if tenant.socket is None or tenant.hung_up_on(0):
                tenant.connect()
                wanted = None
            if grant.turn & 1 and now < grant.ends_ns:
                held.append(_hold(tenant, stop))
            elif wanted != grant.turn:
                tenant.say(WANT, grant.turn)
                wanted = grant.turn
            else:
                tenant.sleep_on(grant.turn, 0.02)
        except OSError:
            tenant.close()
            time.sleep(0.01)
    return held


def _hold(tenant: Tenant, stop: int) -> tuple[int, int]:
    begin = end = time.monotonic_ns()
    word = tenant.grant().turn
    while (grant := tenant.grant()).turn & 1 and end < min(grant.ends_ns, stop) and not tenant.hung_up_on(0):
        word = grant.turn
        tenant.sleep_on(word, min(grant.ends_ns - end, 5_000_000) / 1e9)
        end = time.monotonic_ns()
    end = min(end, max(grant.ends_ns, begin))
    tenant.say(WANT, word)
    tenant.say(CLOSED, word)
    return begin, end


def main() -> None:
    tenant = Tenant(Path(sys.argv[1])).connect()
    if sys.argv[2] == "hold":
        tenant.await_turn()
        print("holding", flush=True)
        time.sleep(FOREVER_S)
    elif sys.argv[2] == "flood":
        stop = time.monotonic() + float(sys.argv[3])
        print("flooding", flush=True)
        assert tenant.socket is not None
        tenant.socket.setblocking(False)
        while time.monotonic() < stop:
            with suppress(BlockingIOError):
                for _ in range(100):
                    tenant.say(WANT, tenant.grant().turn)
    else:
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(take_turns(tenant, float(sys.argv[2]))), flush=True)


if __name__ == "__main__":
    main()
