"""The state of a cluster in numbers: what is free where, and who stands where. Knows no names and no rules.

`state` is the slow and obvious form, the oracle of the tests; `compiled` is the fast one, in C++. Both have
the same methods.
"""

from collections.abc import Iterable

from aliquot.errors import NotInstalledError
from aliquot.placement.packing.shapes import (
    MAXIMUM_DEVICES,
    Choice,
    DeviceShape,
    DoesNotFitError,
    NodeShape,
    Placement,
)
from aliquot.placement.packing.state import Packing, Reservation

__all__ = [
    "MAXIMUM_DEVICES",
    "Choice",
    "DeviceShape",
    "DoesNotFitError",
    "NodeShape",
    "Packing",
    "Placement",
    "Reservation",
    "make_packing",
]


def make_packing(nodes: Iterable[NodeShape] = ()) -> Packing:
    """The compiled state where the compiled core is installed, the reference otherwise: same results."""
    from aliquot.placement.packing.compiled import CompiledPacking  # loads ctypes, which not everybody needs

    try:
        return CompiledPacking(nodes)
    except NotInstalledError:
        return Packing(nodes)
