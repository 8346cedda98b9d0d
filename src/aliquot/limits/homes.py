"""Where slices lie: a folder of each person's own, and the machine's, which holds one for each person.

A home is believed only if nobody but its owner can write to it, since who can swap a slice's files can change
its limits. The machine's is root's; each person may look into the folder that carries her uid, and into no
other: native/limiter/README.md, "Several people on one machine".
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from aliquot.limits.errors import SliceAccessError

SYSTEM_HOME_VARIABLE: Final = "ALIQUOT_SYSTEM_HOME"
"""Names another machine-wide home. Who uses it checks that it is root's."""

_SYSTEM_HOME: Final = Path("/run/aliquot")
_PEOPLE: Final = "people"
_OWN_HOMES: Final = Path("/dev/shm")
_OWN_PREFIX: Final = "aliquot-slices-"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

# Access lists as the kernel keeps them: include/uapi/linux/posix_acl.h and posix_acl_xattr.h.
_ACL_ATTRIBUTE: Final = "system.posix_acl_access"
_ACL_VERSION: Final = 2
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_MASK, _ACL_OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_ACL_NOBODY: Final = 0xFFFFFFFF
_ACL_ENTRY: Final = struct.Struct("<HHI")


def default_home() -> Path:
    """The folder in which this user's slices lie: in memory, so that a restart of the machine empties it."""
    return _OWN_HOMES / f"{_OWN_PREFIX}{os.getuid()}"


def system_home() -> Path:
    """The machine-wide home, whether or not it is there: `/run/aliquot`, or what `ALIQUOT_SYSTEM_HOME`
    names."""
    return Path(os.environ.get(SYSTEM_HOME_VARIABLE) or _SYSTEM_HOME)


def people_home(home: Path | None = None) -> Path:
    """The folder of a machine-wide home in which each person has one."""
    return (home or system_home()) / _PEOPLE


def person_home(uid: int, home: Path | None = None) -> Path:
    """The folder in a machine-wide home in which the slices of that user lie."""
    return people_home(home) / str(uid)


def people_homes(home: Path | None = None) -> list[Path]:
    """The folders of a machine-wide home that this user may look into: her own; root's are all of them.

    Raises `SliceAccessError` where the home is not root's.
    """
    people = people_home(home)
    if not people.exists():
        return []
    for folder in (people.parent, people):
        _check_owner(folder, (0,))
    if os.getuid() != 0:
        return [mine] if (mine := person_home(os.getuid(), home)).is_dir() else []
    found = [each for each in people.iterdir() if each.name.isdecimal() and _is_safe(each, (0,))]
    return sorted(found, key=lambda each: int(each.name))


def homes() -> list[Path]:
    """All folders with slices that this user may see; root sees everybody's."""
    return [*(_everybodys_own() if os.getuid() == 0 else [default_home()]), *people_homes()]


def check_home(home: Path) -> None:
    """Raises `SliceAccessError` unless it is a folder that only its owner, this user or root, can write to.

    Root may look at everybody's. `FileNotFoundError` where there is none.
    """
    found = home.lstat()
    owners = (found.st_uid,) if os.getuid() == 0 else (0, os.getuid())
    _check_owner(home, owners)


def make_home(home: Path) -> None:
    """Makes the folder where it is missing. One that others may write to would let them swap a slice's
    files.

    Raises `SliceAccessError`.
    """
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise SliceAccessError(f"the folder {home} cannot be used: {error}") from error
    _check_owner(home, (os.getuid(),))


def give_passage(folder: Path, uid: int) -> None:
    """Lets that user, beside the owner, list the folder and go into it, and nobody else.

    Raises `SliceAccessError` where the file system keeps no access lists (tmpfs, ext4 and xfs do).
    """
    entries = (
        (_ACL_USER_OBJ, 7, _ACL_NOBODY),
        (_ACL_USER, 5, uid),
        (_ACL_GROUP_OBJ, 0, _ACL_NOBODY),
        (_ACL_MASK, 5, _ACL_NOBODY),
        (_ACL_OTHER, 0, _ACL_NOBODY),
    )
    content = struct.pack("<I", _ACL_VERSION) + b"".join(_ACL_ENTRY.pack(*each) for each in entries)
    try:
        os.setxattr(folder, _ACL_ATTRIBUTE, content, follow_symlinks=False)
    except OSError as error:
        raise SliceAccessError(
            f"{folder} cannot be opened to one user alone: {error.strerror}",
            hint="the slices of other users need a file system with access lists, such as tmpfs",
        ) from error


def _everybodys_own() -> Iterator[Path]:
    with suppress(OSError):
        for folder in sorted(_OWN_HOMES.glob(f"{_OWN_PREFIX}*")):
            uid = folder.name.removeprefix(_OWN_PREFIX)
            if uid.isdecimal() and _is_safe(folder, (int(uid),)):
                yield folder


def _is_safe(folder: Path, owners: tuple[int, ...]) -> bool:
    try:
        _check_owner(folder, owners)
    except SliceAccessError:
        return False
    return True


def _check_owner(folder: Path, owners: tuple[int, ...]) -> None:
    try:
        found = folder.lstat()
    except OSError as error:
        raise SliceAccessError(f"the folder {folder} cannot be used: {error}") from error
    if stat.S_ISDIR(found.st_mode) and found.st_uid in owners and not found.st_mode & _OTHERS_WRITE:
        return
    who = "this user" if os.getuid() in owners else "root" if owners == (0,) else "its owner"
    raise SliceAccessError(
        f"{folder} is not a folder that only {who} can write to",
        hint="remove it, or name another folder for the slices",
    )
