"""Every way to take device memory is charged, refunded, and refused past the limit."""

from __future__ import annotations

import pytest

from .conftest import LIMIT, MIB, Limited

pytestmark = pytest.mark.sanitized


def test_the_limit_is_exact_to_the_byte(limited: Limited) -> None:
    limited.run(
        """
        cuda = Cuda().start()
        first = cuda.allocate(60 * MIB)
        assert cuda.try_allocate(4 * MIB + 1)[0] == OUT_OF_MEMORY
        assert cuda.info() == (4 * MIB, 64 * MIB)
        cuda.allocate(4 * MIB)
        assert cuda.info() == (0, 64 * MIB)
        assert cuda.try_allocate(1)[0] == OUT_OF_MEMORY
        cuda.free(first)
        assert cuda.info() == (60 * MIB, 64 * MIB)
        cuda.allocate(60 * MIB)
        """
    )


def test_a_refusal_is_explained_once_in_a_while(limited: Limited) -> None:
    _, err = limited.run(
        """
        cuda = Cuda().start()
        cuda.allocate(60 * MIB)
        for _ in range(1000):
            assert cuda.try_allocate(8 * MIB)[0] == OUT_OF_MEMORY
        """
    )
    lines = err.splitlines()
    assert 1 <= len(lines) <= 12
    assert lines[0] == (
        f"aliquot: out of memory: {8 * MIB} bytes asked for, "
        f"the slice holds {60 * MIB} of the {LIMIT} that it is allowed"
    )


def test_small_and_large_allocations_are_charged_their_physical_size(limited: Limited) -> None:
    """What is larger than half a block has blocks of its own."""
    limited.run(
        """
        cuda = Cuda().start()
        sizes = [(1, 2 * MIB), (512, 2 * MIB), (MIB, 2 * MIB), (MIB + 1, 2 * MIB), (3 * MIB, 4 * MIB)]
        for size, charged in sizes:
            address = cuda.allocate(size)
            assert cuda.used() == charged, (size, cuda.used())
            cuda.free(address)
            assert cuda.used() == 0
        """
    )


def test_small_allocations_share_blocks(limited: Limited) -> None:
    """A block is charged from its first to its last allocation.

    A driver that does not use one at the limit (this one never uses an address again) is refused, and what it
    gave goes back.
    """
    limited.run(
        """
        cuda = Cuda().start()
        first, second = cuda.allocate(1000), cuda.allocate(MIB // 2)
        assert first // BLOCK == second // BLOCK
        assert cuda.used() == BLOCK
        large = cuda.allocate(64 * MIB - BLOCK)
        assert cuda.try_allocate(MIB // 2)[0] == OUT_OF_MEMORY
        assert cuda.used() == 64 * MIB
        cuda.free(large)
        cuda.free(first)
        assert cuda.used() == BLOCK
        cuda.free(second)
        assert cuda.used() == 0
        """
    )


def test_what_the_driver_refuses_is_not_charged(limited: Limited) -> None:
    limited.run(
        """
        cuda = Cuda().start()
        assert cuda.try_allocate(0)[0] == INVALID_VALUE
        assert cuda.call("cuMemAlloc_v2", None, MIB) == INVALID_VALUE
        assert cuda.used() == 0
        assert cuda.try_allocate(2**64 - 1)[0] == OUT_OF_MEMORY
        assert cuda.try_allocate(2**48)[0] == OUT_OF_MEMORY
        assert cuda.used() == 0
        """
    )


def test_freeing_what_was_never_allocated_is_for_the_driver_to_judge(limited: Limited) -> None:
    limited.run(
        """
        cuda = Cuda().start()
        address = cuda.allocate(BLOCK)
        assert cuda.call("cuMemFree_v2", 0) == INVALID_VALUE
        assert cuda.call("cuMemFree_v2", 512) == INVALID_VALUE
        assert cuda.call("cuMemFree_v2", address + 512) == SUCCESS  # this driver takes any
        assert cuda.used() == BLOCK
        cuda.free(address)
        cuda.free(address)
        assert cuda.used() == 0
        """
    )


def test_pitched_managed_and_asynchronous_memory(limited: Limited) -> None:
    limited.run(
        """
        cuda = Cuda().start()
        address, pitch = ctypes.c_uint64(), ctypes.c_size_t()
        outputs, element = (ctypes.byref(address), ctypes.byref(pitch)), ctypes.c_uint(4)
        cuda.check("cuMemAllocPitch_v2", *outputs, 1000, 4096, element)
        assert (pitch.value, cuda.used()) == (1024, 4 * MIB)
        cuda.free(address.value)
        assert cuda.call("cuMemAllocPitch_v2", *outputs, 2**24, 2**20, element) == OUT_OF_MEMORY
        assert cuda.used() == 0

        cuda.check("cuMemAllocManaged", ctypes.byref(address), 8 * MIB, ctypes.c_uint(1))
        assert cuda.used() == 8 * MIB
        cuda.free(address.value)
        too_much = ctypes.byref(address), 66 * MIB, ctypes.c_uint(1)
        assert cuda.call("cuMemAllocManaged", *too_much) == OUT_OF_MEMORY

        for allocate in ("cuMemAllocAsync", "cuMemAllocAsync_ptsz"):
            for free in ("cuMemFreeAsync", "cuMemFreeAsync_ptsz"):
                cuda.check(allocate, ctypes.byref(address), 62 * MIB, None)
                assert cuda.used() == 62 * MIB, allocate
                assert cuda.call(allocate, ctypes.byref(ctypes.c_uint64()), 4 * MIB, None) == OUT_OF_MEMORY
                cuda.check(free, address.value, None)
                assert cuda.used() == 0, free
        cuda.check("cuMemAllocAsync", ctypes.byref(address), 62 * MIB, None)
        cuda.free(address.value)
        assert cuda.used() == 0
        """
    )


def test_arrays_and_mipmaps(limited: Limited) -> None:
    limited.run(
        """
        class Array(ctypes.Structure):
            _fields_ = [("width", ctypes.c_size_t), ("height", ctypes.c_size_t),
                        ("format", ctypes.c_uint), ("channels", ctypes.c_uint)]

        class Array3D(ctypes.Structure):
            _fields_ = [("width", ctypes.c_size_t), ("height", ctypes.c_size_t), ("depth", ctypes.c_size_t),
                        ("format", ctypes.c_uint), ("channels", ctypes.c_uint), ("flags", ctypes.c_uint)]

        FLOAT, BC1, SPARSE = 0x20, 0x91, 0x40
        cuda = Cuda().start()
        handle = ctypes.c_void_p()
        cuda.check("cuArrayCreate_v2", ctypes.byref(handle), ctypes.byref(Array(1024, 1024, FLOAT, 4)))
        assert cuda.used() == 16 * MIB
        cuda.check("cuArrayDestroy", handle)
        assert cuda.used() == 0
        for shape, levels, charged in [
            (Array3D(128, 128, 128, FLOAT, 1, 0), None, 8 * MIB),
            (Array3D(4096, 4096, 0, BC1, 1, 0), None, 8 * MIB),
            (Array3D(4096, 4096, 0, FLOAT, 4, SPARSE), None, 0),
            (Array3D(1024, 1024, 0, FLOAT, 1, 0), 2, 6 * MIB),  # 4 MiB and 1 MiB, in blocks of 2 MiB
        ]:
            if levels is None:
                cuda.check("cuArray3DCreate_v2", ctypes.byref(handle), ctypes.byref(shape))
            else:
                arguments = ctypes.byref(handle), ctypes.byref(shape), ctypes.c_uint(levels)
                cuda.check("cuMipmappedArrayCreate", *arguments)
            assert cuda.used() == charged, (shape.width, cuda.used())
            cuda.check("cuArrayDestroy" if levels is None else "cuMipmappedArrayDestroy", handle)
            assert cuda.used() == 0
        too_large = ctypes.byref(Array(8192, 8192, FLOAT, 4))
        assert cuda.call("cuArrayCreate_v2", ctypes.byref(handle), too_large) == OUT_OF_MEMORY
        """
    )


VIRTUAL = """
class Properties(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("handles", ctypes.c_int), ("location", ctypes.c_int),
                ("device", ctypes.c_int), ("rest", ctypes.c_uint64 * 4)]

def create(size, device=0, location=1):
    handle = ctypes.c_uint64()
    properties = Properties(1, 0, location, device)
    return cuda.call("cuMemCreate", ctypes.byref(handle), size, ctypes.byref(properties), 0), handle.value

cuda = Cuda().start()
"""


def test_virtual_memory_is_refunded_when_handle_and_mappings_are_gone(limited: Limited) -> None:
    limited.run(
        VIRTUAL
        + """
result, handle = create(32 * MIB)
assert (result, cuda.used()) == (SUCCESS, 32 * MIB)
assert create(34 * MIB)[0] == OUT_OF_MEMORY
base = 1 << 41
cuda.check("cuMemMap", base, 16 * MIB, 0, handle, 0)
cuda.check("cuMemMap", base + 16 * MIB, 16 * MIB, 16 * MIB, handle, 0)
cuda.check("cuMemRelease", handle)
assert cuda.used() == 32 * MIB
cuda.check("cuMemUnmap", base, 16 * MIB)
assert cuda.used() == 32 * MIB
cuda.check("cuMemUnmap", base + 16 * MIB, 16 * MIB)
assert cuda.used() == 0

result, handle = create(4 * MIB)
cuda.check("cuMemMap", base, 2 * MIB, 0, handle, 0)
cuda.check("cuMemMap", base + 2 * MIB, 2 * MIB, 2 * MIB, handle, 0)
cuda.check("cuMemUnmap", base, 4 * MIB)
assert cuda.used() == 4 * MIB
cuda.check("cuMemRelease", handle)
assert cuda.used() == 0

assert create(128 * MIB, location=2)[0] == SUCCESS  # CU_MEM_LOCATION_TYPE_HOST
assert cuda.used() == 0
"""
    )


def test_a_device_outside_the_slice_gives_nothing(limited: Limited) -> None:
    limited.run(
        VIRTUAL
        + """
assert cuda.total(0) == 64 * MIB
assert cuda.total(1) == 0
assert create(2 * MIB, device=1)[0] == OUT_OF_MEMORY
cuda.use(1)
assert cuda.try_allocate(512)[0] == OUT_OF_MEMORY
assert cuda.info() == (0, 0)
"""
    )


@pytest.mark.parametrize("end", ["destroy", "reset", "release"])
def test_the_end_of_a_context_refunds_what_lay_in_it(limited: Limited, end: str) -> None:
    limited.run(
        """
        cuda = Cuda().start()
        context = ctypes.c_void_p()
        kept = cuda.allocate(10 * MIB)
        zero = ctypes.c_int(0)
        if sys.argv[1] == "destroy":
            cuda.check("cuCtxCreate_v2", ctypes.byref(context), ctypes.c_uint(0), zero)
            for _ in range(20):
                cuda.allocate(BLOCK)
            assert cuda.used() == 50 * MIB
            cuda.check("cuCtxDestroy_v2", context)
            cuda.use(0)
            assert cuda.used() == 10 * MIB
        elif sys.argv[1] == "reset":
            cuda.check("cuDevicePrimaryCtxReset_v2", zero)
            assert cuda.used() == 0
        else:
            cuda.check("cuDevicePrimaryCtxRetain", ctypes.byref(context), zero)
            cuda.check("cuDevicePrimaryCtxRelease_v2", zero)
            assert cuda.used() == 10 * MIB
            cuda.check("cuDevicePrimaryCtxRelease_v2", zero)
            assert cuda.used() == 0
        """,
        end,
    )


def test_many_allocations_in_any_order(limited: Limited) -> None:
    """The table of allocations grows, shrinks and closes its gaps."""
    limited.run(
        """
        import random
        cuda, live, chance = Cuda().start(), [], random.Random(5)
        for step in range(30000):
            if live and chance.random() < (0.3 if step < 20000 else 0.7):
                cuda.free(live.pop(chance.randrange(len(live))))
            else:
                live.append(cuda.allocate(512))
            if step % 1000 == 0:
                assert cuda.used() == BLOCK * len({address // BLOCK for address in live})
        while live:
            cuda.free(live.pop())
        assert cuda.used() == 0
        """
    )


def test_limits_change_while_a_program_runs(limited: Limited) -> None:
    program = """
        cuda = Cuda().start()
        cuda.allocate(40 * MIB)
        for line in sys.stdin:
            print(*cuda.info(), cuda.try_allocate(int(line))[0], flush=True)
        """
    with limited.start(program) as process:
        assert process.stdin
        assert process.stdout
        answers = process.stdout

        def ask(size: int) -> tuple[int, ...]:
            print(size, file=process.stdin, flush=True)
            return tuple(map(int, answers.readline().split()))

        assert ask(2 * MIB) == (24 * MIB, 64 * MIB, 0)
        limited.slice.set_vram_limit(30 * MIB)
        assert ask(1) == (0, 30 * MIB, 2)
        limited.slice.set_vram_limit(46 * MIB)
        assert ask(6 * MIB) == (4 * MIB, 46 * MIB, 2)
        assert ask(4 * MIB) == (4 * MIB, 46 * MIB, 0)
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_use_peak_launches_and_copies_are_recorded(limited: Limited) -> None:
    limited.run(
        """
        cuda = Cuda().start()
        cuda.free(cuda.allocate(40 * MIB))
        address = cuda.allocate(BLOCK)
        for _ in range(5):
            cuda.check("cuLaunchKernel", None, *[ctypes.c_uint(1)] * 7, None, None, None)
        cuda.check("cuGraphLaunch", None, None)
        cuda.check("cuMemcpyHtoD_v2", address, None, 1000)
        cuda.check("cuMemcpyDtoH_v2", None, address, 200)
        cuda.check("cuMemcpyDtoD_v2", address, address, 30)
        assert cuda.try_allocate(128 * MIB)[0] == OUT_OF_MEMORY
        """
    )
    usage = limited.slice.usage()
    assert usage.processes == ()
    assert usage.vram_used_bytes == 0
    assert usage.vram_peak_bytes == 40 * MIB
    work = usage.work
    assert (work.launches, work.graph_launches, work.copies) == (5, 1, 3)
    assert (work.copied_to_device_bytes, work.copied_to_host_bytes, work.copied_on_device_bytes) == (
        1000,
        200,
        30,
    )
    assert (work.allocations, work.refused_allocations) == (2, 1)


def test_more_kinds_of_allocations_than_are_numbered(limited: Limited) -> None:
    """Records are small as long as few sizes and contexts are in use; beyond that they are as exact.

    Half of what is held here was recorded before there were too many kinds, and half after that.
    """
    limited.run(
        """
        cuda = Cuda().start()
        primary, other = ctypes.c_void_p(), ctypes.c_void_p()
        cuda.check("cuCtxGetCurrent", ctypes.byref(primary))
        early = [cuda.allocate(2 * MIB) for _ in range(8)]
        contexts = []
        for _ in range(9):
            context = ctypes.c_void_p()
            cuda.check("cuCtxCreate_v2", ctypes.byref(context), ctypes.c_uint(0), ctypes.c_int(0))
            contexts.append(context)
            for units in range(1, 2049):
                cuda.free(cuda.allocate(units * 512))
        assert cuda.used() == 16 * MIB
        late = [cuda.allocate(size) for size in (4 * MIB, 6 * MIB, 4 * MIB, 1)]
        assert cuda.used() == 32 * MIB
        assert cuda.try_allocate(34 * MIB)[0] == OUT_OF_MEMORY
        cuda.free(late[0])
        cuda.free(late[3])
        for address in early[:4]:
            cuda.free(address)
        assert cuda.used() == 18 * MIB
        assert cuda.call("cuMemFree_v2", 512) == INVALID_VALUE
        assert cuda.used() == 18 * MIB
        cuda.check("cuCtxSetCurrent", primary)
        cuda.check("cuCtxDestroy_v2", contexts[-1])
        assert cuda.used() == 8 * MIB
        for address in early[4:]:
            cuda.free(address)
        assert cuda.used() == 0
        """
    )
