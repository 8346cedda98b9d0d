"""What a slice says of its processes to who judges them, from accounts that tenants wrote as they liked."""

from __future__ import annotations

import os
import random
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aliquot.limits import Slice, SliceDamagedError, SliceNotFoundError, homes
from aliquot.limits.accounts import new_account
from aliquot.limits.layout import load
from aliquot.limits.standing import read_members
from aliquot.model import DeviceKind, percent
from aliquot.node.guard import slices

MIB = 1 << 20
SHAPE = load().structures
ACCOUNT = new_account()


def put(account: bytearray, at: int, value: int) -> None:
    struct.pack_into("<Q", account, at, value % 2**64)


def place(slot: int, field: str, index: int = 0) -> int:
    return SHAPE["Account"].offset("processes", slot) + SHAPE["Process"].offset(field, index)


def shared(index: int, **values: int) -> dict[int, int]:
    at = SHAPE["Account"].offset("shared", index)
    return {at + SHAPE["SharedMemory"].offset(field): value for field, value in values.items()}


def owner(pid: int, start: int, namespace: int = 1, claiming: int = 0) -> int:
    return pid | namespace << 22 | start << 28 | claiming << 63


def test_members_are_those_that_the_account_names() -> None:
    account = bytearray(ACCOUNT)
    put(account, SHAPE["Account"].offset("slots_used"), 4)
    put(account, SHAPE["Account"].offset("pid_namespaces"), 77)
    put(account, place(0, "owner"), owner(10, 1000))
    put(account, place(1, "owner"), owner(11, 1001, claiming=1))  # holds nothing yet
    put(account, place(3, "owner"), owner(13, 0, namespace=0))
    put(account, place(4, "owner"), owner(14, 1004))  # no slot from there on was ever taken
    held = SHAPE["DeviceAccount"].offset("held")
    put(account, place(0, "devices", 1) + held, 5 * MIB)
    entries = {
        **shared(0, holder=owner(10, 1000), maker=owner(99, 1), bytes=MIB, device=1),
        **shared(1, holder=owner(10, 1000), maker=owner(10, 1000), bytes=MIB, device=1),  # its own
        **shared(2, holder=owner(10, 1000), maker=owner(98, 1), bytes=MIB, device=9),  # no such device
        **shared(3, holder=owner(10, 1000), maker=owner(97, 1), bytes=MIB, device=1),  # behind the last one
    }
    put(account, SHAPE["Account"].offset("shared_used"), 3)
    for at, value in entries.items():
        put(account, at, value)
    first, last = read_members(bytes(account), 2)
    assert (first.pid, first.start_ticks, first.pid_namespace) == (10, 1000, 77)
    assert (first.held_bytes, first.opened_bytes) == ((0, 5 * MIB), (0, MIB))
    assert (last.pid, last.start_ticks, last.pid_namespace) == (13, 0, 0)


@given(st.integers(0, 2**32), st.integers(1, 16))
@settings(max_examples=60, deadline=None)
def test_any_account_is_read_in_bounds(seed: int, devices: int) -> None:
    dice = random.Random(seed)
    account = bytearray(ACCOUNT)
    put(account, SHAPE["Account"].offset("slots_used"), dice.choice((0, 1, 3, 512, 2**63, 2**64 - 1)))
    put(account, SHAPE["Account"].offset("shared_used"), dice.choice((0, 2, 512, 2**64 - 1)))
    for _ in range(dice.randrange(200)):
        at = dice.randrange(16, len(account) - 8)
        account[at : at + 8] = dice.choice((bytes(8), b"\xff" * 8, dice.randbytes(8)))
    for slot in range(dice.randrange(8)):
        put(account, place(slot, "owner"), dice.getrandbits(64))
    members = read_members(bytes(account), devices)
    assert len(members) <= load().number("max_processes")
    for each in members:
        assert len(each.held_bytes) == len(each.opened_bytes) == devices
        assert all(0 <= size < 2**63 for size in each.held_bytes)
        assert 0 <= each.pid < 2**22
        assert each.command.isprintable()


@pytest.mark.parametrize("content", [b"", ACCOUNT[:-1], ACCOUNT + b"\0", b"\xff" * len(ACCOUNT)])
def test_a_damaged_account_names_nobody(content: bytes) -> None:
    assert read_members(content, 1) == ()


def test_the_worst_account_takes_no_time(slice_home: Path) -> None:
    """All places taken, all devices, all entries of shared memory: a look is not held up by it."""
    account = bytearray(b"\xff" * len(ACCOUNT))
    account[:16] = ACCOUNT[:16]
    for slot in range(512):
        put(account, place(slot, "owner"), owner(slot + 1, 5))
    begin = time.process_time()
    assert len(read_members(bytes(account), 16)) == 512
    assert time.process_time() - begin < 0.5


def test_a_slice_as_it_stands(slice_home: Path) -> None:
    with Slice.create(vram_bytes=64 * MIB, compute=percent(30), home=slice_home) as made:
        found = made.standing()
        account = (made.path / "account").stat()
        assert found.account == (account.st_dev, account.st_ino)
        assert found.tenant_uid == os.getuid()
        assert found.limits == made.limits()
        assert (found.generation, found.preempts, found.held_ns, found.members) == (1, False, (0,), ())
        made.set_vram_limit(32 * MIB)
        assert made.standing().generation == 2
        os.truncate(made.path / "account", 100)  # its tenants'
        assert made.standing().members == ()
        (made.path / "limits").chmod(0o644)
        os.truncate(made.path / "limits", 100)  # its owner's
        with pytest.raises(SliceDamagedError):
            made.standing()
    with pytest.raises(SliceNotFoundError):
        made.standing()


def test_slices_as_the_guard_sees_them(slice_home: Path) -> None:
    uuid = "GPU-8f2c9d1e-0a1b-2c3d-4e5f-60718293a4b5"
    one = Slice.create(vram_bytes=64 * MIB, device=1, home=slice_home, name="one")
    Slice.create(vram_bytes=64 * MIB, device=uuid, home=slice_home, name="two")
    torn = Slice.create(vram_bytes=64 * MIB, home=slice_home, name="torn")
    (torn.path / "limits").unlink()
    (torn.path / "limits").write_bytes(b"")
    empty = slice_home / "empty"
    empty.mkdir()
    (slice_home / "file").touch()
    (slice_home / "link").symlink_to(one.path)
    pipe = slice_home / "pipe"
    pipe.mkdir()
    os.mkfifo(pipe / "limits")
    found = {each.name: each for each in slices.views([slice_home, slice_home / "none"], {1: "GPU-1"})}
    assert sorted(found) == ["link", "one", "torn", "two"]
    assert set(found["one"].terms) == {"GPU-1"}
    assert set(found["two"].terms) == {uuid}
    assert found["link"].account == found["one"].account
    assert [each.judged for each in (found["one"], found["torn"])] == [True, False]


@pytest.mark.skipif(os.getuid() != 0, reason="a machine's home is root's")
def test_whose_slices_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIQUOT_SYSTEM_HOME", str(tmp_path))
    assert slices.find_homes(["/srv/slices"], DeviceKind.REAL) == [Path("/srv/slices")]
    without = slices.find_homes([], DeviceKind.REAL)
    assert without == homes()
    theirs = tmp_path / "people" / "1000"
    theirs.mkdir(parents=True)
    assert slices.find_homes([], DeviceKind.REAL) == [theirs]  # what people made for themselves does not
    assert slices.find_homes([], DeviceKind.SIMULATED) == [*without, theirs]
    theirs.chmod(0o777)
    assert slices.find_homes([], DeviceKind.REAL) == []
