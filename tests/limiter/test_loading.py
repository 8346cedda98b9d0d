"""Programs of all kinds meet the library: linked, with other libraries, forked, without any driver."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from aliquot.limits import Slice
from aliquot.mechanisms import limiter

from .conftest import LIMIT, MIB, PROGRAMS, CompileC, Limited, plain_environment
from .fake_arbiter import HELLO, FakeArbiter

RUNTIMES = {
    12: Path("nvidia/cuda_runtime/lib/libcudart.so.12"),
    13: Path("nvidia/cu13/lib/libcudart.so.13"),
}
PACKAGES = Path(sysconfig.get_path("purelib"))


PART = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
int cuInit(unsigned); int cuDevicePrimaryCtxRetain(void**, int); int cuCtxSetCurrent(void*);
int cuMemGetInfo_v2(size_t*, size_t*);
size_t total_of_device(void) {
  void* context; size_t free = 0, total = 0;
  if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 1;
  if (cuMemGetInfo_v2(&free, &total)) return 2;
  return total;
}
void* next_init(void) { return dlsym(RTLD_NEXT, "cuInit"); }
void* default_init(void) { return dlsym(RTLD_DEFAULT, "cuInit"); }
void* own_init(void) { return (void*)cuInit; }
"""


@pytest.mark.parametrize("mode", ["RTLD_LOCAL", "RTLD_GLOBAL", "RTLD_DEEPBIND"])
def test_a_plugin_that_is_linked_against_the_driver(
    limited: Limited, compile_c: CompileC, null_driver: Path, mode: str
) -> None:
    """Its own look-ups begin at itself with RTLD_DEEPBIND, and after itself with RTLD_NEXT: all end here."""
    plugin = compile_c(PART, "plugin.so", "-shared", "-fPIC", str(null_driver), "-ldl")
    limited.run(
        f"""
        import os
        plugin = ctypes.CDLL({str(plugin)!r}, mode=os.{mode})
        for name in ("total_of_device", "next_init", "default_init", "own_init"):
            getattr(plugin, name).restype = ctypes.c_void_p
        assert plugin.total_of_device() == 64 * MIB
        ours = ctypes.cast(ctypes.CDLL("libcuda.so.1").cuInit, ctypes.c_void_p).value
        assert plugin.own_init() == plugin.default_init() == ours
        assert plugin.next_init() == ours
        """
    )


TRACER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <unistd.h>
pid_t getppid(void) { return 4711; }
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  fputs("traced\\n", stderr);
  int (*next)(uint64_t*, size_t) = (int (*)(uint64_t*, size_t))dlsym(RTLD_NEXT, "cuMemAlloc_v2");
  return next == NULL ? 999 : next(address, bytes);
}
"""


@pytest.mark.sanitized
@pytest.mark.parametrize("order", ["ours first", "theirs first"])
def test_another_interposer_that_is_preloaded(
    limited: Limited, compile_c: CompileC, native_dir: Path, order: str
) -> None:
    """Both are there, whichever comes first; a tracer in front passes its calls on to the limiter."""
    tracer = compile_c(TRACER, "libtracer.so", "-shared", "-fPIC", "-ldl")
    base = {**plain_environment(), "LD_PRELOAD": str(tracer)}
    env = limiter.environment(limited.slice, base)
    if order == "theirs first":
        env = {**env, "LD_PRELOAD": f"{tracer}:{env['LD_PRELOAD']}"}
    _, errors = Limited(limited.slice, env).run(
        """
        import os
        assert os.getppid() == 4711
        cuda, everybody = Cuda().start(), ctypes.CDLL(None)
        address = ctypes.c_uint64()
        assert everybody.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(60 * MIB)) == SUCCESS
        assert everybody.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(8 * MIB)) == OUT_OF_MEMORY
        assert cuda.used() == 60 * MIB
        """
    )
    assert errors.count("traced") == (2 if order == "theirs first" else 0)


def test_several_copies_of_the_runtime(on_card: Limited, tmp_path: Path) -> None:
    """Libraries bring their own, of several versions: each looks the driver up, and all have one budget."""
    copies = []
    for version, file in RUNTIMES.items():
        for number in range(2):
            copies.append(tmp_path / f"{number}-{version}" / file.name)
            copies[-1].parent.mkdir()
            shutil.copy(PACKAGES / file, copies[-1])
    on_card.run(
        f"""
        import os
        runtimes = [ctypes.CDLL(path, mode=os.RTLD_LOCAL) for path in {list(map(str, copies))!r}]
        assert len({{line.split()[-1] for line in open("/proc/self/maps") if "libcudart" in line}}) == 4
        free, total, address = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
        def info(runtime):
            assert runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == SUCCESS
            return free.value
        before, held = info(runtimes[0]), []
        assert before == 64 * MIB, before
        for taken, runtime in enumerate(runtimes, 1):
            assert runtime.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(16 * MIB)) == SUCCESS
            held.append(ctypes.c_void_p(address.value))
            assert [info(each) for each in runtimes] == [before - taken * 16 * MIB] * 4
        for runtime in runtimes:
            assert runtime.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(2 * MIB)) == OUT_OF_MEMORY
            assert runtime.cudaGetLastError() == OUT_OF_MEMORY
        for runtime, memory in zip(reversed(runtimes), held):   # by another copy than it came from
            assert runtime.cudaFree(memory) == SUCCESS
        assert info(runtimes[0]) == before
        """
    )


NO_DRIVER_HERE = not Path("/dev/nvidiactl").exists()


@pytest.mark.skipif(not NO_DRIVER_HERE, reason="this machine has a driver, which is found")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["/bin/sh", "-c", "echo one | cat | tr o O; exit 3"], "One\n"),
        (["/usr/bin/env", "-i", "/bin/echo", "bare"], "bare\n"),
        (
            [sys.executable, "-c", "import ssl, sqlite3, threading, multiprocessing; print('python')"],
            "python\n",
        ),
        (["/bin/ls", "/proc/self/fd/0"], "/proc/self/fd/0\n"),
    ],
    ids=["shell", "env", "python", "ls"],
)
def test_ordinary_programs_run_where_there_is_no_driver(
    native_dir: Path, slice_home: Path, command: list[str], says: str
) -> None:
    """The library is in all of them, and says and does nothing."""
    made = Slice.create(vram_bytes=LIMIT, home=slice_home)
    env = limiter.environment(made, {**plain_environment(), "LD_DEBUG": ""})
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (says, "")
    assert done.returncode == (3 if "exit 3" in command[-1] else 0)
    assert made.usage().processes == ()


@pytest.fixture
def fake_arbiter(limited: Limited) -> Iterator[FakeArbiter]:
    with FakeArbiter(limited.slice.path) as arbiter:
        yield arbiter


@pytest.mark.sanitized
@pytest.mark.parametrize("work", ["allocations", "launches", "launches in turns"])
def test_forks_of_a_busy_program_can_begin_anew(
    limited: Limited, work: str, request: pytest.FixtureRequest
) -> None:
    """Whatever other threads hold at the moment of the fork: the child starts, allocates, launches, ends."""
    busy = {
        "allocations": "cuda.free(cuda.allocate(BLOCK))",
        "launches": "assert launch() == SUCCESS",
    }[work.removesuffix(" in turns")]
    in_turns = work.endswith("in turns")
    arbiter: FakeArbiter | None = request.getfixturevalue("fake_arbiter") if in_turns else None
    if arbiter is not None:
        arbiter.lend(1, contended=True, in_flight_ns=2_000_000)
    limited.run(
        f"""
        import os, threading, signal
        cuda, over = Cuda().start(), threading.Event()
        launch = lambda: cuda.call("cuLaunchKernel", None, *[ctypes.c_uint(1)] * 7, None, None, None)
        def work():
            cuda.use(0)
            while not over.is_set():
                {busy}
        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads: each.start()
        for _ in range(40):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                cuda.start()
                cuda.free(cuda.allocate(BLOCK))
                assert launch() == SUCCESS
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        over.set()
        for each in threads: each.join()
        assert cuda.used() == 0
        """
    )
    assert limited.slice.usage().vram_used_bytes == 0
    if arbiter is not None:
        assert sum(each.kind == HELLO for each in arbiter.messages) > 40, "not each child connected"


@pytest.mark.sanitized
def test_a_driver_that_initialises_itself_again_while_it_starts(
    native_dir: Path, slice_home: Path, compile_c: CompileC
) -> None:
    """Its calls come back to the limiter, in the same thread and in one that it waits for."""
    text = f'#include "{PROGRAMS / "restless_driver.c"}"'
    driver = compile_c(text, "libcuda.so.1", "-shared", "-fPIC", "-pthread")
    made = Slice.create(vram_bytes=LIMIT, driver=driver, home=slice_home)
    Limited(made, limiter.environment(made, plain_environment())).run(
        """
        cuda = Cuda().start()
        cuda.allocate(64 * MIB)
        assert cuda.try_allocate(1)[0] == OUT_OF_MEMORY
        """
    )
    assert made.usage().vram_peak_bytes == 64 * MIB
