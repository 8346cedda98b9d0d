"""What the kernel says of a process. No process can change what it says, but for `command`.

Files of /proc are those of proc(5). What this user may not read of another one's process is unknown, which is
said so.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aliquot.policy.guard import FileId, Identity

_PROC: Final = Path("/proc")
_STATE, _FLAGS, _THREADS, _START = 0, 6, 17, 19
"""Positions in /proc/PID/stat behind the command's closing bracket: fields 3, 9, 20 and 22."""
_EXITING: Final = 0x4  # PF_EXITING, include/linux/sched.h
_MOST_MAPS: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A process that lives."""

    identity: Identity
    uid: int
    """Its real user."""
    namespace: int
    """Inode of its pid namespace; 0 where it cannot be read."""
    namespace_pid: int
    """Its pid within that."""
    command: str
    program: str
    """The file that it runs; empty where it cannot be read."""


def facts(pid: int) -> Facts | None:
    """What is known of a process; None where it has ended, is about to, or is of no concern to us."""
    folder = _PROC / str(pid)
    try:
        status = _status(folder)
        start = start_ticks(pid)
        command = (folder / "comm").read_bytes()
    except (OSError, ValueError):
        return None
    if start is None:
        return None
    inner = status.get("NSpid", str(pid)).split()
    return Facts(
        identity=Identity(pid, start),
        uid=int(status.get("Uid", "-1").split()[0]),
        namespace=_inode(folder / "ns" / "pid"),
        namespace_pid=int(inner[-1]) if inner else pid,
        command=printable(command),
        program=_link(folder / "exe"),
    )


def start_ticks(pid: int) -> int | None:
    """When a process started; None where it has ended or is about to.

    A leader whose other threads go on has not ended.
    """
    try:
        after_command = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        ended = after_command[_STATE] in (b"Z", b"X") or int(after_command[_FLAGS]) & _EXITING
        if ended and int(after_command[_THREADS]) <= 1:
            return None
        return int(after_command[_START])
    except (OSError, ValueError, IndexError):
        return None


def mapped(pid: int, wanted: frozenset[FileId]) -> frozenset[FileId]:
    """Those of the files that a process has mapped; none where its mappings cannot be read."""
    try:
        return wanted & {_file_of(line) for line in _maps(pid)}
    except OSError:
        return frozenset()


def has_ended(descriptor: int) -> bool:
    """Whether the process behind a pidfd has ended (pidfd_open(2): it can be read then)."""
    watch = select.poll()
    watch.register(descriptor, select.POLLIN)
    return bool(watch.poll(0))


def runs(pid: int, programs: Iterable[str]) -> frozenset[str]:
    """Those of the files that a process is running: the same file, whatever it is called where it runs."""
    try:
        running = (_PROC / str(pid) / "exe").stat()
    except OSError:
        return frozenset()
    return frozenset(path for path in programs if _is_file(path, running))


def has_open(
    pid: int, majors: frozenset[int], files: frozenset[FileId], prefixes: tuple[bytes, ...] = ()
) -> bool | None:
    """Whether a process has a character device of these majors open, or has one of these files, or one whose
    path begins so, open or mapped: a mapping stays when its descriptor is closed.

    None where that cannot be read.
    """
    try:
        descriptors = list((_PROC / str(pid) / "fd").iterdir())
        if any(_is_one_of(each, majors, files) for each in descriptors):
            return True
        lines = _maps(pid)
    except OSError:
        return None
    return any(_file_of(line) in files or _path_of(line).startswith(prefixes) for line in lines)


def printable(text: bytes) -> str:
    """A process' own words, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text.decode(errors="replace").rstrip("\n"))


def _status(folder: Path) -> dict[str, str]:
    lines = (folder / "status").read_text(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _maps(pid: int) -> list[bytes]:
    with (_PROC / str(pid) / "maps").open("rb") as maps:
        return maps.read(_MOST_MAPS).splitlines()


def _path_of(line: bytes) -> bytes:
    fields = line.split(None, 5)
    return fields[5] if len(fields) == 6 else b""


def _file_of(line: bytes) -> FileId | None:
    """address perms offset dev inode path: the file of a line of /proc/PID/maps."""
    fields = line.split(None, 5)
    if len(fields) < 6:
        return None
    try:
        major, _, minor = fields[3].partition(b":")
        return FileId(os.makedev(int(major, 16), int(minor, 16)), int(fields[4]))
    except ValueError:
        return None


def _is_one_of(descriptor: Path, majors: frozenset[int], files: frozenset[FileId]) -> bool:
    try:
        found = descriptor.stat()
    except OSError:  # closed meanwhile
        return False
    if stat.S_ISCHR(found.st_mode):
        return os.major(found.st_rdev) in majors
    return FileId(found.st_dev, found.st_ino) in files


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _is_file(path: str, file: os.stat_result) -> bool:
    try:
        found = Path(path).stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino)
