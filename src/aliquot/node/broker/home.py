"""The machine-wide home: `HOME/broker`, the socket, and `HOME/people/UID/NAME`, the slices.

Both sides check before they believe: the broker that nobody else can swap what it writes to, a person's
process that what it talks to is root's. `native/limiter/README.md` has the reasons.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aliquot.limits.homes import give_passage, people_home, person_home, system_home
from aliquot.node.broker.wire import BrokerError, BrokerUntrustedError

SOCKET: Final = "broker"
LOCK: Final = ".broker.lock"

_ROOT: Final = 0
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_BACKLOG: Final = 128
_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred, unix(7)
_HINT: Final = "ask whoever looks after this machine"


class HomeUnsafeError(BrokerError):
    """The machine-wide home could be swapped or written to by others than root."""

    code = "system-home-unsafe"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a socket, by the kernel's word."""

    pid: int
    """In the reader's pid namespace; 0 where it has none there."""
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """SO_PEERCRED: of whoever connected, or, asked by that one, of whoever listened."""
    content = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(content)
    return Peer(pid, uid)


def is_installed(home: Path | None = None) -> bool:
    """Whether slices are made by a broker for all people here. One that is down is installed, too."""
    return people_home(home).is_dir()


def prepare(home: Path) -> None:
    """Makes the home where it is missing; root's to do. Raises `HomeUnsafeError`."""
    try:
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        check_way(home)
        people = people_home(home)
        people.mkdir(mode=0o711, exist_ok=True)
        _check_folder(people)
    except OSError as error:
        raise HomeUnsafeError(f"{home} cannot be used: {error}") from error


def prepare_person(home: Path, uid: int) -> Path:
    """The folder for the slices of that user, who may look into it, and no other user."""
    folder = person_home(uid, home)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_folder(folder)
    give_passage(folder, uid)
    return folder


def check_way(folder: Path) -> None:
    """Raises `HomeUnsafeError` unless nobody but root can put something else in the folder's place."""
    if not folder.is_absolute() or ".." in folder.parts:
        raise HomeUnsafeError(f"{folder} is not the whole name of a folder")
    _check_folder(folder)
    for parent in folder.parents:
        found = parent.lstat()
        swappable = found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != _ROOT or swappable:
            raise HomeUnsafeError(
                f"{parent}, in which {folder.name} lies, is a link, or others than root can change it",
                hint="name a folder below ones that are root's, such as /run/aliquot",
            )


def lock(home: Path) -> int:
    """Keeps a second broker away until it is closed or this process ends. Raises `BrokerError`."""
    held = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise BrokerError(f"another broker serves {home}", hint="one is enough") from error
    return held


def listen(home: Path) -> socket.socket:
    """The broker's socket, to which everybody may connect. Raises `HomeUnsafeError`."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        with opened(home) as folder:
            with suppress(FileNotFoundError):
                os.unlink(SOCKET, dir_fd=folder)
            address = f"/proc/self/fd/{folder}/{SOCKET}"
            made.bind(address)
            os.chmod(SOCKET, 0o666, dir_fd=folder)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise HomeUnsafeError(f"there can be no socket in {home}: {error}") from error
    return made


def connect(home: Path | None = None, timeout_s: float = 10.0) -> socket.socket:
    """A connection to the broker, which is root's by the kernel's word.

    Raises `BrokerUntrustedError` where something of somebody else's is in its place, `BrokerError` where
    nobody answers.
    """
    home = home or system_home()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout_s)
        with opened(home) as folder:
            _check_descriptor(home, folder)
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        if (listener := peer_of(connection)).uid != _ROOT:
            raise BrokerUntrustedError(
                f"{home / SOCKET} is answered by uid {listener.uid}, and not by root", hint=_HINT
            )
    except OSError as error:
        connection.close()
        raise BrokerError(
            f"this machine's broker does not answer: {error.strerror or error}",
            hint="slices are made by it here, and programs that run go on; " + _HINT,
        ) from error
    except BrokerUntrustedError:
        connection.close()
        raise
    return connection


@contextmanager
def opened(home: Path) -> Iterator[int]:
    """The home as a descriptor, which nobody can swap any more. Raises `OSError`; links are not followed."""
    folder = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def remove_if_empty(home: Path) -> None:
    """Takes the home away where no slice is left in it, so that people have their cards to themselves
    again."""
    with suppress(OSError):
        for person in people_home(home).iterdir():
            with suppress(OSError):
                person.rmdir()
        left = {entry.name for entry in people_home(home).iterdir()}
        if all(name.startswith(".") for name in left):  # the arbiter's own
            for name in left:
                (people_home(home) / name).unlink()
            people_home(home).rmdir()


def _check_folder(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != _ROOT or found.st_mode & _OTHERS_WRITE:
        raise HomeUnsafeError(
            f"{folder} is a link, or not a folder that only root can write to",
            hint="remove it, or name another one",
        )


def _check_descriptor(home: Path, folder: int) -> None:
    found = os.fstat(folder)
    if found.st_uid != _ROOT or found.st_mode & _OTHERS_WRITE:
        raise BrokerUntrustedError(f"{home} is not a folder that only root can write to", hint=_HINT)
