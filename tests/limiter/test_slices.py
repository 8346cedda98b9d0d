"""The Python side: slices are made, read, changed and removed, and nothing in them is believed unseen."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.limits import (
    DeviceLimit,
    Slice,
    SliceAccessError,
    SliceDamagedError,
    SliceExistsError,
    SliceNotFoundError,
)
from aliquot.limits.layout import LayoutError, load
from aliquot.limits.processes import Owner, is_dead, unpack_owner

UUID = "GPU-8f2c9d1e-0a1b-2c3d-4e5f-60718293a4b5"
GIB = 2**30


def test_create_open_change_remove(slice_home: Path) -> None:
    with Slice.create(vram_bytes=GIB, device=UUID, name="training", home=slice_home) as made:
        opened = Slice.open(slice_home / "training")
        assert opened.limits() == (DeviceLimit(vram_bytes=GIB, device=UUID),)
        assert [each.name for each in Slice.all(slice_home)] == ["training"]
        made.set_vram_limit(3 * GIB)
        assert opened.limits()[0].vram_bytes == 3 * GIB
        assert made.usage().vram_used_bytes == 0
    assert Slice.all(slice_home) == []
    with pytest.raises(SliceNotFoundError):
        opened.limits()


def test_several_devices(slice_home: Path) -> None:
    limits = [DeviceLimit(vram_bytes=GIB, device=3), DeviceLimit(vram_bytes=2 * GIB, device=UUID)]
    made = Slice.create_on(limits, home=slice_home)
    made.set_vram_limit(5, index=1)
    assert made.limits() == (limits[0], DeviceLimit(vram_bytes=5, device=UUID))
    with pytest.raises(InvalidValueError):
        made.set_vram_limit(5, index=2)


@pytest.mark.parametrize(
    "arguments",
    [
        {"vram_bytes": -1},
        {"vram_bytes": 2**48},
        {"vram_bytes": 1, "device": -1},
        {"vram_bytes": 1, "device": "GPU-nonsense"},
        {"vram_bytes": 1, "name": "../escape"},
        {"vram_bytes": 1, "name": ".hidden"},
        {"vram_bytes": 1, "name": "n" * 64},
        {"vram_bytes": 1, "driver": Path("/nonexistent/libcuda.so.1")},
    ],
)
def test_values_that_make_no_sense(slice_home: Path, arguments: dict) -> None:
    with pytest.raises(InvalidValueError):
        Slice.create(home=slice_home, **arguments)
    assert list(slice_home.iterdir()) == []


def test_a_device_cannot_be_named_twice(slice_home: Path) -> None:
    twice = [DeviceLimit(vram_bytes=1, device=UUID), DeviceLimit(vram_bytes=1, device=UUID.lower())]
    with pytest.raises(InvalidValueError):
        Slice.create_on(twice, home=slice_home)
    with pytest.raises(InvalidValueError):
        Slice.create_on([], home=slice_home)


def test_a_name_is_taken_once(slice_home: Path) -> None:
    Slice.create(vram_bytes=1, name="a", home=slice_home)
    with pytest.raises(SliceExistsError):
        Slice.create(vram_bytes=1, name="a", home=slice_home)
    assert [entry.name for entry in slice_home.iterdir()] == ["a"]


def test_files_are_as_open_as_they_must_be(slice_home: Path) -> None:
    made = Slice.create(vram_bytes=1, home=slice_home)
    made.set_vram_limit(2)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in made.path.iterdir()}
    assert modes == {"limits": 0o444, "grant": 0o444, "account": 0o600}
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o711


def test_a_home_that_others_may_write_to_is_refused(slice_home: Path, tmp_path: Path) -> None:
    slice_home.chmod(0o777)
    with pytest.raises(SliceAccessError):
        Slice.create(vram_bytes=1, home=slice_home)
    link = tmp_path / "link"
    link.symlink_to("/tmp")
    with pytest.raises(SliceAccessError):
        Slice.create(vram_bytes=1, home=link)


def test_a_link_in_place_of_a_file_is_not_followed(slice_home: Path) -> None:
    made = Slice.create(vram_bytes=1, home=slice_home)
    for name in ("limits", "account", "grant"):
        other = made.path / f"{name}.moved"
        (made.path / name).rename(other)
        (made.path / name).symlink_to(other)
        with pytest.raises(SliceAccessError):
            made.usage()
        (made.path / name).unlink()
        other.rename(made.path / name)
    made.usage()


@pytest.mark.parametrize("name", ["limits", "account", "grant"])
def test_damage_is_noticed(slice_home: Path, name: str) -> None:
    made = Slice.create(vram_bytes=1, home=slice_home)
    file = made.path / name
    file.chmod(0o600)
    content = file.read_bytes()
    for damaged in (b"", content[:-1], b"X" + content[1:], content[:8] + b"\xff" + content[9:]):
        file.write_bytes(damaged)
        with pytest.raises(SliceDamagedError):
            made.usage()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(SliceDamagedError):
        made.usage()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, load().structures["Account"].size - 1), data=st.binary(min_size=1, max_size=3000))
def test_hostile_accounts_are_read_within_bounds(slice_home: Path, at: int, data: bytes) -> None:
    made = Slice.create(vram_bytes=GIB, home=slice_home)
    size = load().structures["Account"].size
    with (made.path / "account").open("r+b") as file:
        file.seek(at)
        file.write(data[: size - at])
    try:
        usage = made.usage()
    except SliceDamagedError:
        pass
    else:
        assert 0 <= usage.vram_used_bytes < 2**63 * 512
        assert usage.work.launches >= 0
        assert all(process.command.isprintable() for process in usage.processes)
    finally:
        made.remove()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, load().structures["Limits"].size - 1), data=st.binary(min_size=1, max_size=600))
def test_hostile_limits_are_read_within_bounds(slice_home: Path, at: int, data: bytes) -> None:
    made = Slice.create(vram_bytes=GIB, home=slice_home)
    content = bytearray((made.path / "limits").read_bytes())
    content[at : at + len(data)] = data[: len(content) - at]
    (made.path / "limits").chmod(0o600)
    (made.path / "limits").write_bytes(content)
    try:
        assert 1 <= len(made.limits()) <= 16
    except SliceDamagedError:
        pass
    finally:
        made.remove()


def test_owner_words_say_who_and_since_when() -> None:
    layout = load()
    word = 4194303 | 5 << 22 | 123456 << 28 | 1 << 63
    assert unpack_owner(word, layout) == Owner(4194303, 5, 123456, True)


def test_who_is_alive() -> None:
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    here = Path("/proc/self/ns/pid").stat().st_ino
    me = Owner(os.getpid(), 1, start, False)
    assert not is_dead(me, [here])
    assert is_dead(Owner(os.getpid(), 1, start - 1, False), [here])
    assert is_dead(Owner(4194303, 1, 7, False), [here])
    assert not is_dead(Owner(4194303, 1, 7, False), [here + 1])  # of another namespace: not for us to say
    assert not is_dead(Owner(4194303, 0, 7, False), [here])


def test_a_layout_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "layout.toml"
    head = 'version = 1\n[constants]\n[[struct]]\nname = "S"\nsize = {}\ndoc = ""\nfields = [{}]\n'
    narrow, wide = '{ name = "a", type = "u32" }', '{ name = "b", type = "u64" }'
    for size, fields in [(16, f"{narrow}, {wide}"), (4, wide), (12, wide), (8, '{ name = "c", type = "S" }')]:
        broken.write_text(head.format(size, fields))
        load.cache_clear()
        with pytest.raises(LayoutError):
            load(broken)
    load.cache_clear()
