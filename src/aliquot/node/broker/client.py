"""A person's side of the machine's broker: her slices are made and changed by it, and read as any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aliquot.errors import InvalidValueError
from aliquot.limits import DeviceLimit, Slice, people_homes
from aliquot.limits.homes import system_home
from aliquot.model import UNSTATED, Bytes, Device, DeviceKind, Ppm, QosLevel
from aliquot.node.broker import home as homes
from aliquot.node.broker.wire import (
    MOST_ANSWER_BYTES,
    PASSED_ON,
    BrokerError,
    Cards,
    Change,
    Create,
    Remove,
    Request,
    read_answer,
    write_request,
)


class BrokeredSlice(Slice):
    """A slice that root's broker made: whoever may read it reads it, and asks the broker to change it."""

    def __init__(self, path: Path, home: Path | None = None) -> None:
        """`path` lies in the people's folder of `home`, by default this machine's."""
        super().__init__(path)
        self._home = home or system_home()

    def set_vram_limit(self, vram_bytes: int, *, index: int = 0) -> None:
        """As of any slice, within the person's allowance. Raises what the broker answers."""
        self._change(index=index, vram_bytes=vram_bytes)

    def set_compute(self, request: Ppm, limit: Ppm = UNSTATED, *, index: int = 0) -> None:
        """As of any slice, within the person's allowance. Raises what the broker answers."""
        self._change(index=index, compute=request, compute_limit=limit)

    def set_qos(self, qos: QosLevel) -> None:
        """To one of the catalogue's levels. Raises what the broker answers."""
        self._change(qos=qos.name)

    def change(self, limit: DeviceLimit, qos: QosLevel | None = None, *, index: int = 0) -> None:
        """All of it or nothing. Raises what the broker answers."""
        self._change(
            index=index,
            vram_bytes=limit.vram_bytes,
            compute=limit.compute_request_ppm,
            compute_limit=limit.compute_limit_ppm,
            qos=None if qos is None else qos.name,
        )

    def remove(self) -> None:
        """Raises what the broker answers."""
        ask(Remove(name=self.name, owner=self.owner), self._home)

    @property
    def owner(self) -> int:
        """The uid whose slice it is, by the folder that it lies in."""
        return int(self.path.parent.name)

    def _change(self, **changes: Any) -> None:
        ask(Change(name=self.name, owner=self.owner, **changes), self._home)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the broker says of the machine."""

    devices: Sequence[Device]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """What a program needs to see the same simulated cards; empty for real ones."""


def machine(home: Path | None = None) -> Machine:
    """The cards that slices are made of. Raises `BrokerError` and what the broker answers."""
    answer = ask(Cards(), home)
    try:
        devices = [_device(each) for each in answer["devices"]]
        environment = {str(name): str(value) for name, value in answer["environment"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokerError("the broker's answer is none") from error
    return Machine(devices, {name: environment[name] for name in environment if name in PASSED_ON})


def create(request: Create, home: Path | None = None) -> BrokeredSlice:
    """A slice as asked for. Raises `AllowanceExceededError`, `SliceExistsError`, `InvalidValueError`,
    `SliceAccessError` for another person's, `BrokerError`."""
    home = home or system_home()
    path = Path(str(ask(request, home).get("path", "")))
    if path.parent.parent != homes.people_home(home):
        raise BrokerError("the broker made a slice elsewhere", hint=f"{path} is not below {home}")
    return BrokeredSlice(path, home)


def slices(home: Path | None = None) -> list[BrokeredSlice]:
    """This person's slices that the broker made, everybody's for root. Raises `SliceAccessError` for a
    machine-wide home that is not root's. Needs no broker."""
    home = home or system_home()
    return [BrokeredSlice(each.path, home) for folder in people_homes(home) for each in Slice.all(folder)]


def ask(request: Request, home: Path | None = None) -> dict[str, Any]:
    """One request and its answer. Raises the error that it answers with, or `BrokerError`."""
    packet = write_request(request)
    with homes.connect(home) as connection:
        try:
            connection.send(packet)
            answer = connection.recv(MOST_ANSWER_BYTES)
        except OSError as error:
            raise BrokerError(f"this machine's broker went away: {error.strerror or error}") from error
    if not answer:
        raise BrokerError("this machine's broker hung up", hint="it may be busy: try again")
    return read_answer(answer)


def _device(members: Any) -> Device:
    try:
        return Device(
            index=members["index"],
            uuid=members["uuid"],
            name=members["name"],
            kind=DeviceKind(members["kind"]),
            vram=Bytes(members["vram"]),
            vram_used=Bytes(members["vram_used"]),
            utilisation=members["utilisation"],
        )
    except InvalidValueError as error:
        raise BrokerError("the broker's answer is none") from error
