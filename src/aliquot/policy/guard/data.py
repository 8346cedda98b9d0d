"""What is seen at one moment: processes on cards, by the driver, and slices, by their files. Data only.

A pid means something within one namespace and only until it is used again. So a process is named by its pid
as the observer sees it together with its start time; its pid within its own namespace stands beside it,
because that is what it writes into its slice's account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

START_BITS: Final = 35
"""Of a start time, so many bits are in an account (`owner_start_bits` of the slices' layout)."""


class Identity(NamedTuple):
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    """As the observer's own namespace counts."""
    start_ticks: int
    """Clock ticks since boot (proc(5), stat field 22)."""


class FileId(NamedTuple):
    """A file, whatever its name is."""

    device: int
    inode: int


def _nothing() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """A process on one card, by the driver's figures, with what the kernel says of it."""

    process: Identity
    card: str
    """The card's UUID."""
    uid: int
    vram_bytes: int | None
    """What it holds of the card; None where the driver does not say."""
    compute: bool = True
    """It has a compute context; otherwise it only draws."""
    gpu_percent: int | None = None
    """The part of about the last second in which the card worked for it; None where nobody says."""
    namespace: int = 0
    """Inode of its pid namespace; 0 where it could not be read."""
    namespace_pid: int = 0
    """Its pid within that."""
    accounts: frozenset[FileId] = frozenset()
    """The slices' accounts that it has mapped, by the kernel's list; looked up only where it matters."""
    runs: frozenset[str] = frozenset()
    """Those of the exempted programs that it is running: the very files, not files of the same name."""
    command: str = ""
    """Its name, which it can choose: for people."""
    program: str = ""
    """The file that it runs, for people; empty where that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A process that a slice's account names. Tenants write it, so it may be a lie."""

    pid: int
    start_ticks: int
    """The lower `START_BITS`; 0 where the process could not read it."""
    namespace: int = 0
    """Inode of the pid namespace in which `pid` counts; 0 where it could not say."""
    held: Mapping[str, int] = field(default_factory=_nothing)
    """Bytes that it says to hold, by card."""
    opened: Mapping[str, int] = field(default_factory=_nothing)
    """Bytes of others' memory that it says to have open, by card: a driver may count them to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardTerms:
    """What a slice may use of one card, and what the arbiter lent it. No tenant writes either."""

    vram_bytes: int
    held_ns: int = 0
    """For so long the card was at the slice's disposal; only ever grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceView:
    """A slice at one moment."""

    path: str
    account: FileId
    """By this it is the same slice at another moment, and by this a process proves that it has it mapped."""
    account_uid: int
    """Whose processes may write the account."""
    judged: bool = True
    """False where it cannot be read as this version reads slices: its processes are left alone."""
    terms: Mapping[str, CardTerms] = field(default_factory=dict[str, CardTerms])
    """By card."""
    generation: int = 1
    """How often its limits were changed, plus one."""
    preempts: bool = False
    """It may begin work without a turn."""
    arbiter_epoch: int | None = None
    """Which arbiter lends it its cards; None where none does."""
    claims: tuple[Claim, ...] = ()

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that was seen at one moment."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    occupants: tuple[Occupant, ...] = ()
    slices: tuple[SliceView, ...] = ()
    used_bytes: Mapping[str, int] = field(default_factory=_nothing)
    """What each card says to be in use by everybody: bounds how much the driver counts twice."""
