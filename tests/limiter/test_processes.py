"""One budget for all processes of a slice, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aliquot.limits.layout import load
from aliquot.limits.processes import unpack_owner

from .conftest import LIMIT, MIB, Limited

pytestmark = pytest.mark.sanitized

HOLDER = """
cuda = Cuda().start()
for _ in range(int(sys.argv[2])):
    cuda.allocate(int(sys.argv[1]))
print("holding", flush=True)
sys.stdin.read()
"""
TAKE_ALL = """
cuda = Cuda().start()
count = 0
while cuda.try_allocate(BLOCK)[0] == SUCCESS:
    count += 1
print(count * BLOCK)
"""


@contextmanager
def holding(limited: Limited, size: int, count: int = 1) -> Iterator[subprocess.Popen[str]]:
    """A process of the slice that has allocated, and waits until it is killed or told to end."""
    with limited.start(HOLDER, str(size), str(count)) as process:
        assert process.stdout
        assert process.stdout.readline() == "holding\n"
        try:
            yield process
        finally:
            process.kill()


def rest_of(limited: Limited) -> int:
    """What a newcomer can still take, in bytes."""
    return int(limited.run(TAKE_ALL)[0])


@pytest.mark.parametrize(("processes", "threads", "rounds"), [(2, 1, 60), (4, 2, 60), (8, 4, 20)])
def test_storm_of_kills(
    limited: Limited, native_build: Path, processes: int, threads: int, rounds: int
) -> None:
    """Never a byte over the limit, none lost to the dead, none forgotten of the living, nobody hangs."""
    storm = native_build / "native/limiter/limiter-storm"
    command = [storm, LIMIT, processes, threads, rounds, 11]
    env = {**limited.env, "ALIQUOT_LOG": "error"}
    done = subprocess.run(
        list(map(str, command)), env=env, capture_output=True, text=True, timeout=100, check=False
    )
    expected = dict.fromkeys(
        ["bytes_over", "bytes_lost", "bytes_unaccounted", "hung_rounds", "wrong_codes"], 0
    )
    assert json.loads(done.stdout) == {"rounds": rounds, **expected}, done.stderr
    assert limited.slice.usage().vram_used_bytes == 0


def test_the_storm_notices_a_limit_that_does_not_hold(limited: Limited, native_build: Path) -> None:
    limited.slice.set_vram_limit(LIMIT + 4 * MIB)
    storm = native_build / "native/limiter/limiter-storm"
    env = {**limited.env, "ALIQUOT_LOG": "error"}
    command = [str(storm), str(LIMIT), "2", "1", "2", "3"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["bytes_unaccounted"] > 0


def test_processes_share_one_budget(limited: Limited) -> None:
    with holding(limited, 8 * MIB, 3), holding(limited, 2 * MIB, 5) as second:
        usage = limited.slice.usage()
        assert sorted(process.vram_used_bytes for process in usage.processes) == [(10 * MIB,), (24 * MIB,)]
        assert usage.vram_used_bytes == 34 * MIB
        assert rest_of(limited) == 30 * MIB
        second.kill()
        second.wait()
        assert limited.slice.usage().vram_used_bytes == 24 * MIB
        assert rest_of(limited) == 40 * MIB
    assert rest_of(limited) == LIMIT


def test_what_one_process_does_not_use_of_its_lease_another_can_have(limited: Limited) -> None:
    """Freed memory stays leased to the process that had it, until another one needs it."""
    program = """
    cuda = Cuda().start()
    addresses = [cuda.allocate(BLOCK) for _ in range(31)]
    for address in addresses[1:]:
        cuda.free(address)
    print("freed", flush=True)
    for line in sys.stdin:
        print(cuda.try_allocate(int(line))[0], flush=True)
    """
    with limited.start(program) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "freed\n"
        assert rest_of(limited) == LIMIT - 2 * MIB
        print(BLOCK_COUNT := 31 * 2 * MIB, file=process.stdin, flush=True)
        assert process.stdout.readline() == "0\n", BLOCK_COUNT
        print(1, file=process.stdin, flush=True)
        assert process.stdout.readline() == "2\n"


def test_a_stopped_process_blocks_nobody(limited: Limited) -> None:
    with holding(limited, 8 * MIB) as process:
        process.send_signal(signal.SIGSTOP)
        assert rest_of(limited) == LIMIT - 8 * MIB
        process.send_signal(signal.SIGCONT)


def test_a_zombie_holds_nothing(limited: Limited) -> None:
    with holding(limited, 8 * MIB) as process:
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert limited.slice.usage().processes == ()
        assert rest_of(limited) == LIMIT


def test_a_reused_pid_is_told_apart(limited: Limited) -> None:
    """An account under the pid of a living process that started at another time is void."""
    layout = load()
    account = limited.slice.path / "account"
    with holding(limited, 8 * MIB) as process:
        content = bytearray(account.read_bytes())
        at = layout.structures["Account"].offset("processes") + layout.structures["Process"].offset("owner")
        word = int.from_bytes(content[at : at + 8], "little")
        assert unpack_owner(word, layout).pid == process.pid
        shift = layout.number("owner_pid_bits") + layout.number("owner_namespace_bits")
        with account.open("r+b") as file:
            file.seek(at)
            file.write((word - (1 << shift)).to_bytes(8, "little"))
        assert limited.slice.usage().processes == ()
        assert rest_of(limited) == LIMIT


def test_a_forked_child_is_not_charged_for_its_parent(limited: Limited) -> None:
    limited.run(
        """
        import os
        cuda = Cuda().start()
        address = cuda.allocate(40 * MIB)
        child = os.fork()
        if child == 0:
            cuda.start()                                   # the null driver lets a child begin anew
            assert cuda.info() == (24 * MIB, 64 * MIB)     # the parent's memory is held by the slice
            assert cuda.try_allocate(30 * MIB)[0] == OUT_OF_MEMORY
            cuda.allocate(24 * MIB)
            cuda.call("cuMemFree_v2", address)             # not the child's: it must not refund the parent's
            assert cuda.info() == (0, 64 * MIB)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert cuda.try_allocate(24 * MIB)[0] == SUCCESS
        cuda.free(address)
        assert cuda.used() == 24 * MIB
        """
    )


def test_a_forked_child_must_begin_anew(limited: Limited) -> None:
    limited.run(
        """
        import os
        cuda = Cuda().start()
        child = os.fork()
        if child == 0:
            os._exit(0 if cuda.try_allocate(BLOCK)[0] == NOT_INITIALIZED else 1)
        assert os.waitpid(child, 0)[1] == 0
        """
    )


def test_a_program_that_replaces_itself_starts_from_nothing(limited: Limited) -> None:
    """execve keeps the pid and the start time; what the old program held went with it."""
    limited.run(
        """
        import os
        cuda = Cuda().start()
        cuda.allocate(60 * MIB)
        text = "from driver_calls import *; Cuda().start().allocate(64 * MIB)"
        os.execv(sys.executable, [sys.executable, "-c", text])
        """
    )


def test_children_stay_on_the_slice(limited: Limited) -> None:
    limited.run(
        """
        import subprocess
        cuda = Cuda().start()
        cuda.allocate(60 * MIB)
        text = "from driver_calls import *; print(*Cuda().start().info())"
        out = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
        assert out.split() == [str(4 * MIB), str(64 * MIB)], out
        """
    )


def test_what_the_killed_held_shows_as_free_again(limited: Limited) -> None:
    with holding(limited, 2 * MIB) as survivor, holding(limited, 40 * MIB) as victim:
        victim.kill()
        victim.wait()
        deadline = time.monotonic() + 10
        info = "cuda = Cuda().start(); print(cuda.info()[0])"
        while int(limited.run(info)[0]) != 62 * MIB:
            assert time.monotonic() < deadline
        assert survivor.poll() is None


def test_scribbling_over_the_account_crashes_and_blocks_nobody(limited: Limited) -> None:
    """A tenant may lie about itself; the next one still starts, allocates, and stays within its limit."""
    account = limited.slice.path / "account"
    size = account.stat().st_size
    for pattern in (b"\xff", b"\x7f", b"\x01"):
        with account.open("r+b") as file:
            file.seek(16)
            file.write(pattern * (size - 16))
        out, _ = limited.run(
            """
            cuda = Cuda()
            result = cuda.call("cuInit", 0)
            if result != SUCCESS:
                print("refused", result)
            else:
                cuda.use(0)
                assert cuda.try_allocate(128 * MIB)[0] == OUT_OF_MEMORY
                print("ran", *cuda.info())
            """
        )
        assert out.startswith(("refused 802", "ran")), out
        assert limited.slice.usage().vram_used_bytes >= 0
