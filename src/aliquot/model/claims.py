"""What somebody asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aliquot.errors import InvalidValueError
from aliquot.model.compute import ComputeRequest
from aliquot.model.constraints import Constraints
from aliquot.model.quantities import UNSTATED, WHOLE_CARD, Ppm
from aliquot.model.sharing import Isolation, Mechanism
from aliquot.model.topology import Apart, Spread, TopologyWish

MOST_PRIORITY: Final = 1_000_000_000
"""As Kubernetes allows a PriorityClass of users."""
MOST_DEVICES: Final = 64
"""Of one claim; all are on one host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VramRequest:
    """How much device memory is asked for, of each device: an amount, a part of the card, or neither."""

    mib: int = 0
    part: Ppm = UNSTATED

    def __post_init__(self) -> None:
        if self.mib < 0 or not 0 <= self.part <= WHOLE_CARD or (self.mib and self.part):
            raise InvalidValueError(
                f"device memory cannot be asked for like this: {self!r}", hint="examples: 24GB, 30%"
            )

    @property
    def stated(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.mib or self.part)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNeeds:
    """What is asked of each of `count` devices.

    Neither compute nor memory stated means the whole card. Compute alone brings the same part of the card's
    memory. Memory alone brings no guarantee of compute: an even part of what nobody asked for.
    """

    count: int = 1
    compute: ComputeRequest = ComputeRequest()
    compute_limit: ComputeRequest = ComputeRequest()
    vram: VramRequest = VramRequest()
    vram_limit: VramRequest = VramRequest()

    def __post_init__(self) -> None:
        if not 0 <= self.count <= MOST_DEVICES:
            raise InvalidValueError(
                f"{self.count} is not a number of devices of one host",
                hint=f"0 to {MOST_DEVICES}; more hosts are asked for with a gang",
            )
        if self.compute_limit.stated and not self.compute.stated:
            raise InvalidValueError(
                "a limit of compute needs a request beside it", hint="write both: {request: 20%, limit: 50%}"
            )
        if self.vram_limit.stated and not self.vram.stated:
            raise InvalidValueError(
                "a limit of VRAM needs a request beside it", hint="write both: {request: 8Gi, limit: 16Gi}"
            )

    @property
    def whole(self) -> bool:
        """Whether whole cards are asked for."""
        return not self.compute.stated and not self.vram.stated


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNeeds:
    """What is asked of the host that has the devices."""

    cpu_milli: int = 0
    memory_mib: int = 0

    def __post_init__(self) -> None:
        if self.cpu_milli < 0 or self.memory_mib < 0:
            raise InvalidValueError("a host cannot give less than nothing", hint="cpu: 4, memory: 16Gi")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharingWish:
    """How the devices may be shared with others."""

    isolation: Isolation = Isolation.NONE
    """At least this."""
    mechanisms: tuple[Mechanism, ...] = ()
    """Acceptable ones, the preferred first; empty leaves it to the rules."""
    mig_profile: str = ""
    """A profile by name, e.g. `1g.10gb`; empty for the smallest that suffices."""

    def __post_init__(self) -> None:
        weak = [each for each in self.mechanisms if not each.isolation.covers(self.isolation)]
        if weak:
            raise InvalidValueError(
                f"{weak[0]} gives {weak[0].isolation} isolation, and {self.isolation} is asked for",
                hint="ask for less isolation, or for mechanism mig or whole",
            )
        if self.mig_profile and self.mechanisms not in ((), (Mechanism.MIG,)):
            raise InvalidValueError(
                f"MIG profile {self.mig_profile} is asked for, and other mechanisms than mig",
                hint="leave one out",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What somebody asks for. Two claims that differ only by name are alike, and are placed alike."""

    name: str
    devices: DeviceNeeds = DeviceNeeds()
    host: HostNeeds = HostNeeds()
    constraints: Constraints = Constraints()
    sharing: SharingWish = SharingWish()
    topology: TopologyWish = TopologyWish()
    workload: str = ""
    """Whose replica it is; spreading, anti-affinity and disruption budgets count by it."""
    spread: Spread | None = None
    apart: tuple[Apart, ...] = ()
    qos: str = ""
    """Name of its level of service; empty for the catalogue's default."""
    priority: int = 0
    """Claims of a lower one may be preempted for its sake."""
    protected: bool = False
    """Neither preempted nor moved."""
    runs_on: str = ""
    """The host on which its program runs; empty where the program goes where its devices are."""
    remote: bool = False
    """Its devices may be on another host than `runs_on`."""

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidValueError("a claim needs a name", hint="name: training")
        if not -MOST_PRIORITY <= self.priority <= MOST_PRIORITY:
            raise InvalidValueError(f"{self.priority} is not a priority", hint=f"at most {MOST_PRIORITY}")
        if self.spread and not self.workload:
            raise InvalidValueError("spreading counts the claims of a workload", hint="add workload: NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """Claims that are placed together or not at all."""

    name: str
    members: tuple[Claim, ...]
    min_members: int
    """With fewer, none is placed. The first in order are placed first."""
    within: str = ""
    """`node` or a level of the network that all members are to share; empty for none."""
    required: bool = True
    """Whether `within` is a condition or a preference."""

    def __post_init__(self) -> None:
        names = {member.name for member in self.members}
        if len(names) != len(self.members) or not 1 <= self.min_members <= len(self.members):
            raise InvalidValueError(
                f"gang {self.name!r} has {len(self.members)} members with {len(names)} names "
                f"and wants at least {self.min_members}",
                hint="names differ; min_members is 1 to the number of members",
            )
