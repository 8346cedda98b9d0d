"""Data: quantities, devices, shares, levels of service. Purely data: no I/O, no clocks, no environment.

Everything above may import this package; it imports nothing of Aliquot but `aliquot.errors`.
"""

from aliquot.model.compute import ComputeRequest, parse_percent, parse_tflops
from aliquot.model.devices import Device, DeviceKind
from aliquot.model.qos import QosLevel
from aliquot.model.quantities import (
    UNSTATED,
    WHOLE_CARD,
    Bytes,
    Ppm,
    format_bytes,
    format_duration,
    format_percent,
    parse_bytes,
    percent,
)
from aliquot.model.shares import Share

__all__ = [
    "UNSTATED",
    "WHOLE_CARD",
    "Bytes",
    "ComputeRequest",
    "Device",
    "DeviceKind",
    "Ppm",
    "QosLevel",
    "Share",
    "format_bytes",
    "format_duration",
    "format_percent",
    "parse_bytes",
    "parse_percent",
    "parse_tflops",
    "percent",
]
