"""The broker's loop: connections, and what a hostile one can do to it, which is bounded here.

A connection asks one thing and is answered. It has a second to do so; a user has a few connections at a
time; a packet is a few kilobytes; descriptors that come with one are dropped by the kernel, since none are
received.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aliquot.errors import AliquotError
from aliquot.node.broker import home as homes
from aliquot.node.broker.home import Peer
from aliquot.node.broker.server import Broker
from aliquot.node.broker.wire import MOST_REQUEST_BYTES, BrokerError, read_request, write_answer, write_error

_LOOK_EVERY_S: Final = 1.0
_PATIENCE_S: Final = 1.0
_MOST_OF_A_USER: Final = 16
_MOST: Final = 512
_ACCEPTED_AT_A_TIME: Final = 64
_MOST_LINES: Final = 10
"""Logged between two looks: whoever is refused without end does not fill a disk."""
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)

Log = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Guest:
    """A connection that has not asked yet."""

    connection: socket.socket
    peer: Peer
    since: float


class Service:
    """Serves a broker on its socket until it is told to end."""

    def __init__(self, broker: Broker, log: Log) -> None:
        """Takes the socket. Raises `HomeUnsafeError`."""
        self._broker = broker
        self._lock = homes.lock(broker.home)
        self._log = log
        self._lines = 0
        self._guests: dict[int, _Guest] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = homes.listen(broker.home)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._ended = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT. Slices stay; where there are none, the home goes."""
        for each in _ENDING:
            signal.signal(each, lambda *_: self.end())
        next_look = time.monotonic()
        while not self._ended:
            if (now := time.monotonic()) >= next_look:
                self._broker.look_after()
                self._drop_late(now)
                self._lines = 0
                next_look = now + _LOOK_EVERY_S
            for key, _ in self._selector.select(max(0.0, next_look - time.monotonic())):
                if key.fileobj is self._listener:
                    self._accept()
                elif guest := self._guests.get(key.fd):
                    self._serve(guest)
        self._close()

    def end(self) -> None:
        """Ends `run` soon; may be called by a signal."""
        self._ended = True

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_A_TIME):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # Out of descriptors, perhaps: whoever waits too long goes, and makes room.
                self._drop_late(time.monotonic())
                return
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        peer = homes.peer_of(connection)
        crowd = Counter(each.peer.uid for each in self._guests.values())
        if len(self._guests) >= _MOST or (peer.uid != 0 and crowd[peer.uid] >= _MOST_OF_A_USER):
            connection.close()
            return
        guest = _Guest(connection, peer, time.monotonic())
        self._guests[connection.fileno()] = guest
        self._selector.register(connection, selectors.EVENT_READ)

    def _serve(self, guest: _Guest) -> None:
        try:
            packet = guest.connection.recv(MOST_REQUEST_BYTES + 1)
        except BlockingIOError:
            return  # what was ready was another one's, whose number this one has now
        except OSError:
            packet = b""
        if packet:
            with suppress(OSError):
                guest.connection.send(self._answer(packet, guest.peer))
        self._drop(guest)

    def _answer(self, packet: bytes, peer: Peer) -> bytes:
        try:
            request = read_request(packet)
            answer = write_answer(self._broker.answer(request, peer))
        except AliquotError as error:
            self._say(f"uid {peer.uid}: refused: {error.reason}")
            return write_error(error)
        except (OSError, ValueError, LookupError) as error:  # a full disk, a folder that went meanwhile
            self._say(f"uid {peer.uid}: {type(error).__name__}: {error}")
            return write_error(BrokerError("the broker failed at that", hint="its log says how"))
        return answer

    def _say(self, line: str) -> None:
        self._lines += 1
        if self._lines <= _MOST_LINES:
            self._log(line)

    def _drop_late(self, now: float) -> None:
        for guest in [each for each in self._guests.values() if now - each.since >= _PATIENCE_S]:
            self._drop(guest)

    def _drop(self, guest: _Guest) -> None:
        self._selector.unregister(guest.connection)
        del self._guests[guest.connection.fileno()]
        guest.connection.close()

    def _close(self) -> None:
        for guest in list(self._guests.values()):
            self._drop(guest)
        self._selector.close()
        self._listener.close()
        with suppress(OSError):
            (self._broker.home / homes.SOCKET).unlink()
        homes.remove_if_empty(self._broker.home)
        os.close(self._lock)
