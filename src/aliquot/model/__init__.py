"""Data: quantities, devices, shares, levels of service, claims, hosts. Purely data: no I/O, no clocks, no
environment.

Everything above may import this package; it imports nothing of Aliquot but `aliquot.errors`.
"""

from aliquot.model.budgets import DisruptionBudget
from aliquot.model.claims import (
    MOST_DEVICES,
    MOST_PRIORITY,
    Claim,
    DeviceNeeds,
    Gang,
    HostNeeds,
    SharingWish,
    VramRequest,
)
from aliquot.model.compute import ComputeRequest, parse_percent, parse_tflops
from aliquot.model.constraints import CardMemory, Constraints, LabelOperator, LabelRule
from aliquot.model.devices import Device, DeviceKind
from aliquot.model.grants import Grant, GrantedDevice
from aliquot.model.nodes import MigMode, Node, NodeDevice, Oversubscription, Pool
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
    parse_mib,
    percent,
)
from aliquot.model.shares import Share
from aliquot.model.sharing import Isolation, Mechanism
from aliquot.model.specifications import DeviceSpecification, parse_device_specification
from aliquot.model.topology import DEVICE, NODE, Apart, Nearness, Spread, TopologyWish

__all__ = [
    "DEVICE",
    "MOST_DEVICES",
    "MOST_PRIORITY",
    "NODE",
    "UNSTATED",
    "WHOLE_CARD",
    "Apart",
    "Bytes",
    "CardMemory",
    "Claim",
    "ComputeRequest",
    "Constraints",
    "Device",
    "DeviceKind",
    "DeviceNeeds",
    "DeviceSpecification",
    "DisruptionBudget",
    "Gang",
    "Grant",
    "GrantedDevice",
    "HostNeeds",
    "Isolation",
    "LabelOperator",
    "LabelRule",
    "Mechanism",
    "MigMode",
    "Nearness",
    "Node",
    "NodeDevice",
    "Oversubscription",
    "Pool",
    "Ppm",
    "QosLevel",
    "Share",
    "SharingWish",
    "Spread",
    "TopologyWish",
    "VramRequest",
    "format_bytes",
    "format_duration",
    "format_percent",
    "parse_bytes",
    "parse_device_specification",
    "parse_mib",
    "parse_percent",
    "parse_tflops",
    "percent",
]
