"""What the driver takes by itself is charged: the slice's account is what the card's own record says."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from .conftest import MIB, Limited
from .simulated import CLIENTS, from_outside, make_slice, run_clients

pytestmark = pytest.mark.sanitized

USED = "pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used"
LISTED = """[each.usedGpuMemory for each in
    pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(0))]"""
MODULE = '''
def module(variable_bytes):
    """Code with a variable of that size, which a module takes of the card."""
    return f""".version 7.0
.target sm_70
.address_size 64
.visible .global .align 4 .b8 variable[{variable_bytes}];
.visible .entry kernel() {{ ret; }}
""".encode() + b"\\0"

used = lambda: (lambda info: info[1] - info[0])(ok(driver.cuMemGetInfo()))
'''


@pytest.fixture
def roomy(machine: Mapping[str, str], native_dir: Path, slice_home: Path) -> Limited:
    """Room for three contexts and 64 MiB."""
    return make_slice(machine, native_dir, slice_home, contexts=3)


def test_contexts_are_charged_and_refunded(roomy: Limited) -> None:
    run_clients(
        roomy,
        MODULE
        + """
ok(driver.cuInit(0))
first = start()
assert used() == CONTEXT
second = ok(driver.cuCtxCreate(None, 0, 0))
assert used() == 2 * CONTEXT
ok(driver.cuMemAlloc(10 * MIB))
third = ok(driver.cuCtxCreate(None, 0, 0))
assert used() == 3 * CONTEXT + 10 * MIB
assert driver.cuCtxCreate(None, 0, 0)[0] == REFUSED
assert used() == 3 * CONTEXT + 10 * MIB
ok(driver.cuCtxDestroy(second))
ok(driver.cuCtxSetCurrent(first))
assert used() == 2 * CONTEXT
ok(driver.cuCtxDestroy(third))
ok(driver.cuDevicePrimaryCtxReset(0))
start()
assert used() == CONTEXT
""",
    )
    assert roomy.slice.usage().vram_used_bytes == 0


def test_a_context_that_does_not_fit_is_refused(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """The first is undone, since nobody knew its size; later ones are refused before the driver is asked."""
    limited = make_slice(machine, native_dir, slice_home, contexts=0)
    program = """
ok(driver.cuInit(0))
assert driver.cuDevicePrimaryCtxRetain(0)[0] == REFUSED
assert driver.cuCtxCreate(None, 0, 0)[0] == REFUSED
assert driver.cuDevicePrimaryCtxGetState(0)[2] == 0
"""
    run_clients(limited, program)
    assert limited.slice.usage().vram_used_bytes == 0
    limited.slice.set_vram_limit(int(limited.env["CONTEXT_BYTES"]))
    run_clients(limited, "start()\nassert driver.cuCtxCreate(None, 0, 0)[0] == REFUSED")
    (limit,) = limited.slice.limits()
    assert limited.slice.usage().vram_peak_bytes == limit.vram_bytes


def test_what_contexts_take_is_known_to_the_next_process(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """The card never holds a byte more than the limit, while a second process tries to get a context."""
    limited = make_slice(machine, native_dir, slice_home)
    waiting = CLIENTS + "start(); ok(driver.cuMemAlloc(64 * MIB)); print(flush=True); sys.stdin.read()"
    watch = f"""
import pynvml, threading, sys
pynvml.nvmlInit()
most, done = 0, threading.Event()
print(flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
while not done.is_set():
    most = max(most, {USED})
print(most)
"""
    (limit,) = limited.slice.limits()
    with limited.start(waiting) as first, Limited(limited.slice, machine).start(watch) as watcher:
        assert first.stdout
        assert watcher.stdout
        assert watcher.stdin
        first.stdout.readline()
        watcher.stdout.readline()
        for _ in range(3):
            run_clients(
                limited, "ok(driver.cuInit(0)); assert driver.cuDevicePrimaryCtxRetain(0)[0] == REFUSED"
            )
        watcher.stdin.close()
        assert int(watcher.stdout.read()) == limit.vram_bytes
        first.kill()


def test_modules_limits_and_small_blocks(roomy: Limited) -> None:
    run_clients(
        roomy,
        MODULE
        + """
start()
base = used()
small = [ok(driver.cuMemAlloc(512)) for _ in range(100)]
assert used() == base + 2 * MIB
loaded = ok(driver.cuModuleLoadData(module(5 * MIB)))
assert used() >= base + 8 * MIB
for address in small:
    ok(driver.cuMemFree(address))
with_module = used()
one = ok(driver.cuMemAlloc(512))     # lies in the block of the module's code
assert used() == with_module
ok(driver.cuMemFree(one))
assert used() == with_module
assert driver.cuModuleLoadData(module(4000 * MIB))[0] == REFUSED
assert used() == with_module
ok(driver.cuModuleUnload(loaded))
assert used() == base

stack = driver.CUlimit.CU_LIMIT_STACK_SIZE
before = ok(driver.cuCtxGetLimit(stack))
ok(driver.cuCtxSetLimit(stack, before + 256))
grown = used() - base
assert grown >= 32 * MIB
assert driver.cuCtxSetLimit(stack, 64 * before)[0] == REFUSED
assert ok(driver.cuCtxGetLimit(stack)) == before + 256
assert used() == base + grown
ok(driver.cuCtxSetLimit(stack, before))
assert used() == base

fill = ok(driver.cuMemAlloc(LIMIT + 2 * CONTEXT - used() - 2 * MIB))
first = ok(driver.cuMemAlloc(512))
assert ok(driver.cuMemGetInfo())[0] == 0
second = ok(driver.cuMemAlloc(512 * 1024))  # the last block has room
assert driver.cuMemAlloc(2 * MIB)[0] == REFUSED
assert driver.cuMemAlloc(1024 * 1024)[0] == 0
assert driver.cuMemAlloc(1024 * 1024)[0] == REFUSED
""",
    )


RANDOM = """
import random
chance = random.Random(int(sys.argv[1]))
start()
contexts, current = [ok(driver.cuCtxGetCurrent())], 0
stream = ok(driver.cuStreamCreate(0))
pool = ok(driver.cuDeviceGetDefaultMemPool(0))
live = []

def array(width, height):
    shape = driver.CUDA_ARRAY_DESCRIPTOR()
    shape.Width, shape.Height, shape.NumChannels = width, height, 1
    shape.Format = driver.CUarray_format.CU_AD_FORMAT_FLOAT
    return driver.cuArrayCreate(shape)

def virtual(size):
    properties = driver.CUmemAllocationProp()
    properties.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    return driver.cuMemCreate(size, properties, 0)

def graph(size):
    parameters = driver.CUDA_MEM_ALLOC_NODE_PARAMS()
    parameters.poolProps.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    parameters.poolProps.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    parameters.bytesize = size
    made = ok(driver.cuGraphCreate(0))
    node = ok(driver.cuGraphAddMemAllocNode(made, None, 0, parameters))
    ok(driver.cuGraphAddMemFreeNode(made, [node], 1, parameters.dptr))
    exec_ = ok(driver.cuGraphInstantiate(made, 0))
    answer = driver.cuGraphLaunch(exec_, stream)
    ok(driver.cuStreamSynchronize(stream))
    return answer[0], exec_

kinds = {
    "small": (lambda: driver.cuMemAlloc(chance.randrange(1, MIB)), driver.cuMemFree),
    "large": (lambda: driver.cuMemAlloc(chance.randrange(MIB, 9 * MIB)), driver.cuMemFree),
    "array": (lambda: array(chance.randrange(1, 2000), chance.randrange(1, 500)), driver.cuArrayDestroy),
    "virtual": (lambda: virtual(2 * MIB * chance.randrange(1, 4)), driver.cuMemRelease),
    "pool": (lambda: driver.cuMemAllocAsync(chance.randrange(1, 5 * MIB), stream),
             lambda address: driver.cuMemFreeAsync(address, stream)),
    "module": (lambda: driver.cuModuleLoadData(module(chance.randrange(1, 3 * MIB))), driver.cuModuleUnload),
    "graph": (lambda: graph(chance.randrange(1, 6 * MIB)), driver.cuGraphExecDestroy),
}
refused = 0
for line in sys.stdin:
    if live and chance.random() < 0.45:
        kind, what = live.pop(chance.randrange(len(live)))
        ok((*kinds[kind][1](what), None))
        did = f"freed-{kind}"
    else:
        kind = chance.choice(list(kinds))
        answer = kinds[kind][0]()
        assert answer[0] in (0, REFUSED), answer
        if answer[0] == 0:
            live.append((kind, answer[1]))
        refused += answer[0] == REFUSED
        did = f"made-{kind}" if answer[0] == 0 else f"refused-{kind}"
    if chance.random() < 0.1:
        ok((*driver.cuStreamSynchronize(stream), None))
        ok((*driver.cuDeviceGraphMemTrim(0), None))
        did += "-trimmed"
    print(used(), refused, did, flush=True)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_the_slice_holds_what_the_card_says_after_each_of_many_random_calls(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path, seed: int
) -> None:
    """Equal after each call, to the byte, whatever was made or freed; and never over the limit."""
    limited = make_slice(machine, native_dir, slice_home)
    (limit,) = limited.slice.limits()
    ask = f"""
import pynvml, sys
pynvml.nvmlInit()
for line in sys.stdin:
    print({USED}, flush=True)
"""
    program = CLIENTS + MODULE + textwrap.dedent(RANDOM)
    with limited.start(program, str(seed)) as process, Limited(limited.slice, machine).start(ask) as card:

        def step(of: subprocess.Popen[str]) -> list[str]:
            assert of.stdin
            assert of.stdout
            print(file=of.stdin, flush=True)
            words = of.stdout.readline().split()
            assert words, of.communicate()[1]
            return words

        refused, done = "0", []
        for _ in range(250):
            held, refused, did = step(process)
            done.append(did)
            figure = int(step(card)[0])
            assert int(held) == figure == limited.slice.usage().vram_used_bytes, " ".join(done[-8:])
            assert figure <= limit.vram_bytes
        assert refused != "0", "the limit was never met"
        process.kill()
        card.kill()


def test_graphs_that_allocate(on_card: Limited) -> None:
    """Charged by what is reserved for graphs; refused before the launch; trimmed memory comes back."""
    run_clients(
        on_card,
        MODULE
        + RANDOM[: RANDOM.index("kinds = ")].replace("int(sys.argv[1])", "1")
        + """
base = used()
code, first = graph(20 * MIB)
assert (code, used()) == (0, base + 20 * MIB)
assert driver.cuGraphLaunch(first, stream)[0] == 0   # uses what is reserved
ok((*driver.cuStreamSynchronize(stream), None))
assert used() == base + 20 * MIB
ok((*driver.cuDeviceGraphMemTrim(0), None))
assert used() == base
held = ok(driver.cuMemAlloc(50 * MIB))
assert driver.cuGraphLaunch(first, stream)[0] == REFUSED
assert used() == base + 50 * MIB
ok((*driver.cuMemFree(held), None))
assert driver.cuGraphLaunch(first, stream)[0] == 0
ok((*driver.cuStreamSynchronize(stream), None))
ok((*driver.cuDeviceGraphMemTrim(0), None))

mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
ok((*driver.cuStreamBeginCapture(stream, mode), None))
address = ok(driver.cuMemAllocAsync(30 * MIB, stream))
assert used() == base
ok((*driver.cuMemFreeAsync(address, stream), None))
captured = ok(driver.cuGraphInstantiate(ok(driver.cuStreamEndCapture(stream)), 0))
assert used() == base
ok((*driver.cuGraphLaunch(captured, stream), None))
ok((*driver.cuStreamSynchronize(stream), None))
assert used() == base + 30 * MIB
ok((*driver.cuDeviceGraphMemTrim(0), None))
assert used() == base
""",
    )


def test_local_memory_that_nobody_announced_is_charged_before_the_next_allocation(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path
) -> None:
    """The context's share of the card is changed behind the driver's back, by lowering and raising its limits
    through a driver handle that the limiter never saw; the next allocations find it."""
    limited = make_slice(machine, native_dir, slice_home, contexts=2)
    run_clients(
        limited,
        MODULE
        + """
import ctypes, time
start()
base = used()
path = next(line.split()[-1] for line in open("/proc/self/maps") if "simgpu/libcuda.so.1" in line)
real = ctypes.CDLL(path)
before = ok(driver.cuCtxGetLimit(driver.CUlimit.CU_LIMIT_STACK_SIZE))
assert real.cuCtxSetLimit(0, ctypes.c_size_t(before + 256)) == 0   # not by way of us
loaded = ok(driver.cuModuleLoadData(module(1)))
function = ok(driver.cuModuleGetFunction(loaded, b"kernel"))
ok((*driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0), None))
assert used() >= base + 32 * MIB
""",
    )


@pytest.mark.parametrize(
    "wait", ["cuCtxSynchronize()", "cuStreamSynchronize(0)", "cuEventSynchronize(event)"]
)
def test_growth_is_charged_when_the_end_of_the_work_is_waited_for(
    machine: Mapping[str, str], native_dir: Path, slice_home: Path, wait: str
) -> None:
    """A program that has its memory may not allocate again; who looks at the account from outside must not
    find less in it than the card has."""
    limited = make_slice(machine, native_dir, slice_home, contexts=2)
    text = f"""
import ctypes
start()
event = ok(driver.cuEventCreate(0))
loaded = ok(driver.cuModuleLoadData(module(1)))
function = ok(driver.cuModuleGetFunction(loaded, b"kernel"))
path = next(line.split()[-1] for line in open("/proc/self/maps") if "simgpu/libcuda.so.1" in line)
real = ctypes.CDLL(path)
before = ok(driver.cuCtxGetLimit(driver.CUlimit.CU_LIMIT_STACK_SIZE))
assert real.cuCtxSetLimit(0, ctypes.c_size_t(before + 256)) == 0   # as a launch may do
ok((*driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0), None))
ok((*driver.cuEventRecord(event, 0), None))
ok((*driver.{wait}, None))
print("waited", flush=True)
sys.stdin.readline()
"""
    with limited.start(CLIENTS + MODULE + text) as program:
        assert program.stdout
        assert program.stdin
        assert program.stdout.readline() == "waited\n", program.communicate()
        (held,) = limited.slice.standing().members[0].held_bytes
        (listed,) = from_outside(machine, LISTED)
        assert held == listed
        assert held > int(limited.env["CONTEXT_BYTES"]) + 32 * MIB
        program.stdin.write("\n")


def test_what_was_over_the_limit_is_no_lease_afterwards(on_card: Limited) -> None:
    """A library's variables are loaded when they are asked for, and go with the library alone: until then the
    slice is over its limit. Nothing of that can be taken when it is gone."""
    run_clients(
        on_card,
        MODULE
        + """
start()
base = used()
library = ok(driver.cuLibraryLoadData(module(4000 * MIB), [], [], 0, [], [], 0))
assert driver.cuLibraryGetGlobal(library, b"variable")[0] == REFUSED
assert driver.cuMemAlloc(2 * MIB)[0] == REFUSED
ok((*driver.cuLibraryUnload(library), None))
assert used() == base
assert driver.cuMemAlloc(66 * MIB)[0] == REFUSED
assert driver.cuCtxCreate(None, 0, 0)[0] == REFUSED
ok(driver.cuMemAlloc(64 * MIB))
assert driver.cuMemAlloc(2 * MIB)[0] == REFUSED
""",
    )
    assert on_card.slice.usage().vram_used_bytes == 0
