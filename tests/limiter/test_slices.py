"""The Python side: slices are made, read, changed and removed, and nothing in them is believed unseen."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aliquot.catalog import qos_level
from aliquot.errors import InvalidValueError
from aliquot.limits import (
    Arbiter,
    DeviceLimit,
    Slice,
    SliceAccessError,
    SliceDamagedError,
    SliceExistsError,
    SliceNotFoundError,
)
from aliquot.limits.layout import LayoutError, load
from aliquot.limits.processes import Owner, is_dead, unpack_owner
from aliquot.limits.records import read_generation
from aliquot.model import Ppm, QosLevel, percent

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


def test_compute_and_level_of_service_change_live(slice_home: Path) -> None:
    critical = qos_level("critical")
    made = Slice.create(
        vram_bytes=GIB, compute=percent(30), compute_limit=percent(50), qos=critical, home=slice_home
    )
    opened = Slice.open(made.path)
    assert opened.limits()[0].compute_request_ppm == 300_000
    assert opened.limits()[0].compute_limit_ppm == 500_000
    assert opened.qos() == replace(critical, summary="")
    made.set_compute(percent(10))
    made.set_qos(QosLevel(name="mine", rank=7, preempts=False, neighbour_in_flight_ns=5, idle_window_ns=9))
    assert opened.limits() == (DeviceLimit(vram_bytes=GIB, compute_request_ppm=percent(10)),)
    assert (opened.qos().name, opened.qos().rank, opened.qos().idle_window_ns) == ("mine", 7, 9)
    assert Slice.create(vram_bytes=1, home=slice_home).qos().name == "medium"


def test_each_change_is_a_generation(slice_home: Path) -> None:
    made = Slice.create(vram_bytes=GIB, home=slice_home)
    seen = [read_generation((made.path / "limits").read_bytes())]
    for change in (
        lambda: made.set_vram_limit(1),
        lambda: made.set_compute(percent(1), percent(2)),
        lambda: made.set_qos(qos_level("low")),
    ):
        change()
        seen.append(read_generation((made.path / "limits").read_bytes()))
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("request_ppm", "limit_ppm"), [(-1, 0), (1_000_001, 0), (0, 1_000_001), (500_000, 400_000)]
)
def test_parts_of_a_card_that_cannot_be(slice_home: Path, request_ppm: int, limit_ppm: int) -> None:
    made = Slice.create(vram_bytes=GIB, home=slice_home)
    with pytest.raises(InvalidValueError):
        made.set_compute(Ppm(request_ppm), Ppm(limit_ppm))
    with pytest.raises(InvalidValueError):
        Slice.create(vram_bytes=1, compute=Ppm(request_ppm), compute_limit=Ppm(limit_ppm), home=slice_home)
    assert made.limits() == (DeviceLimit(vram_bytes=GIB),)


def test_what_the_arbiter_lends_is_shown(slice_home: Path) -> None:
    made = Slice.create(vram_bytes=GIB, home=slice_home)
    assert not made.arbiter().alive
    layout = load()
    grant, lent = layout.structures["Grant"], layout.structures["DeviceGrant"]
    words = {
        grant.offset("epoch"): 3,
        grant.offset("alive_ns"): time.monotonic_ns(),
        grant.offset("devices") + lent.offset("turn"): 2 * 21 + 1,
        grant.offset("devices") + lent.offset("flags"): layout.number("grant_contended"),
        grant.offset("devices") + lent.offset("held_ns"): 5_000_000,
        grant.offset("devices") + lent.offset("waited_ns"): 7_000_000,
        grant.offset("devices") + lent.offset("share_ppm"): 300_000,
    }
    write_words(made.path / "grant", words)
    usage = made.usage()
    assert usage.arbiter == Arbiter(epoch=3, alive=True)
    device = usage.devices[0]
    assert (device.held_ns, device.waited_ns, device.share_ppm) == (5_000_000, 7_000_000, 300_000)
    assert device.has_turn
    assert device.contended
    write_words(made.path / "grant", {grant.offset("alive_ns"): time.monotonic_ns() - 600_000_000})
    assert not made.arbiter().alive


def test_what_a_process_sent_to_its_card_is_shown(slice_home: Path) -> None:
    made = Slice.create(vram_bytes=GIB, home=slice_home)
    layout = load()
    account, process, work = (layout.structures[name] for name in ("Account", "Process", "DeviceWork"))
    start = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    slot = account.offset("processes", 1)
    at = slot + process.offset("work")
    write_words(
        made.path / "account",
        {
            account.offset("slots_used"): 2,
            account.offset("pid_namespaces"): Path("/proc/self/ns/pid").stat().st_ino,
            slot + process.offset("owner"): os.getpid() | 1 << 22 | start << 28,
            at + work.offset("admitted_ns"): 900,
            at + work.offset("finished_ns"): 400,
            at + work.offset("gpu_ns"): 350,
            at + work.offset("held_back_ns"): 60,
        },
    )
    (seen,) = made.usage().processes
    assert (seen.pid, seen.gpu_ns, seen.held_back_ns, seen.in_flight_ns) == (
        os.getpid(),
        (350,),
        (60,),
        (500,),
    )
    assert (made.usage().devices[0].gpu_ns, made.usage().devices[0].held_back_ns) == (350, 60)


def write_words(file: Path, words: dict[int, int]) -> None:
    file.chmod(0o600)
    with file.open("r+b") as content:
        for at, value in words.items():
            content.seek(at)
            content.write(value.to_bytes(8, "little"))


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
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700


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


def account_is_sane(made: Slice) -> None:
    usage = made.usage()
    assert 0 <= usage.vram_used_bytes < 2**63 * 512
    assert usage.work.launches >= 0
    assert all(process.command.isprintable() for process in usage.processes)


def limits_are_sane(made: Slice) -> None:
    assert 1 <= len(made.limits()) <= 16
    assert all(0 <= limit.compute_request_ppm <= 1_000_000 for limit in made.limits())
    assert made.qos().name.isprintable()


def grant_is_sane(made: Slice) -> None:
    device = made.usage().devices[0]
    assert 0 <= device.share_ppm <= 1_000_000
    assert all(0 <= each < 2**63 for each in (device.held_ns, device.waited_ns, device.turns))


@pytest.mark.parametrize(
    ("name", "shape", "is_sane"),
    [
        ("account", "Account", account_is_sane),
        ("limits", "Limits", limits_are_sane),
        ("grant", "Grant", grant_is_sane),
    ],
)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 2**30), data=st.binary(min_size=1, max_size=3000))
def test_hostile_files_are_read_within_bounds(
    slice_home: Path, name: str, shape: str, is_sane: Callable[[Slice], None], where: int, data: bytes
) -> None:
    made = Slice.create(vram_bytes=GIB, home=slice_home)
    size = load().structures[shape].size
    at = where % size
    (made.path / name).chmod(0o600)
    with (made.path / name).open("r+b") as file:
        file.seek(at)
        file.write(data[: size - at])
    with made, suppress(SliceDamagedError):
        is_sane(made)


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
