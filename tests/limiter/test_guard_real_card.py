"""The guard on a real card: a stranger is found and stopped, a program of a slice is not.

It guards against this user's processes alone, and only where nobody else is on the card.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter
from aliquot.model import Device
from aliquot.vendors import nvidia, nvml, nvml_processes

from .conftest import MIB, plain_environment
from .guarding import PROMISE_S, guarding, program

pytestmark = pytest.mark.gpu

STRANGER = "me = Trespasser(); assert me.take(256) == 0; stay()"


@pytest.fixture
def card() -> Device:
    found = nvidia.find_real_cards().devices
    if not found:
        pytest.skip("there is no real card")
    if listed(found[0]):
        pytest.skip("others are on the card")
    return found[0]


def listed(card: Device) -> set[int]:
    with nvml.opened(nvidia.nvml_library(card.kind)) as library:
        return set(nvml_processes.processes(library, library.device(card.uuid)))


def test_a_stranger_on_a_real_card_is_stopped_and_a_slice_is_not(card: Device, slice_home: Path) -> None:
    env = {**plain_environment(), "CUDA_VISIBLE_DEVICES": card.uuid}
    rules = f"only_uid = {os.getuid()}\n"
    options = ("--policy", "stop", "--device", card.uuid)
    with (
        Slice.create(vram_bytes=8192 * MIB, device=card.uuid, home=slice_home) as made,
        guarding(env, slice_home, *options, rules=rules, hurried=False, simulate=False) as guard,
        program(limiter.environment(made, env), STRANGER) as honest,
    ):
        if honest.pid not in listed(card):
            pytest.skip("the driver lists nobody here, as in a container with pids of its own")
        begin = time.monotonic()
        with program(env, STRANGER) as stranger:
            _, event = guard.wait_for(stranger.pid)
            assert event["kind"] == "stranger"
            assert event["vram_bytes"] >= 256 * MIB
            stopped_at, _ = guard.wait_for(stranger.pid, "stopped")
            assert stranger.wait(10) in (-signal.SIGTERM, -signal.SIGKILL)
            assert stopped_at - begin < PROMISE_S + 5  # a driver takes seconds to begin, and to let go
        time.sleep(3)
        assert honest.poll() is None
        assert not guard.of(honest.pid)
