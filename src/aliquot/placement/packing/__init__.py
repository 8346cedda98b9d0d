"""The state of a cluster in numbers: what is free where, and who stands where. Knows no names and no rules.

`state` is the slow and obvious form, the oracle of the tests; `compiled` is the fast one, in C++. Both have the
same methods.
"""

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
]
