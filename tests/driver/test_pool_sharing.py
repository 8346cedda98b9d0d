"""Memory pools shared between processes, and with other cards."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .sharing import Process

MIB = 1 << 20
INVALID_VALUE, NOT_SUPPORTED = 1, 801
PTX = Path(__file__).parent / "ptx" / "kernels.ptx"


class Pair:
    """An owner of a shared pool `m` with an allocation `p` in it, and a guest that has imported the pool."""

    def __init__(self, owner: Process, guest: Process, path: Path) -> None:
        self.owner, self.guest, self._path = owner, guest, path
        owner.do("m := pool()")
        self.hand_over("export_pool(m)")
        guest.do("m = try_import_pool(fd)[1]")

    def hand_over(self, expression: str) -> None:
        """Sends a descriptor of the owner to the guest, who calls it `fd`."""
        self.guest.do(f"listener = socket.socket(socket.AF_UNIX); listener.bind({str(self._path)!r})")
        self.guest.do("listener.listen()")
        self.guest.begin("fd := receive_fd(listener)")
        self.owner.do(f"(fd := {expression}, send_fd({str(self._path)!r}, fd), os.close(fd))")
        self.guest.answer()
        self.guest.do("listener.close()")
        self._path.unlink()

    def share(self, bytes_: int) -> int:
        """The guest's address of a fresh allocation of the owner, which is full of ones."""
        self.owner.do(f"p := alloc_from(m, {bytes_})")
        self.owner.do(f"fill(p, 1, {bytes_})")
        code, address = self.guest.do(f"try_import_pointer(m, {self.owner.do('export_pointer(p)')!r})")
        assert code == 0
        return address


@pytest.fixture
def environment(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    return {**simgpu_env, "ALIQUOT_SIMGPU": "h100:2,t4:1", "ALIQUOT_SIMGPU_THREADS": "1"}


@pytest.fixture
def pair(environment: Mapping[str, str], tmp_path: Path) -> Iterator[Pair]:
    owner, guest = Process(environment), Process(environment)
    try:
        yield Pair(owner, guest, tmp_path / "socket")
    finally:
        owner.kill()
        guest.kill()


@pytest.fixture
def process(environment: Mapping[str, str]) -> Iterator[Process]:
    made = Process(environment)
    yield made
    made.kill()


@pytest.mark.parametrize("bytes_", [600, 4 * MIB])
def test_memory_is_the_same_for_both(pair: Pair, bytes_: int) -> None:
    there = pair.share(bytes_)
    assert pair.guest.do(f"read({there}, {bytes_})") == b"\1" * bytes_
    pair.guest.do(f"fill({there} + 3, 9, 2)")
    assert pair.owner.do("read(p, 6)") == b"\1\1\1\11\11\1"
    other = pair.share(bytes_)
    assert other != there
    pair.guest.do(f"fill({other}, 7, {bytes_})")
    assert pair.guest.do(f"read({there}, 3)") == b"\1\1\1"


@pytest.mark.parametrize("free", ["cuda.cuMemFree_v2(u64({}))", "cuda.cuMemFreeAsync(u64({}), None)"])
def test_freeing_an_import_leaves_the_original(pair: Pair, free: str) -> None:
    there = pair.share(2 * MIB)
    assert pair.guest.do(free.format(there)) == 0
    pair.guest.do("check(cuda.cuCtxSynchronize())")
    assert pair.guest.do(free.format(there)) == INVALID_VALUE
    assert pair.owner.do("read(p, 4)") == b"\1" * 4
    assert pair.owner.do("cuda.cuMemFreeAsync(u64(p), None)") == 0


def test_an_imported_pool_gives_no_memory(pair: Pair) -> None:
    there = pair.share(2 * MIB)
    guest = pair.guest
    assert guest.do("cuda.cuMemAllocFromPoolAsync(ctypes.byref(u64()), size(64), m, None)") == INVALID_VALUE
    assert guest.do("cuda.cuDeviceSetMemPool(0, m)") == INVALID_VALUE
    export = "cuda.cuMemPoolExportToShareableHandle(ctypes.byref(ctypes.c_int()), m, 1, u64(0))"
    assert guest.do(export) == INVALID_VALUE
    assert guest.do(f"cuda.cuMemPoolExportPointer(ctypes.byref(Handle()), u64({there}))") == INVALID_VALUE
    assert guest.do("cuda.cuMemPoolDestroy(m)") == 0
    assert guest.do(f"read({there}, 4)") == b"\1" * 4


def test_refusals(pair: Pair) -> None:
    owner, guest = pair.owner, pair.guest
    text = owner.do("export_pointer(p := alloc_from(m, 4096))")
    owner.do("own := pool(handle_types=0)")
    export = "cuda.cuMemPoolExportToShareableHandle(ctypes.byref(ctypes.c_int()), {}, {}, u64({}))"
    for pool, kind, flags in (("own", 1, 0), ("m", 2, 0), ("m", 0, 0), ("m", 1, 1), ("None", 1, 0)):
        assert owner.do(export.format(pool, kind, flags)) == INVALID_VALUE
    assert owner.do("cuda.cuMemPoolExportToShareableHandle(None, m, 1, u64(0))") == INVALID_VALUE
    for address in ("p + 1", "alloc_from(own, 64)", "alloc(64)", "0", "1 << 40"):
        code = owner.do(f"cuda.cuMemPoolExportPointer(ctypes.byref(Handle()), u64({address}))")
        assert code == INVALID_VALUE, address
    assert owner.do("cuda.cuMemPoolExportPointer(None, u64(p))") == INVALID_VALUE
    assert owner.do(f"try_import_pointer(m, {text!r})[0]") == INVALID_VALUE  # not an imported pool
    assert guest.do("try_import_pool(99)[0]") == guest.do("try_import_pool(-1)[0]") == INVALID_VALUE
    assert guest.do("try_import_pool(os.open('/dev/null', os.O_RDWR))[0]") == INVALID_VALUE
    owner.do("first, m = m, pool()")
    foreign = owner.do("export_pointer(alloc_from(m, 4096))")
    assert guest.do(f"try_import_pointer(m, {foreign!r})[0]") == INVALID_VALUE  # of another pool


def test_imports_outlive_the_owner_and_are_counted_once(pair: Pair, process: Process) -> None:
    before = process.do("used()")
    there = pair.share(32 * MIB)
    assert process.do("used()") - before == 32 * MIB
    pair.owner.signal(signal.SIGKILL)
    pair.owner.kill()
    assert pair.guest.do(f"read({there} + {16 * MIB}, 4)") == b"\1" * 4
    time.sleep(0.05)  # the machine looks for the dead every 10 ms
    orphaned = process.do("used()")
    pair.guest.do(f"check(cuda.cuMemFree_v2(u64({there})))")
    assert orphaned - process.do("used()") == 32 * MIB


def test_killed_guests_leave_the_owner_alone(pair: Pair) -> None:
    pair.share(4 * MIB)
    pair.guest.kill()
    assert pair.owner.do("read(p, 4)") == b"\1" * 4
    assert pair.owner.do("cuda.cuMemFreeAsync(u64(p), None), cuda.cuCtxSynchronize()") == (0, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_hostile_data(pair: Pair, data: st.DataObject) -> None:
    if not hasattr(pair, "text"):
        pair.text = pair.owner.do("export_pointer(alloc_from(m, 4096))")  # type: ignore[attr-defined]
    text = bytearray(bytes.fromhex(pair.text))  # type: ignore[attr-defined]
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, 63))] ^= data.draw(st.integers(1, 255))
    if text.hex() != pair.text:  # type: ignore[attr-defined]
        assert pair.guest.do(f"try_import_pointer(m, {text.hex()!r})[0]") == INVALID_VALUE


ACCESS = "cuda.cuMemPoolSetAccess(m, ctypes.byref(Access(Location(1, {}), {})), size(1))"
READ_WRITE, READ, NONE = 3, 1, 0


def test_access_of_other_cards(process: Process) -> None:
    """Kernels of a peer touch a pool's memory if the pool says so, whatever contexts were enabled."""
    process.do("m := pool(0)")
    process.do("p := alloc_from(m, 4096)")
    ask = "cuda.cuMemPoolGetAccess(ctypes.byref(f), m, ctypes.byref(Location(1, {})))"
    flags = f"(f := ctypes.c_int(9), {ask}, f.value)[1:]"
    assert process.do(flags.format(0)) == (0, READ_WRITE)
    assert process.do(flags.format(1)) == (0, NONE)
    assert process.do(ACCESS.format(2, READ_WRITE)) == INVALID_VALUE  # a T4 cannot reach an H100
    assert process.do(ACCESS.format(7, READ_WRITE)) == INVALID_VALUE
    assert process.do(ACCESS.format(0, NONE)) == INVALID_VALUE
    assert process.do(ACCESS.format(1, READ)) == NOT_SUPPORTED
    assert process.do(ACCESS.format(1, 7)) == INVALID_VALUE
    process.do("first, context = context, start(1)")
    process.do("check(cuda.cuCtxEnablePeerAccess(first, 0))")
    process.do(f"text = open({str(PTX)!r}, 'rb').read() + bytes(1)")
    process.do("module, store = ctypes.c_void_p(), ctypes.c_void_p()")
    process.do("check(cuda.cuModuleLoadData(ctypes.byref(module), text))")
    process.do("check(cuda.cuModuleGetFunction(ctypes.byref(store), module, b'store'))")
    process.do("parameter = u64(p)")
    launch = (
        "cuda.cuLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, None, "
        "(ctypes.c_void_p * 1)(ctypes.addressof(parameter)), None), cuda.cuCtxSynchronize()"
    )
    assert process.do(ACCESS.format(1, READ_WRITE)) == 0
    assert process.do(flags.format(1)) == (0, READ_WRITE)
    assert process.do(launch) == (0, 0)
    assert process.do(ACCESS.format(1, NONE)) == 0
    assert process.do(launch) == (0, 700)  # ILLEGAL_ADDRESS
