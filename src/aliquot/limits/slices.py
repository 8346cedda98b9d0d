"""A slice on this machine: its folder, its limits, and what its processes account for.

The account is written by tenants, so it is read with plain reads and never mapped (a file that a tenant cuts
short must not take the reader down), and every number in it is bounded before it is shown.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import secrets
import shutil
import stat
import time
import uuid as uuids
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aliquot.catalog import default_qos_level
from aliquot.errors import InvalidValueError
from aliquot.limits import accounts, records, standing
from aliquot.limits.errors import SliceAccessError, SliceDamagedError, SliceExistsError, SliceNotFoundError
from aliquot.limits.homes import check_home, default_home, give_passage, make_home
from aliquot.limits.layout import load
from aliquot.limits.standing import Standing
from aliquot.limits.usage import Arbiter, DeviceLimit, SliceUsage
from aliquot.model import UNSTATED, WHOLE_CARD, Ppm, QosLevel

_LIMITS_FILE = "limits"
_ACCOUNT_FILE = "account"
_GRANT_FILE = "grant"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REMOVE_TRIES = 5
_MAXIMUM_VRAM = 2**48 - 1


def _read_whole(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, size, 0)


def _read_used(descriptor: int, size: int) -> bytes:
    """An account as far as it says to be used: the rest is zero, and takes the longer time to read.

    Nothing where the file has another size.
    """
    head = os.pread(descriptor, standing.HEAD_BYTES, 0)
    if os.fstat(descriptor).st_size != size or len(head) != standing.HEAD_BYTES:
        return b""
    return os.pread(descriptor, standing.used_bytes(head), 0).ljust(size, b"\0")


class Slice:
    """A slice of one or more devices. Making one reserves nothing on the card; it states what may be taken.

    As a context manager it removes itself at the end. Opening, reading and changing are safe while programs
    run.
    """

    def __init__(self, path: Path) -> None:
        """Use `create` or `open`."""
        self.path = path

    @classmethod
    def create(
        cls,
        *,
        vram_bytes: int,
        device: int | str = 0,
        compute: Ppm = UNSTATED,
        compute_limit: Ppm = UNSTATED,
        qos: QosLevel | None = None,
        driver: Path | None = None,
        nvml: Path | None = None,
        name: str = "",
        home: Path | None = None,
        tenant_uid: int | None = None,
        allow_unlisted: bool = False,
        fixed: bool = False,
    ) -> Slice:
        """Makes a slice of one device.

        `device` is a UUID (`GPU-...`) or the card's number on this machine. `compute` is the part of the card
        that is guaranteed while others want it, `compute_limit` the most that it gets (0: none asked for, and
        no ceiling), `qos` its level of service (by default the catalogue's). `driver` and `nvml` are the
        libcuda.so.1 and libnvidia-ml.so.1 that its programs reach; without them the limiter searches as the
        loader would. `tenant_uid` is the user whose programs account in it, if that is another one (needs
        root): it can then look into the slice, and no other user but the owner can. `allow_unlisted` lets
        programs have driver functions that are newer than the limiter, and therefore are not limited. `fixed`
        notes that a machine's broker lets nobody but root change or remove it.

        Raises `InvalidValueError`, `SliceExistsError` for a name in use, `SliceAccessError` for an unsafe
        `home`.
        """
        limit = DeviceLimit(
            vram_bytes=vram_bytes,
            device=device,
            compute_request_ppm=compute,
            compute_limit_ppm=compute_limit,
        )
        return cls.create_on(
            [limit],
            qos=qos,
            driver=driver,
            nvml=nvml,
            name=name,
            home=home,
            tenant_uid=tenant_uid,
            allow_unlisted=allow_unlisted,
            fixed=fixed,
        )

    @classmethod
    def create_on(
        cls,
        limits: Sequence[DeviceLimit],
        *,
        qos: QosLevel | None = None,
        driver: Path | None = None,
        nvml: Path | None = None,
        name: str = "",
        home: Path | None = None,
        tenant_uid: int | None = None,
        allow_unlisted: bool = False,
        fixed: bool = False,
    ) -> Slice:
        """A slice of several devices, in the order in which its programs shall see them; see `create`."""
        name = name or f"slice-{secrets.token_hex(6)}"
        _check_name(name)
        _check_limits(limits)
        content = records.new_limits(
            limits,
            name=name,
            driver=driver,
            nvml=nvml,
            qos=qos or default_qos_level(),
            allow_unlisted=allow_unlisted,
            fixed=fixed,
        )
        home = home or default_home()
        make_home(home)
        path = home / name
        unfinished = home / f".{name}.{secrets.token_hex(6)}"
        try:
            _write_folder(unfinished, content, tenant_uid)
            unfinished.rename(path)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise SliceExistsError(f"there is a slice named {name} already") from error
            raise SliceAccessError(f"the slice {name} cannot be made: {error}") from error
        except SliceAccessError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Slice:
        """The slice at `path`. Raises `SliceNotFoundError`, `SliceDamagedError` or `SliceAccessError`."""
        opened = cls(path)
        opened.limits()
        return opened

    @classmethod
    def all(cls, home: Path | None = None) -> list[Slice]:
        """All readable slices of `home`, by name; none where the folder does not exist.

        Raises `SliceAccessError` for a `home` that others can write to, or that is a stranger's.
        """
        home = home or default_home()
        try:
            check_home(home)
            entries = sorted(home.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SliceAccessError(f"the folder {home} cannot be read: {error}") from error
        found: list[Slice] = []
        for entry in entries:
            if not entry.name.startswith("."):
                with suppress(SliceNotFoundError, SliceDamagedError, SliceAccessError):
                    found.append(cls.open(entry))
        return found

    @property
    def name(self) -> str:
        """What people call it: the name of its folder."""
        return self.path.name

    def limits(self) -> tuple[DeviceLimit, ...]:
        """What it may use, for each device. Raises `SliceNotFoundError` or `SliceDamagedError`."""
        return records.read_limits(self._read_limits())

    def qos(self) -> QosLevel:
        """Its level of service. Raises `SliceNotFoundError` or `SliceDamagedError`."""
        return records.read_qos(self._read_limits())

    @property
    def tenant_uid(self) -> int:
        """The user whose programs run on it. Raises `SliceNotFoundError` or `SliceAccessError`."""
        try:
            return (self.path / _ACCOUNT_FILE).lstat().st_uid
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SliceNotFoundError(f"there is no slice at {self.path}") from error
        except OSError as error:
            raise SliceAccessError(f"the slice {self.name} cannot be read: {error}") from error

    @property
    def fixed(self) -> bool:
        """Whether nobody but root may change it. Raises `SliceNotFoundError` or `SliceDamagedError`."""
        return records.read_fixed(self._read_limits())

    def set_vram_limit(self, vram_bytes: int, *, index: int = 0) -> None:
        """Changes a device's limit while programs run; it is in force for the next allocation.

        What is held above a lowered limit stays held, and nothing more is given until it has been freed.
        Raises `InvalidValueError`, and `SliceAccessError` where the slice belongs to somebody else.
        """
        _check_vram(vram_bytes)
        self._change_device(index, {"vram_bytes": vram_bytes})

    def set_compute(self, request: Ppm, limit: Ppm = UNSTATED, *, index: int = 0) -> None:
        """Changes the guaranteed part of a device's compute and the ceiling (0: none) while programs run.

        The arbiter takes it up within 200 ms. Raises `InvalidValueError`, and `SliceAccessError` where the
        slice belongs to somebody else.
        """
        _check_compute(request, limit)
        self._change_device(index, {"compute_request_ppm": request, "compute_limit_ppm": limit})

    def set_qos(self, qos: QosLevel) -> None:
        """Changes the level of service while programs run; otherwise as `set_compute`."""
        with self._writable_limits() as words:
            records.write_qos(words, qos)

    def change(self, limit: DeviceLimit, qos: QosLevel | None = None, *, index: int = 0) -> None:
        """Makes `limit` that of the device while programs run, and changes the level of service if one is
        given; the device itself stays. Raises as `set_vram_limit`."""
        before = self.limits()[index] if 0 <= index < len(self.limits()) else None
        if before is None or limit.vram_bytes != before.vram_bytes:
            self.set_vram_limit(limit.vram_bytes, index=index)
        compute = limit.compute_request_ppm, limit.compute_limit_ppm
        if before is None or compute != (before.compute_request_ppm, before.compute_limit_ppm):
            self.set_compute(*compute, index=index)
        if qos is not None:
            self.set_qos(qos)

    def arbiter(self) -> Arbiter:
        """Who lends it its cards. Raises `SliceNotFoundError` or `SliceDamagedError`."""
        return accounts.read_arbiter(self._read_grant(), now_ns=time.monotonic_ns())

    def usage(self) -> SliceUsage:
        """What it uses now. Processes that are gone are not counted, whether or not they said good-bye."""
        account = self._read(_ACCOUNT_FILE, load().structures["Account"].size)
        grant = self._read_grant()
        return accounts.read_usage(account, grant, self.limits(), now_ns=time.monotonic_ns())

    def standing(self) -> Standing:
        """Its terms, and who says to be on it: for who compares that with the cards' own figures.

        An account that its tenants have damaged names nobody. Raises `SliceNotFoundError`,
        `SliceAccessError`, and `SliceDamagedError` where what its owner wrote cannot be read.
        """
        content = self._read_limits()
        limits = records.read_limits(content)
        grant = self._read_grant()
        try:
            file = (self.path / _ACCOUNT_FILE).lstat()
            account = self._read(_ACCOUNT_FILE, load().structures["Account"].size, read=_read_used)
        except SliceDamagedError:
            account = b""
        except FileNotFoundError as error:
            raise SliceNotFoundError(f"there is no slice at {self.path}") from error
        return Standing(
            account=(file.st_dev, file.st_ino),
            tenant_uid=file.st_uid,
            limits=limits,
            generation=records.read_generation(content),
            preempts=records.read_qos(content).preempts,
            held_ns=standing.read_held_ns(grant, len(limits)),
            arbiter=accounts.read_arbiter(grant, now_ns=time.monotonic_ns()),
            members=standing.read_members(account, len(limits)),
        )

    def cut_to_size(self) -> None:
        """Takes away what a tenant has appended to its account, so that it does not fill the memory of
        others."""
        size = load().structures["Account"].size
        with suppress(OSError):
            # Not to wait for it: its owner may hold a lease on it (fcntl(2), F_SETLEASE).
            how = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(self.path / _ACCOUNT_FILE, how)
            try:
                if os.fstat(descriptor).st_size > size:
                    os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)

    def remove(self) -> None:
        """Removes it. Programs that still run on it keep its last limits; new ones cannot join."""
        for left in reversed(range(_REMOVE_TRIES)):
            try:
                shutil.rmtree(self.path)
                return
            except FileNotFoundError:
                return
            except OSError as error:
                # The arbiter may have made its socket while the folder was being emptied.
                if error.errno != errno.ENOTEMPTY or not left:
                    raise SliceAccessError(f"the slice {self.name} cannot be removed: {error}") from error

    def __enter__(self) -> Slice:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"Slice({str(self.path)!r})"

    def _read_limits(self) -> bytes:
        return self._read(_LIMITS_FILE, load().structures["Limits"].size)

    def _read_grant(self) -> bytes:
        return self._read(_GRANT_FILE, load().structures["Grant"].size)

    def _change_device(self, index: int, changes: Mapping[str, int]) -> None:
        if not 0 <= index < len(self.limits()):
            raise InvalidValueError(f"the slice {self.name} has no device {index}")
        with self._writable_limits() as words:
            records.write_device(words, index, changes)

    def _read(self, file: str, size: int, *, read: Callable[[int, int], bytes] = _read_whole) -> bytes:
        try:
            descriptor = os.open(self.path / file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SliceNotFoundError(f"there is no slice at {self.path}") from error
        except OSError as error:
            raise SliceAccessError(f"the slice {self.name} cannot be read: {error}") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SliceDamagedError(f"{self.path / file} is not a file")
            content = read(descriptor, size)
        finally:
            os.close(descriptor)
        if len(content) != size:
            raise SliceDamagedError(f"{self.path / file} has {len(content)} bytes instead of {size}")
        return content

    @contextmanager
    def _writable_limits(self) -> Iterator[memoryview]:
        """The limits as a view of 64-bit words, each of which is stored whole; one writer at a time.

        Slices of others have one writer, root's broker, and no lock: their tenants could hold it for ever.
        """
        path = self.path / _LIMITS_FILE
        try:
            descriptor = _open_for_change(path)
        except FileNotFoundError as error:
            raise SliceNotFoundError(f"there is no slice at {self.path}") from error
        except OSError as error:
            raise SliceAccessError(f"the limits of {self.name} cannot be changed: {error}") from error
        try:
            if self.tenant_uid == os.getuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            with (
                mmap.mmap(descriptor, load().structures["Limits"].size) as mapping,
                memoryview(mapping) as octets,
                octets.cast("Q") as words,
            ):
                yield words
        finally:
            os.close(descriptor)


def _open_for_change(path: Path) -> int:
    """The file is kept without write permission, against accidents; its owner takes it for the opening
    only."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, 0o644)
        try:
            return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        finally:
            os.fchmod(descriptor, 0o444)
    finally:
        os.close(descriptor)


def _write_folder(folder: Path, limits: bytes, tenant_uid: int | None) -> None:
    folder.mkdir(mode=0o700)
    _write_file(folder / _LIMITS_FILE, limits, 0o444)
    _write_file(folder / _GRANT_FILE, accounts.new_grant(), 0o444)
    _write_file(folder / _ACCOUNT_FILE, accounts.new_account(), 0o600)
    if tenant_uid is not None and tenant_uid != os.getuid():
        os.chown(folder / _ACCOUNT_FILE, tenant_uid, -1)
        give_passage(folder, tenant_uid)


def _write_file(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # All of it, now: a page that is not there when somebody has filled the memory would kill who maps it.
        os.posix_fallocate(descriptor, 0, len(content))
        for at in range(0, len(content), mmap.PAGESIZE):
            page = content[at : at + mmap.PAGESIZE]
            if page != bytes(len(page)):
                os.pwrite(descriptor, page, at)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _check_name(name: str) -> None:
    longest = load().number("name_bytes") - 1
    if not _NAME.fullmatch(name) or len(name.encode()) > longest:
        raise InvalidValueError(f"{name!r} is not a name: up to {longest} letters, digits, '.', '_' and '-'")


def _check_limits(limits: Sequence[DeviceLimit]) -> None:
    most = load().number("max_devices")
    if not 1 <= len(limits) <= most:
        raise InvalidValueError(f"a slice has 1 to {most} devices, not {len(limits)}")
    for limit in limits:
        _check_vram(limit.vram_bytes)
        _check_compute(limit.compute_request_ppm, limit.compute_limit_ppm)
    if len({_identity(limit.device) for limit in limits}) != len(limits):
        raise InvalidValueError("a device is named twice")


def _check_vram(vram_bytes: int) -> None:
    if not 0 <= vram_bytes <= _MAXIMUM_VRAM:
        raise InvalidValueError(f"a limit is 0 to {_MAXIMUM_VRAM} bytes, not {vram_bytes}")


def _check_compute(request: int, limit: int) -> None:
    if not 0 <= request <= WHOLE_CARD or not 0 <= limit <= WHOLE_CARD:
        raise InvalidValueError(f"a part of a card is 0 to {WHOLE_CARD} millionths, not {request} or {limit}")
    if 0 < limit < request:
        raise InvalidValueError(f"a ceiling of {limit} ppm is below the {request} ppm that are guaranteed")


def _identity(device: int | str) -> int | uuids.UUID:
    return records.parse_uuid(device) if isinstance(device, str) else device
