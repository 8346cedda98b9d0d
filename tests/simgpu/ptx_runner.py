"""Runs kernels on a driver library in a process of its own: `python ptx_runner.py LIBRARY FOLDER`.

FOLDER/cases.json lists {"name", "ptx", "inputs": [keys], "output": dtype, "count", "threads"};
FOLDER/inputs.npz holds the arrays. Each kernel "k" gets the inputs, the output and the count.
FOLDER/outputs.npz takes what the kernels wrote and FOLDER/errors.json what failed, as [call, CUresult] by
name. Plain ctypes: no client library stands between the test and the driver.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import numpy as np


class DriverError(Exception):
    """A call of the driver API failed."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(call, code)
        self.call = call
        self.code = code


class Driver:
    """The few calls that it takes to run a kernel."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        self.call("cuInit", 0)
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxSetCurrent", context)

    def call(self, name: str, *arguments: object) -> None:
        """Calls a function; raises DriverError where it does not return CUDA_SUCCESS."""
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise DriverError(name, code)

    def upload(self, array: np.ndarray) -> ctypes.c_uint64:
        """Device memory with a copy of the array."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(array.nbytes, 1)))
        self.call(
            "cuMemcpyHtoD_v2", address, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        )
        return address

    def run(self, ptx: str, inputs: list[np.ndarray], output: np.ndarray, count: int, threads: int) -> None:
        """Loads a module, runs its kernel "k" and fetches the output."""
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ptx.encode() + b"\0")
        self.call("cuModuleGetFunction", ctypes.byref(function), module, b"k")
        addresses = [self.upload(array) for array in (*inputs, output)]
        arguments = [*addresses, ctypes.c_uint32(count)]
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        blocks = (count + threads - 1) // threads
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, pointers, None)
        self.call("cuCtxSynchronize")
        target = ctypes.c_void_p(output.ctypes.data)
        self.call("cuMemcpyDtoH_v2", target, addresses[-1], ctypes.c_size_t(output.nbytes))
        for address in addresses:
            self.call("cuMemFree_v2", address)
        self.call("cuModuleUnload", module)


def main(library: str, folder: Path) -> None:
    """Runs every case; one that fails does not keep the others from running."""
    driver = Driver(library)
    arrays = np.load(folder / "inputs.npz")
    outputs: dict[str, np.ndarray] = {}
    errors: dict[str, list[object]] = {}
    for case in json.loads((folder / "cases.json").read_text()):
        output = np.zeros(case["count"], case["output"])
        try:
            inputs = [arrays[key] for key in case["inputs"]]
            driver.run(case["ptx"], inputs, output, case["count"], case["threads"])
            outputs[case["name"]] = output
        except DriverError as error:
            errors[case["name"]] = [error.call, error.code]
    np.savez(folder / "outputs.npz", **outputs)  # pyright: ignore[reportArgumentType]
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
