"""What is known about a model of accelerator. Purely data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aliquot.model.quantities import Bytes


class Vendor(StrEnum):
    """Who makes it, and so which driver and which discovery it needs."""

    NVIDIA = "nvidia"
    AMD = "amd"
    ASCEND = "ascend"
    CAMBRICON = "cambricon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What a CUDA compute capability fixes for every card that has it."""

    architecture: str
    threads_per_sm: int
    blocks_per_sm: int
    registers_per_sm: int
    shared_per_sm: Bytes
    shared_per_block_optin: Bytes
    """The most that one block may ask for; without asking it gets up to 48 KiB."""
    fp32_fma: int
    """Fused multiply-adds a clock cycle and SM on the CUDA cores."""
    fp16_tensor_fma: int
    """Dense half-precision multiply-adds a clock cycle and SM on the tensor cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """How much a card computes. None where the vendor does not say."""

    fp16_tflops: float
    """Dense (no sparsity), half precision, on the matrix units: what slices of compute are counted in."""
    fp32_tflops: float | None
    sm_count: int | None
    """Streaming multiprocessors, compute units or AI cores."""
    boost_mhz: int | None
    compute_capability: str | None
    """`9.0`; None for other vendors than NVIDIA."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a card holds. None where the vendor does not say."""

    vram: Bytes
    """As the driver reports it, which is less or more than the name says."""
    nominal_gb: int
    """As the vendor sells it, in units of the vendor's choice."""
    kind: str
    """`HBM3`."""
    bandwidth: int | None
    """Bytes a second."""
    bus_bits: int | None
    clock_mhz: int | None
    l2: Bytes | None
    ecc: bool
    """Error correction is on as shipped."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The card as a thing in a machine. None where the vendor does not say."""

    form: str
    power_watts: int | None
    pcie_generation: int | None
    pcie_width: int | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProfile:
    """A size of GPU instance."""

    name: str
    """`1g.10gb`, `1g.10gb+me`."""
    compute_slices: int
    memory_slices: int
    instances: int
    """How many of it fit on an empty card."""
    placements: tuple[int, ...]
    """Memory slices at which one may start."""
    sm_count: int
    """Multiprocessors that one has."""
    memory_mib: int
    """Memory that one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigLayout:
    """How a card can be partitioned in hardware (MIG)."""

    memory_slices: int
    """Into how many parts the memory is divided."""
    profiles: tuple[MigProfile, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of accelerator."""

    key: str
    """What people and settings call it: `h100`."""
    vendor: Vendor
    name: str
    """What its driver calls it: `NVIDIA H100 80GB HBM3`."""
    aliases: tuple[str, ...]
    compute: Compute
    memory: Memory
    board: Board
    capability: Capability | None
    """None for other vendors than NVIDIA."""
    mig: MigLayout | None
    """None where the card cannot be partitioned in hardware."""

    @property
    def simulated(self) -> bool:
        """Whether the simulated GPU can stand in for it."""
        return self.vendor is Vendor.NVIDIA
