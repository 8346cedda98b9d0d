"""Data: quantities, devices, shares. Purely data: no I/O, no clocks, no environment.

Everything above may import this package; it imports nothing of Aliquot but `aliquot.errors`.
"""

from aliquot.model.devices import Device, DeviceKind
from aliquot.model.quantities import Bytes, format_bytes, format_duration, parse_bytes
from aliquot.model.shares import Share

__all__ = ["Bytes", "Device", "DeviceKind", "Share", "format_bytes", "format_duration", "parse_bytes"]
