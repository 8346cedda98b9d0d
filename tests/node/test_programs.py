"""`aliquot.node.programs` stands in for the shell: statuses, signals, terminal, folder."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUNNER = """
import os, sys
from aliquot.errors import AliquotError
from aliquot.node.programs import run_program
try:
    ended = run_program(sys.argv[1:], os.environ)
except AliquotError as error:
    print(error.code, file=sys.stderr)
    sys.exit(error.exit_status)
sys.exit(ended.shell_status)
"""


def command(*program: str) -> list[str]:
    return [sys.executable, "-c", RUNNER, *program]


def run(*program: str, **options: object) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "timeout": 20, "check": False, **options}
    return subprocess.run(command(*program), **settings)  # pyright: ignore[reportCallIssue, reportArgumentType]


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_the_status_is_the_programs(status: int) -> None:
    assert run("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_killed_program_is_reported_as_a_shell_does(number: signal.Signals) -> None:
    assert run("sh", "-c", f"kill -{number.value} $$").returncode == 128 + number


def test_a_program_that_is_not_there() -> None:
    done = run("no-such-program-at-all")
    assert (done.returncode, done.stderr.strip()) == (127, "program-not-found")


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("not a program")
    done = run(str(file))
    assert (done.returncode, done.stderr.strip()) == (126, "program-not-executable")


def test_folder_arguments_and_streams_are_passed_on(tmp_path: Path) -> None:
    done = run("sh", "-c", 'pwd; cat; echo "$1" >&2', "sh", "two  words", cwd=tmp_path, input="in\n")
    assert done.stdout == f"{tmp_path}\nin\n"
    assert done.stderr == "two  words\n"


def test_the_program_has_the_signals_that_it_would_have_without_us() -> None:
    look = ["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]
    without = subprocess.run(look, capture_output=True, text=True, check=True).stdout
    assert signal_sets(run(*look).stdout) == signal_sets(without)


def signal_sets(status: str) -> list[int]:
    """The sets of /proc/PID/status without signals 32 and 33, which belong to the C library (signal(7))."""
    return [int(word, 16) & ~(3 << 31) for word in status.split()[1::2]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_from_other_processes_reach_the_program(number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(command("sh", "-c", script), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"got {name}\n"
        assert process.wait(timeout=10) == 7


def test_the_terminal_belongs_to_the_program_and_its_interrupt_arrives_once() -> None:
    script = "trap 'echo interrupted' INT; test -t 0 && echo terminal; read line; read line; exit 5"
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, command("sh", "-c", script))
    text = read_until(terminal, "terminal")
    os.write(terminal, b"\x03")
    text += read_until(terminal, "interrupted")
    time.sleep(0.2)
    os.write(terminal, b"one\ntwo\n")
    text += read_until(terminal, None)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 5
    assert text.count("interrupted") == 1


def read_until(terminal: int, wanted: str | None) -> str:
    text = ""
    while wanted is None or wanted not in text:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        text += piece.decode()
    return text
