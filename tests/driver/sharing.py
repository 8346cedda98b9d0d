"""Processes that have the driver, through ctypes, and do what they are told, line by line: they share device
memory and events, and can be killed between any two steps."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PRELUDE = """
import array, ctypes, os, socket, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
u64, size = ctypes.c_uint64, ctypes.c_size_t

class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char * 64)]
    @staticmethod
    def of(text):
        made = Handle()
        ctypes.memmove(ctypes.byref(made), bytes.fromhex(text), 64)
        return made
    def text(self):
        return ctypes.string_at(ctypes.byref(self), 64).hex()

class Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]

class Access(ctypes.Structure):
    _fields_ = [("location", Location), ("flags", ctypes.c_int)]

class PoolProps(ctypes.Structure):
    _fields_ = [("allocType", ctypes.c_int), ("handleTypes", ctypes.c_int), ("location", Location),
                ("win32", ctypes.c_void_p), ("maxSize", size), ("rest", ctypes.c_char * 56)]

def check(code):
    assert code == 0, code

def start(device=0):
    context = ctypes.c_void_p()
    check(cuda.cuInit(0))
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check(cuda.cuCtxSetCurrent(context))
    return context

def alloc(count):
    address = u64()
    check(cuda.cuMemAlloc_v2(ctypes.byref(address), size(count)))
    return address.value

def fill(address, value, count):
    check(cuda.cuMemsetD8_v2(u64(address), value, size(count)))
    check(cuda.cuCtxSynchronize())

def read(address, count):
    out = ctypes.create_string_buffer(count)
    check(cuda.cuMemcpyDtoH_v2(out, u64(address), size(count)))
    return out.raw

def export(address):
    handle = Handle()
    check(cuda.cuIpcGetMemHandle(ctypes.byref(handle), u64(address)))
    return handle.text()

def try_open(text, flags=1):
    address = u64()
    return cuda.cuIpcOpenMemHandle_v2(ctypes.byref(address), Handle.of(text), flags), address.value

def open_handle(text):
    code, address = try_open(text)
    check(code)
    return address

def close(address):
    return cuda.cuIpcCloseMemHandle(u64(address))

def used():
    free, total = size(), size()
    check(cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
    return total.value - free.value

def stream():
    made = ctypes.c_void_p()
    check(cuda.cuStreamCreate(ctypes.byref(made), 1))
    return made

def event(flags=6):
    made = ctypes.c_void_p()
    check(cuda.cuEventCreate(ctypes.byref(made), flags))
    return made

def export_event(made):
    handle = Handle()
    check(cuda.cuIpcGetEventHandle(ctypes.byref(handle), made))
    return handle.text()

def try_open_event(text):
    made = ctypes.c_void_p()
    return cuda.cuIpcOpenEventHandle(ctypes.byref(made), Handle.of(text)), made

def open_event(text):
    code, made = try_open_event(text)
    check(code)
    return made

def pool(device=0, handle_types=1):
    made = ctypes.c_void_p()
    props = PoolProps(1, handle_types, Location(1, device))
    check(cuda.cuMemPoolCreate(ctypes.byref(made), ctypes.byref(props)))
    return made

def export_pool(made):
    fd = ctypes.c_int(-1)
    check(cuda.cuMemPoolExportToShareableHandle(ctypes.byref(fd), made, 1, u64(0)))
    return fd.value

def try_import_pool(fd):
    made = ctypes.c_void_p()
    return cuda.cuMemPoolImportFromShareableHandle(ctypes.byref(made), ctypes.c_void_p(fd), 1, u64(0)), made

def alloc_from(made, count):
    address = u64()
    check(cuda.cuMemAllocFromPoolAsync(ctypes.byref(address), size(count), made, None))
    check(cuda.cuCtxSynchronize())
    return address.value

def export_pointer(address):
    handle = Handle()
    check(cuda.cuMemPoolExportPointer(ctypes.byref(handle), u64(address)))
    return handle.text()

def try_import_pointer(made, text):
    address, data = u64(), Handle.of(text)
    return cuda.cuMemPoolImportPointer(ctypes.byref(address), made, ctypes.byref(data)), address.value

def send_fd(path, fd):
    with socket.socket(socket.AF_UNIX) as out:
        out.connect(path)
        out.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])

def receive_fd(listener):
    connection, _ = listener.accept()
    with connection:
        _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(4))
        return array.array("i", ancillary[0][2])[0]
"""

_SERVER = (
    PRELUDE
    + """
scope = dict(globals())
for line in sys.stdin:
    try:
        text = repr(eval("(" + line.strip() + ")", scope))
    except SyntaxError:
        exec(line, scope)
        text = "None"
    except BaseException as error:
        text = "!" + repr(error)
    print(text, flush=True)
"""
)


class Process:
    """A process that has the driver and does what it is told. Leaves when its input ends."""

    def __init__(self, env: Mapping[str, str], *, device: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", _SERVER],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.do(f"context = start({device})")

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, line: str) -> None:
        """Tells it what to do, and does not wait."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What came of the line that was begun; as text where it is no literal.

        Raises RuntimeError where it failed or the process died.
        """
        assert self._process.stdout
        text = self._process.stdout.readline()
        if not text or text.startswith("!"):
            raise RuntimeError(text.strip() or "the process has ended")
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    def do(self, line: str) -> Any:
        """Evaluates or executes a line there."""
        self.begin(line)
        return self.answer()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._leave()

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def end(self) -> None:
        """Lets it leave by itself."""
        assert self._process.stdin
        self._process.stdin.close()
        self._leave()
        assert self._process.returncode == 0

    def _leave(self) -> None:
        self._process.wait(30)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
