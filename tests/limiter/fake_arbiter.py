"""An arbiter that does what a test tells it. native/limiter/compute/README.md states the protocol."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import socket
import stat
import struct
import threading
import time
from collections import namedtuple
from pathlib import Path
from types import TracebackType
from typing import Final

from aliquot.limits import layout

HELLO, WANT, BEGAN, CLOSED, RUNNING, IDLE = range(1, 7)
NO_END: Final = 2**64 - 1
_FUTEX: Final = {"x86_64": 202, "aarch64": 98}[platform.machine()]
_FUTEX_WAKE: Final = 1

Message = namedtuple("Message", "kind device turn value at")


class FakeArbiter:
    """Serves one slice. `messages` are what its processes said, in order."""

    def __init__(self, folder: Path) -> None:
        self.messages: list[Message] = []
        self.hung_up = 0
        self._shapes = layout.load()
        grant = folder / "grant"
        grant.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
        with grant.open("r+b") as file:
            self._words = mmap.mmap(file.fileno(), 0)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._words))
        self._path = folder / "arbiter"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here = os.open(folder, os.O_PATH)  # the folder's own path may be too long for an address
        self._listener.bind(f"/proc/self/fd/{here}/arbiter")
        os.close(here)
        self._listener.listen()
        self._alive = True
        self._connections: list[socket.socket] = []
        self._put("epoch", 1)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._accept, self._live)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> FakeArbiter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vanish()

    def vanish(self) -> None:
        """As if it was killed: the connections hang up, and nothing is written any more."""
        self._alive = False
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def lend(
        self,
        turn: int,
        *,
        ends_ns: int = NO_END,
        in_flight_ns: int = NO_END,
        contended: bool = False,
        device: int = 0,
        begins_ns: int = 0,
    ) -> None:
        """What the grant of a device says from now on. An odd turn is open."""
        flags = self._shapes.number("grant_contended") if contended else 0
        at = self._shapes.structures["Grant"].offset("devices", device)
        shape = self._shapes.structures["DeviceGrant"]
        for field, value in (
            ("begins_ns", begins_ns),
            ("ends_ns", ends_ns),
            ("in_flight_ns", in_flight_ns),
            ("flags", flags),
            ("turn", turn),
        ):
            self._put_at(at + shape.offset(field), value)
        word = ctypes.c_void_p(self._base + at + shape.offset("turn"))
        ctypes.CDLL(None).syscall(_FUTEX, word, _FUTEX_WAKE, 2**31 - 1, None, None, 0)

    def wait_for(self, kind: int, *, timeout: float = 20, beyond: int = 0) -> Message:
        """The first message of a kind, from the `beyond`-th message on."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for message in self.messages[beyond:]:
                if message.kind == kind:
                    return message
            time.sleep(0.005)
        raise AssertionError(f"no message {kind}, only {self.messages}")

    def _accept(self) -> None:
        while self._alive:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: socket.socket) -> None:
        while self._alive:
            try:
                packet = connection.recv(64)
            except OSError:
                return
            if not packet:
                self.hung_up += 1
                return
            kind, device, turn, value, _ = struct.unpack("<IIQQQ", packet)
            self.messages.append(Message(kind, device, turn, value, time.monotonic()))

    def _live(self) -> None:
        while self._alive:
            self._put("alive_ns", time.monotonic_ns())
            time.sleep(0.05)

    def _put(self, field: str, value: int) -> None:
        self._put_at(self._shapes.structures["Grant"].offset(field), value)

    def _put_at(self, offset: int, value: int) -> None:
        ctypes.c_uint64.from_buffer(self._words, offset).value = value
