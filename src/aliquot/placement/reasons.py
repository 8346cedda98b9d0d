"""Why a device cannot serve a claim, in the order of asking: the first that holds is the one told."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Why not. 0 is none of them; the numbers are bytes in the arrays that eligibility keeps."""

    ELIGIBLE = 0
    POOL = 1
    NODE_NAME = 2
    NODE_LABEL = 3
    PROGRAM_HOST = 4
    NODE_CORDONED = 5
    DEVICE_NAME = 6
    VENDOR = 7
    GENERATION = 8
    MODEL = 9
    CARD_MEMORY = 10
    DEVICE_LABEL = 11
    DEVICE_CORDONED = 12
    MECHANISM = 13
    PROFILE = 14
    TOO_LARGE = 15
    TAKEN_WHOLE = 16
    SHARED_OTHERWISE = 17
    OCCUPIED = 18
    MIG_GEOMETRY = 19
    REPLICAS = 20
    APART = 21
    SPREAD = 22
    DOMAIN = 23
    COMPUTE = 24
    VRAM = 25
    HOST_CPU = 26
    HOST_MEMORY = 27
    TOGETHER = 28
    TOPOLOGY = 29

    @property
    def code(self) -> str:
        """Stable, for programs: `host-cpu`."""
        return self.name.lower().replace("_", "-")

    @property
    def text(self) -> str:
        """For people, after a number of cards."""
        return _TEXTS[self]


_TEXTS = {
    Reason.ELIGIBLE: "eligible",
    Reason.POOL: "in another pool",
    Reason.NODE_NAME: "on a node that is not named",
    Reason.NODE_LABEL: "the node's labels",
    Reason.PROGRAM_HOST: "not on the program's host",
    Reason.NODE_CORDONED: "the node is cordoned",
    Reason.DEVICE_NAME: "not one of the named devices",
    Reason.VENDOR: "vendor",
    Reason.GENERATION: "generation",
    Reason.MODEL: "model",
    Reason.CARD_MEMORY: "size of the card's memory",
    Reason.DEVICE_LABEL: "the device's labels",
    Reason.MECHANISM: "mechanism or isolation not offered",
    Reason.PROFILE: "no MIG profile of that size or name",
    Reason.TOO_LARGE: "more than one such card has",
    Reason.DEVICE_CORDONED: "the device is cordoned",
    Reason.TAKEN_WHOLE: "taken whole by another claim",
    Reason.SHARED_OTHERWISE: "shared by another mechanism",
    Reason.OCCUPIED: "not empty, and a whole card is wanted",
    Reason.MIG_GEOMETRY: "no place left for a MIG instance of that profile",
    Reason.REPLICAS: "as many tenants as may share it",
    Reason.APART: "anti-affinity",
    Reason.SPREAD: "spreading",
    Reason.DOMAIN: "outside of the gang's part of the network",
    Reason.COMPUTE: "compute",
    Reason.VRAM: "VRAM",
    Reason.HOST_CPU: "CPU of the host",
    Reason.HOST_MEMORY: "memory of the host",
    Reason.TOGETHER: "too few devices together on the host",
    Reason.TOPOLOGY: "too few devices close enough together",
}
