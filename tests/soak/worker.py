"""One process of the soak: threads that make random calls until they are told to stop, or are killed.

    python -m tests.soak.worker LIBRARY FOLDER INDEX SEED THREADS STEADY

A steady worker also destroys everything it has from time to time and notes how much host memory is left
allocated then: the driver may not keep more and more of it.
"""

from __future__ import annotations

import collections
import ctypes
import gc
import mmap
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from .abi import Call, DriverApi
from .values import ZERO_WORD, Arguments, Pool, close_quietly

SLOT_WORDS = 4  # of a thread on the board: calls made, start of the call under way (ns), its index, successes
MOST_THREADS = 8
CALLS_BETWEEN_CLEANUPS = 1500

STICKY = {46, 214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721}
NO_CONTEXT = {3, 201, 709}
NOT_SUPPORTED = 801
# The rare ones would otherwise put a thread where little else works, the frequent ones get it out again.
WEIGHTS = collections.defaultdict(
    lambda: 1.0,
    {
        "cuInit": 0.1,
        "cuStreamBeginCapture": 0.2,
        "cuStreamBeginCaptureToGraph": 0.2,
        "cuStreamEndCapture": 4.0,
        "cuLaunchKernel": 12.0,
        "cuLaunchKernelEx": 4.0,
        "cuMemAlloc": 3.0,
        "cuMemFree": 3.0,
        "cuMemAllocAsync": 3.0,
        "cuMemFreeAsync": 3.0,
        "cuModuleLoadData": 3.0,
        "cuModuleGetFunction": 4.0,
        "cuStreamCreate": 2.0,
        "cuEventCreate": 2.0,
        "cuCtxDestroy": 0.3,
        "cuCtxSetCurrent": 0.3,
        "cuDevicePrimaryCtxReset": 0.2,
        "cuDevicePrimaryCtxRelease": 0.5,
        "cuGraphAddChildGraphNode": 0.3,
        "cuGraphClone": 0.3,
        "cuGraphDestroy": 2.0,
        "cuGraphExecDestroy": 2.0,
        "cuStreamSynchronize": 2.0,
    },
)
# How each kind of thing is given back; in this order, so that users go before what they use. A pair is
# given as two arguments: an address with its size, a device with what it was asked to call.
DESTROYERS = (
    ("CUgraphExec", "cuGraphExecDestroy"),
    ("CUgraph", "cuGraphDestroy"),
    ("CUuserObject", "cuUserObjectRelease"),
    ("CUevent", "cuEventDestroy_v2"),
    ("CUstream", "cuStreamDestroy_v2"),
    ("CUdeviceptr", "cuMemFree_v2"),
    ("unified", "cuMemFree_v2"),
    ("CUdeviceptr", "cuIpcCloseMemHandle"),
    ("host", "cuMemFreeHost"),
    ("CUarray", "cuArrayDestroy"),
    ("CUmipmappedArray", "cuMipmappedArrayDestroy"),
    ("CUmemoryPool", "cuMemPoolDestroy"),
    ("CUlinkState", "cuLinkDestroy"),
    ("CUmodule", "cuModuleUnload"),
    ("CUlibrary", "cuLibraryUnload"),
    ("mapped", "cuMemUnmap"),
    ("CUmemGenericAllocationHandle", "cuMemRelease"),
    ("reserved", "cuMemAddressFree"),
    ("CUcontext", "cuCtxDestroy_v2"),
    ("notification", "cuDeviceUnregisterAsyncNotification"),
)
_COUNTED = ("cuIpcCloseMemHandle", "cuMemRelease")  # a handle may have been taken more than once


class Board:
    """What the parent watches: one row of words for each thread, in a file that both map."""

    def __init__(self, path: Path, threads: int) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.rows = [
            (ctypes.c_uint64 * SLOT_WORDS).from_buffer(self._map, 8 * SLOT_WORDS * index)
            for index in range(threads)
        ]


class Worker:
    """The library, what was made with it, and the threads that call it."""

    def __init__(self, library: str, folder: Path, seed: int, threads: int, steady: bool = False) -> None:
        self.api = DriverApi()
        self.library = ctypes.CDLL(library)
        self.folder, self.seed = folder, seed
        self.pool = Pool(folder, keep_all=steady)
        self.calls = self.api.calls
        self.functions = [self._function(call) for call in self.calls]
        self.board = Board(folder / f"board-{os.getpid()}", threads)
        self.sources = [self._source(row) for row in range(threads)]
        self.stopping = threading.Event()
        self.refused: collections.Counter[int] = collections.Counter()
        self.succeeded: set[int] = set()

    def _function(self, call: Call) -> Any:
        function = getattr(self.library, call.symbol)
        function.argtypes = [self.api.ctype(param.type) for param in call.params]
        return function

    def _source(self, row: int) -> tuple[random.Random, Arguments]:
        """The randomness of one thread."""
        rng = random.Random(self.seed * 1000 + row)
        return rng, Arguments(self.api, rng, self.pool, self.folder)

    def plain(self, symbol: str, *arguments: Any) -> int:
        """A call outside of the random ones."""
        index = next(i for i, call in enumerate(self.calls) if call.symbol == symbol)
        return self.functions[index](*arguments)

    def start_over(self) -> None:
        """A primary context that works, made current."""
        if self._use_fresh_context():
            self._load_code()
            self._make_zero_word()

    def _make_zero_word(self) -> None:
        """Host memory for waits, which only they know of and which goes with its context."""
        word = ctypes.c_void_p()
        if self.plain("cuMemHostAlloc", ctypes.addressof(word), 8, 0) == 0 and word.value:
            self.pool.add(ZERO_WORD, word.value)

    def _load_code(self) -> None:
        """A module with its kernels, so that launches have something to launch."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        image = (Path(__file__).parent / "kernels.ptx").read_bytes()
        if self.plain("cuModuleLoadData", ctypes.addressof(module), ctypes.c_char_p(image)) != 0:
            return
        self.pool.add("CUmodule", module.value)
        for name in (b"fill", b"copy", b"reduce", b"wait"):
            if self.plain("cuModuleGetFunction", ctypes.addressof(function), module, name) == 0:
                self.pool.add("CUfunction", function.value)

    def run(self, row: int, most: int) -> None:
        """Random calls by this thread until told to stop, or `most` of them."""
        rng, arguments = self.sources[row]
        weights = [WEIGHTS[call.base] for call in self.calls]
        order: list[int] = []
        self.start_over()
        for _ in range(most):
            if self.stopping.is_set():
                return
            if not order:
                order = rng.choices(range(len(self.calls)), weights, k=500)
            self._one(order.pop(), arguments, rng, row)

    def _one(self, index: int, arguments: Arguments, rng: random.Random, row: int) -> None:
        if self.refused[index] > 3 and rng.random() < 0.95:
            return  # not implemented, as it says itself
        call, words = self.calls[index], self.board.rows[row]
        values = arguments.make(call)
        words[2] = index
        words[1] = time.monotonic_ns()
        result = self.functions[index](*values)
        words[1] = 0
        words[0] += 1
        self._judge(index, result, words, arguments, values, rng)

    def _judge(
        self, index: int, result: int, words: Any, arguments: Arguments, values: list[Any], rng: random.Random
    ) -> None:
        if result == 0:
            words[3] += 1
            self.succeeded.add(index)
            arguments.harvest(self.calls[index], values)
        elif result == NOT_SUPPORTED:
            self.refused[index] += 1
        elif result in STICKY or (result in NO_CONTEXT and rng.random() < 0.2):
            self.start_over()

    def clean_up(self) -> None:
        """Gives everything back that is known here."""
        self.plain("cuCtxSynchronize")
        popped = ctypes.c_void_p()
        while self.plain("cuCtxPopCurrent_v2", ctypes.addressof(popped)) == 0 and popped.value:
            self.pool.add("CUcontext", popped.value)
        self._use_fresh_context()
        for kind, symbol in DESTROYERS:
            for value in self.pool.all(kind):
                self._give_back(symbol, value)
        for descriptor in self.pool.all("fd"):
            close_quietly(descriptor)
        for device in (0, 1):
            self.plain("cuDevicePrimaryCtxReset_v2", device)
        self.pool.forget()

    def _use_fresh_context(self) -> bool:
        """Makes a primary context without errors current; memory of pools, too, can be freed in it."""
        for device in (0, 1):
            self.plain("cuDevicePrimaryCtxReset_v2", device)
        context = ctypes.c_void_p()
        if self.plain("cuDevicePrimaryCtxRetain", ctypes.addressof(context), self.seed % 2) == 0:
            self.pool.add("CUcontext", context.value)
        return bool(context.value) and self.plain("cuCtxSetCurrent", context) == 0

    def _give_back(self, symbol: str, value: Any) -> None:
        """One thing, with all references to it that are ours."""
        if symbol == "cuUserObjectRelease":
            for bit in reversed(range(31)):
                while self.plain(symbol, value, 1 << bit) == 0:
                    pass
        elif symbol in _COUNTED:
            while self.plain(symbol, value) == 0:
                pass
        else:
            self.plain(symbol, *(value if isinstance(value, tuple) else (value,)))

    def note_memory(self) -> None:
        """Appends how much is allocated on the heap now, in bytes; what Python would free is freed before."""
        gc.collect()
        with (self.folder / f"heap-{os.getpid()}").open("a") as file:
            file.write(f"{sum(row[0] for row in self.board.rows)} {heap_bytes()}\n")

    def note_successes(self) -> None:
        """Appends which calls have succeeded at least once."""
        names = sorted(self.calls[index].symbol for index in self.succeeded)
        (self.folder / f"succeeded-{os.getpid()}").write_text("\n".join(names))


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of malloc.h: ten numbers of bytes, or of chunks."""

    _fields_ = [("words", ctypes.c_size_t * 10)]


_MAPPED, _IN_USE = 4, 7  # hblkhd and uordblks


def heap_bytes() -> int:
    """Bytes in use on the heap of this process, by the sanitizer's account or the C library's."""
    program = ctypes.CDLL(None)
    if hasattr(program, "__sanitizer_get_current_allocated_bytes"):
        program.__sanitizer_get_current_allocated_bytes.restype = ctypes.c_size_t
        return program.__sanitizer_get_current_allocated_bytes()
    program.mallinfo2.restype = _Mallinfo2
    words = program.mallinfo2().words
    return words[_IN_USE] + words[_MAPPED]


def steadily(worker: Worker) -> None:
    """One thread that cleans up after each so many calls."""
    while not worker.stopping.is_set():
        worker.run(0, CALLS_BETWEEN_CLEANUPS)
        worker.clean_up()
        worker.note_memory()
        worker.note_successes()


def freely(worker: Worker, threads: int) -> None:
    """Threads that share what they make."""
    with ThreadPoolExecutor(threads) as running:
        ended = [running.submit(worker.run, row, sys.maxsize) for row in range(threads)]
        for thread in as_completed(ended):
            thread.result()  # an error of the soak itself ends the process, which the parent reports
    worker.note_successes()


def main() -> int:
    library, folder, seed, threads, steady = sys.argv[1:6]
    worker = Worker(library, Path(folder), int(seed), int(threads), steady == "steady")
    signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
    if (status := worker.plain("cuInit", 0)) != 0:
        print(f"cuInit: {status}", file=sys.stderr)
        return 1
    if steady == "steady":
        steadily(worker)
    else:
        freely(worker, int(threads))
    worker.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
