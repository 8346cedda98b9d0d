"""Managed memory: advice and prefetches as they are told again, and attaching to streams."""

from __future__ import annotations

from typing import Any

import pytest

MIB = 1 << 20


@pytest.fixture
def managed(api: Any, context: Any) -> int:
    return int(api.cuMemAllocManaged(4 * MIB, api.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value))


def place(api: Any, kind: str = "DEVICE", number: int = 0) -> Any:
    made = api.CUmemLocation()
    made.type = getattr(api.CUmemLocationType, f"CU_MEM_LOCATION_TYPE_{kind}")
    made.id = number
    return made


def told(api: Any, name: str, address: int, size: int = 4 * MIB, data_size: int = 4) -> Any:
    attribute = getattr(api.CUmem_range_attribute, f"CU_MEM_RANGE_ATTRIBUTE_{name}")
    found = api.cuMemRangeGetAttribute(data_size, attribute, address, size)
    return int(found) if not isinstance(found, list) else [int(each) for each in found]


def advise(api: Any, name: str, address: int, size: int, where: Any) -> None:
    api.cuMemAdvise(address, size, getattr(api.CUmem_advise, f"CU_MEM_ADVISE_{name}"), where)


def test_advice_holds_for_its_range(api: Any, managed: int) -> None:
    assert told(api, "READ_MOSTLY", managed) == 0
    advise(api, "SET_READ_MOSTLY", managed + MIB, 2 * MIB, place(api))
    assert told(api, "READ_MOSTLY", managed + MIB, 2 * MIB) == 1
    assert told(api, "READ_MOSTLY", managed + MIB + 4096, 4096) == 1
    assert told(api, "READ_MOSTLY", managed, 2 * MIB) == 0
    advise(api, "SET_READ_MOSTLY", managed, 4 * MIB, place(api))
    assert told(api, "READ_MOSTLY", managed) == 1
    advise(api, "UNSET_READ_MOSTLY", managed + 3 * MIB, 1, place(api))
    assert told(api, "READ_MOSTLY", managed) == 0
    assert told(api, "READ_MOSTLY", managed, 3 * MIB) == 1


def test_places(api: Any, managed: int) -> None:
    invalid = int(api.CU_DEVICE_INVALID)
    assert told(api, "PREFERRED_LOCATION", managed) == invalid
    advise(api, "SET_PREFERRED_LOCATION", managed, 4 * MIB, place(api, "DEVICE", 0))
    assert told(api, "PREFERRED_LOCATION", managed) == 0
    advise(api, "SET_PREFERRED_LOCATION", managed, MIB, place(api, "HOST"))
    assert told(api, "PREFERRED_LOCATION", managed, MIB) == int(api.CU_DEVICE_CPU)
    assert told(api, "PREFERRED_LOCATION", managed) == invalid, "not one for all of it"
    advise(api, "SET_ACCESSED_BY", managed, 4 * MIB, place(api))
    assert told(api, "ACCESSED_BY", managed, data_size=12) == [0, invalid, invalid]
    advise(api, "UNSET_ACCESSED_BY", managed, 4096, place(api))
    assert told(api, "ACCESSED_BY", managed, data_size=8) == [invalid, invalid]


def test_the_last_prefetch(api: Any, managed: int) -> None:
    assert told(api, "LAST_PREFETCH_LOCATION", managed) == int(api.CU_DEVICE_INVALID)
    api.cuMemPrefetchAsync(managed, 4 * MIB, place(api), 0, 0)
    assert told(api, "LAST_PREFETCH_LOCATION", managed) == 0
    api.cuMemPrefetchAsync(managed, 4 * MIB, place(api, "HOST"), 0, 0)
    assert told(api, "LAST_PREFETCH_LOCATION", managed) == int(api.CU_DEVICE_CPU)


def test_advice_goes_with_the_memory(api: Any, managed: int) -> None:
    advise(api, "SET_READ_MOSTLY", managed, 4 * MIB, place(api))
    api.cuMemFree(managed)
    again = int(api.cuMemAllocManaged(4 * MIB, api.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value))
    assert told(api, "READ_MOSTLY", again) == 0


def test_refusals(api: Any, managed: int) -> None:
    advice, attribute = api.CUmem_advise, api.CUmem_range_attribute
    preferred = advice.CU_MEM_ADVISE_SET_PREFERRED_LOCATION
    read_mostly = attribute.CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY
    device = int(api.cuMemAlloc(MIB))
    assert api.code("cuMemAdvise", device, MIB, preferred, place(api)) == "INVALID_VALUE"
    assert api.code("cuMemAdvise", managed, 5 * MIB, preferred, place(api)) == "INVALID_VALUE"
    assert api.code("cuMemAdvise", managed, 0, preferred, place(api)) == "INVALID_VALUE"
    assert api.code("cuMemAdvise", managed, MIB, preferred, place(api, number=77)) == "INVALID_DEVICE"
    assert api.code("cuMemPrefetchAsync", managed, MIB, place(api, number=77), 0, 0) == "INVALID_DEVICE"
    assert api.code("cuMemPrefetchAsync", managed, 2**64 - 1, place(api), 0, 0) == "INVALID_VALUE"
    assert api.code("cuMemRangeGetAttribute", 4, read_mostly, device, MIB) == "INVALID_VALUE"
    assert api.code("cuMemRangeGetAttribute", 4, read_mostly, managed, 5 * MIB) == "INVALID_VALUE"


def test_attaching_to_streams(api: Any, managed: int) -> None:
    flags = api.CUmemAttach_flags
    stream = api.cuStreamCreate(0)
    single, everywhere = flags.CU_MEM_ATTACH_SINGLE.value, flags.CU_MEM_ATTACH_GLOBAL.value
    api.cuStreamAttachMemAsync(stream, managed, 0, single)
    api.cuStreamAttachMemAsync(stream, managed, 4 * MIB, everywhere)
    assert api.code("cuStreamAttachMemAsync", stream, managed, MIB, single) == "INVALID_VALUE", "a part"
    assert api.code("cuStreamAttachMemAsync", 0, managed, 0, single) == "INVALID_VALUE", "no one stream"
    assert api.code("cuStreamAttachMemAsync", stream, managed, 0, 7) == "INVALID_VALUE"
