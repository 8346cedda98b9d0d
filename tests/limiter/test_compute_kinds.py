"""Kinds of work beside a neighbour who wants the card: captures of real clients, cooperative launches, and
streams that a thread has without asking."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from aliquot.limits import DeviceLimit, Slice
from aliquot.mechanisms import limiter

from .conftest import MIB, PROGRAMS, Limited, plain_environment
from .fake_arbiter import WANT, FakeArbiter
from .sharing import DEEP, MS, Program, arbiter_of, make_slice, wait_until, working_machine


@pytest.fixture
def machine(simgpu_env: Mapping[str, str]) -> dict[str, str]:
    return working_machine(simgpu_env)


@pytest.fixture
def contended(machine: Mapping[str, str], native_dir: Path, slice_home: Path) -> Iterator[Limited]:
    """Half of a card whose other half somebody wants all the time."""
    one, two = (make_slice(machine, native_dir, slice_home, compute=500_000) for _ in range(2))
    with arbiter_of(one, two), Program(two, DEEP, "100", str(MS)) as neighbour:
        neighbour.wait_for("ready")
        yield one
        assert neighbour.process.poll() is None


@pytest.mark.parametrize("client", ["cupy", "numba"])
def test_what_clients_capture_is_never_broken(contended: Limited, client: str) -> None:
    """Events of the limiter are put beside it all the while, in the same process."""
    command = [sys.executable, str(PROGRAMS / f"{client}_captures.py"), "25"]
    done = subprocess.run(
        command, env=dict(contended.env), capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    usage = contended.slice.usage()
    assert usage.work.graph_launches == 50
    assert usage.devices[0].waited_ns > 0


@pytest.mark.sanitized
def test_the_streams_that_threads_have_by_themselves(contended: Limited) -> None:
    """Four threads, each in its default stream, by handle and by the entry points for it, which only that
    thread can synchronise. What has ended is known to have, and nothing is lost."""
    text = """
    import ctypes
    w = Worker(); nap = w.function('nap'); library = ctypes.CDLL('libcuda.so.1')
    handle, one = ctypes.c_void_p(int(nap)), ctypes.c_uint(1)
    def work(by_handle):
        check(cu.cuCtxSetCurrent(w.card.context))
        for number in range(60):
            if by_handle:
                w.nap(200_000, 2)
            else:
                pointers = ctypes.c_void_p(w.arguments(200_000))
                shape = [one] * 6 + [ctypes.c_uint(0)]
                assert library.cuLaunchKernel_ptsz(handle, *shape, None, pointers, None) == 0
            if number % 20 == 19:
                if by_handle: check(cu.cuStreamSynchronize(2))
                else: assert library.cuStreamSynchronize_ptsz(None) == 0
    threads = [threading.Thread(target=work, args=(each % 2 == 0,)) for each in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
    check(cu.cuCtxSynchronize()); say('done'); sys.stdin.readline()
    """
    with Program(contended, text) as program:
        program.wait_for("done")
        wait_until(lambda: contended.slice.usage().processes[0].in_flight_ns[0] == 0)
        assert contended.slice.usage().work.launches == 240
        program.tell("go")
        program.end()


@pytest.mark.sanitized
def test_cooperative_launches_take_turns(contended: Limited) -> None:
    """By their own entry point and by the attribute of cuLaunchKernelEx, with a neighbour between them."""
    text = """
    w = Worker(); nap = w.function('nap'); w.nap(1000); w.finish()
    config = cu.CUlaunchConfig()
    for axis in 'XYZ':
        setattr(config, 'gridDim' + axis, 1); setattr(config, 'blockDim' + axis, 1)
    config.hStream = w.stream
    attribute = cu.CUlaunchAttribute()
    attribute.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
    attribute.value.cooperative = 1
    config.attrs, config.numAttrs = [attribute], 1
    for _ in range(20):
        check(cu.cuLaunchCooperativeKernel(nap, 2, 1, 1, 1, 1, 1, 0, w.stream, w.arguments(4_000_000)))
        check(cu.cuLaunchKernelEx(config, nap, w.arguments(4_000_000), 0))
    w.finish(); say('done')
    """
    with Program(contended, text) as program:
        program.wait_for("done")
        program.end()
    usage = contended.slice.usage()
    assert usage.work.launches == 41
    assert usage.devices[0].gpu_ns == pytest.approx(40 * 4 * MS, rel=0.3)
    assert usage.devices[0].waited_ns > 50 * MS


@pytest.mark.sanitized
def test_kernels_of_several_cards_wait_for_a_turn_on_each(
    native_dir: Path, null_driver: Path, slice_home: Path
) -> None:
    """cuLaunchCooperativeKernelMultiDevice: all of them are launched at once, so none before all may be."""
    limits = [DeviceLimit(vram_bytes=64 * MIB, device=device) for device in (0, 1)]
    made = Slice.create_on(limits, driver=null_driver, home=slice_home)
    limited = Limited(made, limiter.environment(made, plain_environment()))
    program = """
        class Launch(ctypes.Structure):
            _fields_ = [("function", ctypes.c_void_p), ("shape", ctypes.c_uint * 7),
                        ("stream", ctypes.c_void_p), ("arguments", ctypes.c_void_p)]

        cuda, stream = Cuda().start(), ctypes.c_void_p()
        launches = (Launch * 2)()
        for device in (0, 1):
            cuda.use(device)
            cuda.check("cuStreamCreate", ctypes.byref(stream), ctypes.c_uint(1))
            launches[device] = Launch(0x1000, (1,) * 7, stream, None)
        for line in sys.stdin:
            cuda.check("cuLaunchCooperativeKernelMultiDevice", launches, ctypes.c_uint(2), ctypes.c_uint(0))
            print("launched", flush=True)
        """
    with FakeArbiter(made.path) as fake, ExitStack() as stack:
        fake.lend(1, device=1)
        process = stack.enter_context(limited.start(program))
        stack.callback(process.kill)
        assert process.stdin
        assert process.stdout
        print(file=process.stdin, flush=True)
        assert fake.wait_for(WANT).device == 0
        fake.lend(2, device=1)
        seen = len(fake.messages)
        fake.lend(1, device=0)
        wait_until(lambda: any((each.kind, each.device) == (WANT, 1) for each in fake.messages[seen:]))
        assert made.usage().work.launches == 0
        fake.lend(3, device=1)
        assert process.stdout.readline() == "launched\n"
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    assert made.usage().work.launches == 2
    assert all(each.held_back_ns > 0 for each in made.usage().devices)
