"""Loads the compiled core and states its functions' types. The one place in the package that knows ctypes.

The C interface is native/placement/api.h.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_double, c_int, c_int32, c_uint8, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any, Final

from aliquot import native
from aliquot.errors import NotInstalledError

LIBRARY: Final = "placement/libaliquot_placement.so"
ABI: Final = 1
NOWHERE: Final = 0xFFFFFFFF

DONE, DOES_NOT_FIT, INVALID, NO_MEMORY = range(4)


class Amounts(Structure):
    """aliquot_amounts."""

    _fields_ = (("model", c_int32), ("milli", c_int32), ("vram", c_int32))


class CoreChoice(Structure):
    """aliquot_choice."""

    _fields_ = (("node", c_uint32), ("padding", c_uint32), ("devices", c_uint64), ("score", c_double))


class WeightedDemand(Structure):
    """aliquot_weighted_demand."""

    _fields_ = (("demand", c_uint32), ("padding", c_uint32), ("number", c_double))


class CoreOutlook(Structure):
    """aliquot_outlook."""

    _fields_ = (
        ("drawn", POINTER(c_uint32)),
        ("sequences", c_uint32),
        ("length", c_uint32),
        ("typical", POINTER(WeightedDemand)),
        ("typical_count", c_uint32),
        ("host_count", c_uint32),
        ("hosts", POINTER(WeightedDemand)),
    )


_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "aliquot_placement_abi": (c_uint32, []),
    "aliquot_cluster_new": (c_void_p, []),
    "aliquot_cluster_copy": (c_void_p, [c_void_p]),
    "aliquot_cluster_delete": (None, [c_void_p]),
    "aliquot_cluster_add_node": (c_int, [c_void_p, c_int32, c_int32, POINTER(Amounts), c_uint32]),
    "aliquot_cluster_demand": (
        c_int,
        [c_void_p, c_int32, c_int32, c_int32, POINTER(Amounts), c_uint32, POINTER(c_uint32)],
    ),
    "aliquot_cluster_take": (c_int, [c_void_p, c_uint32, c_uint32, c_uint64]),
    "aliquot_cluster_give": (c_int, [c_void_p, c_uint32, c_uint32, c_uint64]),
    "aliquot_cluster_free": (
        c_int,
        [c_void_p, c_uint32, POINTER(c_int32), POINTER(c_int32), POINTER(Amounts), c_uint32],
    ),
    "aliquot_cluster_feasible": (c_int, [c_void_p, c_uint32, c_void_p, c_void_p, POINTER(c_uint8)]),
    "aliquot_scorer_new": (
        c_void_p,
        [c_void_p, POINTER(c_int32), POINTER(c_double), c_uint32, c_int32, c_uint64],
    ),
    "aliquot_scorer_on": (c_void_p, [c_void_p, c_void_p]),
    "aliquot_scorer_delete": (None, [c_void_p]),
    "aliquot_scorer_outlook": (c_int, [c_void_p, POINTER(CoreOutlook)]),
    "aliquot_scorer_choose": (c_int, [c_void_p, c_uint32, c_void_p, c_void_p, POINTER(CoreChoice)]),
    "aliquot_scorer_place": (c_int, [c_void_p, c_uint32, POINTER(CoreChoice)]),
    "aliquot_scorer_choices": (
        c_int,
        [c_void_p, c_uint32, c_void_p, c_void_p, POINTER(CoreChoice), c_uint32, POINTER(c_uint32)],
    ),
    "aliquot_scorer_explain": (c_int, [c_void_p, c_uint32, POINTER(CoreChoice), POINTER(c_double)]),
    "aliquot_scorer_fragmentation": (c_int, [c_void_p, POINTER(c_double)]),
    "aliquot_scorer_runs": (c_uint64, [c_void_p]),
}


@cache
def library() -> Any:
    """The loaded core. Raises `NotInstalledError` where it is missing or of another version."""
    path = native.path(LIBRARY)
    loaded = ctypes.CDLL(str(path))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name, None)
        if function is None:
            raise NotInstalledError(f"{path} is of another version: it has no {name}")
        function.restype, function.argtypes = result, arguments
    if loaded.aliquot_placement_abi() != ABI:
        raise NotInstalledError(f"{path} is of another version")
    return loaded


def amounts(rows: Any) -> Any:
    """A C array of (model, milli, VRAM) rows."""
    rows = tuple(rows)
    return (Amounts * max(1, len(rows)))(*rows)


def outlook_arrays(drawn: list[int], typical: list[tuple[int, float]], hosts: list[tuple[int, float]]) -> Any:
    """C arrays of an outlook's parts: the drawn demands' numbers, and weighted demands."""
    return (
        (c_uint32 * max(1, len(drawn)))(*drawn),
        (WeightedDemand * max(1, len(typical)))(*((number, 0, weight) for number, weight in typical)),
        (WeightedDemand * max(1, len(hosts)))(*((number, 0, weight) for number, weight in hosts)),
    )
