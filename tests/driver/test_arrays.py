"""Arrays and mipmapped arrays as memory: what they cost, what copies reach, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

MIB = 1 << 20


def used(api: Any) -> int:
    free, total = api.cuMemGetInfo()
    return total - free


def describe(api: Any, width: int, height: int = 0, depth: int = 0, *, flags: int = 0, **how: Any) -> Any:
    made = api.CUDA_ARRAY3D_DESCRIPTOR()
    made.Width, made.Height, made.Depth = width, height, depth
    made.Format = how.get("format", api.CUarray_format.CU_AD_FORMAT_FLOAT)
    made.NumChannels = how.get("channels", 1)
    made.Flags = flags
    return made


def box(api: Any, width: int, height: int = 1, depth: int = 1, **sides: Any) -> Any:
    """A CUDA_MEMCPY3D of bytes: `src` and `dst` are arrays, NumPy arrays or addresses, `_at` says where."""
    made = api.CUDA_MEMCPY3D()
    made.WidthInBytes, made.Height, made.Depth = width, height, depth
    for name in ("src", "dst"):
        place = sides[name]
        x, y, z = sides.get(f"{name}_at", (0, 0, 0))
        setattr(made, f"{name}XInBytes", x)
        setattr(made, f"{name}Y", y)
        setattr(made, f"{name}Z", z)
        if isinstance(place, np.ndarray):
            setattr(made, f"{name}MemoryType", api.CUmemorytype.CU_MEMORYTYPE_HOST)
            setattr(made, f"{name}Host", place.ctypes.data)
            setattr(made, f"{name}Pitch", place.shape[-1] * place.itemsize)
            setattr(made, f"{name}Height", place.shape[-2])
        elif isinstance(place, api.CUarray):
            setattr(made, f"{name}MemoryType", api.CUmemorytype.CU_MEMORYTYPE_ARRAY)
            setattr(made, f"{name}Array", place)
        else:
            setattr(made, f"{name}MemoryType", api.CUmemorytype.CU_MEMORYTYPE_DEVICE)
            setattr(made, f"{name}Device", place)
            setattr(made, f"{name}Pitch", sides[f"{name}_pitch"])
            setattr(made, f"{name}Height", sides[f"{name}_height"])
    return made


def test_an_array_is_charged_by_its_size(api: Any, context: Any) -> None:
    before = used(api)
    array = api.cuArray3DCreate(describe(api, 1024, 1024, 4))
    assert used(api) == before + 16 * MIB
    api.cuArrayDestroy(array)
    assert used(api) == before
    assert api.code("cuArrayDestroy", array) == "INVALID_HANDLE"
    assert api.code("cuArray3DCreate", describe(api, 16384, 16384, 16384)) == "OUT_OF_MEMORY"


def test_an_array_ends_with_its_context(api: Any) -> None:
    made = api.cuCtxCreate(None, 0, 0)
    array = api.cuArray3DCreate(describe(api, 4096, 1024))
    mipmapped = api.cuMipmappedArrayCreate(describe(api, 64, 64), 3)
    api.cuCtxDestroy(made)
    api.cuCtxSetCurrent(api.cuDevicePrimaryCtxRetain(0))
    assert api.code("cuArrayDestroy", array) == "INVALID_HANDLE"
    assert api.code("cuMipmappedArrayDestroy", mipmapped) == "INVALID_HANDLE"
    api.cuDevicePrimaryCtxRelease(0)
    api.cuCtxSetCurrent(0)


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [
        ("UNSIGNED_INT8", 1, 1),
        ("HALF", 2, 4),
        ("SIGNED_INT32", 4, 16),
        ("UNORM_INT8X4", 4, 4),
        ("SNORM_INT16X2", 2, 4),
    ],
)
def test_formats(api: Any, context: Any, name: str, channels: int, size: int) -> None:
    wanted = getattr(api.CUarray_format, f"CU_AD_FORMAT_{name}")
    array = api.cuArray3DCreate(describe(api, 100, format=wanted, channels=channels))
    told = api.cuArray3DGetDescriptor(array)
    assert (told.Width, told.Height, told.NumChannels) == (100, 0, channels)
    flat = api.cuArrayGetDescriptor(array)
    assert (flat.Width, flat.Format, flat.NumChannels) == (100, wanted, channels)
    data = np.arange(100 * size, dtype=np.uint8)
    api.cuMemcpyHtoA(array, 0, data.ctypes.data, data.nbytes)
    assert api.code("cuMemcpyHtoA", array, size, data.ctypes.data, data.nbytes) == "INVALID_VALUE"
    back = np.empty_like(data)
    api.cuMemcpyAtoH(back.ctypes.data, array, 0, back.nbytes)
    assert (back == data).all()


def test_linear_copies(api: Any, context: Any, put: Any, get: Any) -> None:
    values = np.arange(256, dtype=np.uint32)
    first, second = (api.cuArray3DCreate(describe(api, 256)) for _ in range(2))
    api.cuMemcpyDtoA(first, 0, put(values), values.nbytes)
    api.cuMemcpyAtoA(second, 128 * 4, first, 64 * 4, 32 * 4)
    device = api.cuMemAlloc(values.nbytes)
    api.cuMemcpyAtoD(device, second, 128 * 4, 32 * 4)
    assert (get(device, 32) == values[64:96]).all()
    stream = api.cuStreamCreate(0)
    back, reversed_ = np.zeros(256, np.uint32), values[::-1].copy()
    api.cuMemcpyHtoAAsync(first, 0, reversed_.ctypes.data, values.nbytes, stream)
    api.cuMemcpyAtoHAsync(back.ctypes.data, first, 0, back.nbytes, stream)
    api.cuStreamSynchronize(stream)
    assert (back == reversed_).all()


def test_boxes_to_arrays_and_back(api: Any, context: Any) -> None:
    """A box from the middle of host memory, through two arrays and pitched device memory."""
    source = np.random.default_rng(3).integers(0, 2**32, (6, 9, 12), dtype=np.uint32)
    first = api.cuArray3DCreate(describe(api, 20, 15, 8))
    second = api.cuArray3DCreate(describe(api, 12, 9, 6, flags=api.CUDA_ARRAY3D_LAYERED))
    device = api.cuMemAlloc(64 * 10 * 6)
    where = (4 * 4, 3, 2)
    api.cuMemcpy3D(box(api, 48, 9, 6, src=source, dst=first, dst_at=where))
    api.cuMemcpy3D(box(api, 48, 9, 6, src=first, src_at=where, dst=second))
    api.cuMemcpy3D(box(api, 48, 9, 6, src=second, dst=device, dst_pitch=64, dst_height=10))
    back = np.zeros_like(source)
    api.cuMemcpy3D(box(api, 48, 9, 6, src=device, src_pitch=64, src_height=10, dst=back))
    assert (back == source).all()
    part = np.zeros((1, 2, 3), np.uint32)
    api.cuMemcpy3D(box(api, 12, 2, 1, src=second, src_at=(8, 5, 4), dst=part))
    assert (part[0] == source[4, 5:7, 2:5]).all()


def test_mipmapped_arrays(api: Any, context: Any) -> None:
    before = used(api)
    mipmapped = api.cuMipmappedArrayCreate(describe(api, 1024, 512), 99)
    levels = [api.cuMipmappedArrayGetLevel(mipmapped, i) for i in range(11)]
    sizes = [(each.Width, each.Height) for each in map(api.cuArray3DGetDescriptor, levels)]
    assert sizes == [(max(1024 >> i, 1), max(512 >> i, 1)) for i in range(11)]
    assert api.code("cuMipmappedArrayGetLevel", mipmapped, 11) == "INVALID_VALUE"
    assert used(api) - before in (2 * MIB, 4 * MIB)
    rows = [np.full((1, 512 >> i if i < 10 else 1, 1024 >> i), i, np.float32) for i in range(4)]
    for level, row in zip(levels, rows, strict=False):
        api.cuMemcpy3D(box(api, row.shape[2] * 4, row.shape[1], 1, src=row, dst=level))
    for level, row in zip(levels, rows, strict=False):
        back = np.zeros_like(row)
        api.cuMemcpy3D(box(api, row.shape[2] * 4, row.shape[1], 1, src=level, dst=back))
        assert (back == row).all()
    assert api.code("cuArrayDestroy", levels[0]) == "INVALID_HANDLE", "it goes with the whole"
    api.cuMipmappedArrayDestroy(mipmapped)
    assert used(api) == before
    assert api.code("cuArray3DGetDescriptor", levels[1]) == "INVALID_HANDLE"


def test_what_cannot_be_created(api: Any, context: Any) -> None:
    cube, layered = api.CUDA_ARRAY3D_CUBEMAP, api.CUDA_ARRAY3D_LAYERED
    assert api.cuArray3DCreate(describe(api, 64, 64, 6, flags=cube)) is not None
    assert api.cuArray3DCreate(describe(api, 64, 64, 12, flags=cube | layered)) is not None
    for bad in [
        describe(api, 0),
        describe(api, 64, channels=3),
        describe(api, 64, channels=0),
        describe(api, 64, 0, 8),
        describe(api, 1 << 40),
        describe(api, 1 << 62, 1 << 62),
        describe(api, 64, 32, 6, flags=cube),
        describe(api, 64, 64, 5, flags=cube),
        describe(api, 64, 64, 4096, flags=layered),
        describe(api, 64, flags=1 << 30),
    ]:
        assert api.code("cuArray3DCreate", bad) == "INVALID_VALUE"
    sparse = describe(api, 64, 64, flags=api.CUDA_ARRAY3D_SPARSE)
    assert api.code("cuArray3DCreate", sparse) == "NOT_SUPPORTED"
    compressed = describe(api, 64, 64, format=api.CUarray_format.CU_AD_FORMAT_BC1_UNORM, channels=4)
    assert api.code("cuArray3DCreate", compressed) == "NOT_SUPPORTED"
    assert api.code("cuMipmappedArrayCreate", describe(api, 64), 0) == "INVALID_VALUE"


def test_copies_that_do_not_fit(api: Any, context: Any) -> None:
    array = api.cuArray3DCreate(describe(api, 16, 8, 4))
    host = np.zeros((8, 16, 64), np.float32)
    for bad in [
        box(api, 68, 1, 1, src=host, dst=array),
        box(api, 64, 9, 1, src=host, dst=array),
        box(api, 64, 8, 5, src=host, dst=array),
        box(api, 64, 8, 4, src=host, dst=array, dst_at=(4, 0, 0)),
        box(api, 64, 8, 4, src=host, dst=array, dst_at=(0, 1, 0)),
        box(api, 4, 1, 1, src=host, dst=array, dst_at=(2**64 - 4, 0, 0)),
        box(api, 4, 1, 1, src=host, dst=array, dst_at=(0, 0, 2**64 - 1)),
        box(api, 3, 1, 1, src=host, dst=array),
        box(api, 4, 1, 1, src=host, dst=array, dst_at=(2, 0, 0)),
    ]:
        assert api.code("cuMemcpy3D", bad) == "INVALID_VALUE"
    level = box(api, 64, 1, 1, src=host, dst=array)
    level.dstLOD = 1
    assert api.code("cuMemcpy3D", level) == "INVALID_VALUE"
    gone = box(api, 64, 1, 1, src=host, dst=api.CUarray(0x1234))
    assert api.code("cuMemcpy3D", gone) == "INVALID_HANDLE"


def test_questions_that_need_other_arrays(api: Any, context: Any) -> None:
    array = api.cuArray3DCreate(describe(api, 16, 8))
    assert api.code("cuArrayGetPlane", array, 0) == "INVALID_VALUE"
    assert api.code("cuArrayGetSparseProperties", array) == "INVALID_VALUE"
    assert api.code("cuArrayGetMemoryRequirements", array, 0) == "INVALID_VALUE"
    assert api.code("cuArrayGetSparseProperties", api.CUarray(7)) == "INVALID_HANDLE"
