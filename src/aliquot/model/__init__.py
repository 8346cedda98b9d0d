"""Data: quantities, devices, slices. Purely data: no I/O, no clocks, no environment.

Everything above may import this package; it imports nothing of Aliquot but `aliquot.errors`.
"""

from aliquot.model.devices import Device, DeviceKind
from aliquot.model.quantities import Bytes, format_bytes, parse_bytes
from aliquot.model.slices import Share, SliceUse

__all__ = ["Bytes", "Device", "DeviceKind", "Share", "SliceUse", "format_bytes", "parse_bytes"]
