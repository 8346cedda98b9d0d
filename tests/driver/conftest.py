"""The driver API, called in this process through cuda-bindings.

On simulated cards our libcuda.so.1 is loaded by its path first; cuda-bindings then finds a library of that
name in the process and takes it. With ALIQUOT_TEST_REAL_GPU=1 nothing is loaded and the same tests run on the
machine's own driver: those that ask for the fixture `context` carry the marker `gpu` there.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REAL = os.environ.get("ALIQUOT_TEST_REAL_GPU") == "1"
PTX = Path(__file__).parent / "ptx"


# Left out of the sanitized run: what measures times, and what compiles (NVRTC fails beside a sanitizer).
NOT_SANITIZED = {"test_engine.py", "test_results_of_printf_come_at_a_synchronisation"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a real card, mark what can run there; on simulated ones, what the sanitized run repeats."""
    for item in items:
        if REAL and "context" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.gpu)
        if item.path.parent == Path(__file__).parent and not {item.path.name, item.name} & NOT_SANITIZED:
            item.add_marker(pytest.mark.sanitized)


class CudaError(Exception):
    """A driver call that did not return CUDA_SUCCESS. `code` is the CUresult's name without its prefix."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Api:
    """cuda.bindings.driver with errors as exceptions and without the one-element tuples."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.module, name)
        called = name.startswith("cu") and callable(member) and not isinstance(member, type)
        return self._checked(member) if called else member

    @staticmethod
    def _checked(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            result, *values = function(*arguments)
            if int(result) != 0:
                raise CudaError(result.name.removeprefix("CUDA_ERROR_"))
            if not values:
                return None
            return values[0] if len(values) == 1 else tuple(values)

        return call

    def code(self, name: str, *arguments: Any) -> str:
        """The name of the CUresult of a call, "SUCCESS" included, without its prefix."""
        result, *_ = getattr(self.module, name)(*arguments)
        return result.name.removeprefix("CUDA_ERROR_").removeprefix("CUDA_")


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The initialised driver API."""
    home = None
    if not REAL:
        home = tempfile.mkdtemp(
            prefix="aliquot-driver-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None
        )
        os.environ["ALIQUOT_SIMGPU_HOME"] = home
        os.environ["ALIQUOT_SIMGPU"] = "h100:2,t4:1"
        ctypes.CDLL(
            str(request.getfixturevalue("native_dir") / "simgpu" / "libcuda.so.1"), ctypes.RTLD_GLOBAL
        )
    driver = importlib.import_module("cuda.bindings.driver")

    made = Api(driver)
    made.cuInit(0)
    for variable in () if REAL else ("ALIQUOT_SIMGPU_HOME", "ALIQUOT_SIMGPU"):
        del os.environ[variable]  # read by cuInit; not for the processes that other tests start
    yield made
    if home:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def context(api: Api) -> Iterator[Any]:
    """A fresh primary context of device 0, current in this thread."""
    device = api.cuDeviceGet(0)
    made = api.cuDevicePrimaryCtxRetain(device)
    api.cuCtxSetCurrent(made)
    yield made
    api.module.cuDevicePrimaryCtxReset(device)
    api.module.cuDevicePrimaryCtxRelease(device)
    api.cuCtxSetCurrent(0)


@pytest.fixture
def kernels(api: Api, context: Any) -> Any:
    """A function that finds a kernel of ptx/kernels.ptx."""
    module = api.cuModuleLoadData((PTX / "kernels.ptx").read_bytes() + b"\0")

    def find(name: str) -> Any:
        return api.cuModuleGetFunction(module, name.encode())

    find.module = module
    return find


def to_device(api: Api, values: np.ndarray) -> Any:
    """Device memory that holds `values`."""
    address = api.cuMemAlloc(values.nbytes)
    api.cuMemcpyHtoD(address, values.ctypes.data, values.nbytes)
    return address


def from_device(api: Api, address: Any, count: int, dtype: Any) -> np.ndarray:
    """`count` values at a device address; waits for the legacy default stream."""
    values = np.empty(count, dtype)
    api.cuMemcpyDtoH(values.ctypes.data, address, values.nbytes)
    return values


@pytest.fixture
def put(api: Api, context: Any) -> Any:
    """Copies an array to fresh device memory."""
    return lambda values: to_device(api, values)


@pytest.fixture
def get(api: Api, context: Any) -> Any:
    """Reads an array from device memory: get(address, count, dtype)."""
    return lambda address, count, dtype=np.uint32: from_device(api, address, count, dtype)


@pytest.fixture
def launch(api: Api) -> Any:
    """launch(function, grid, block, *arguments, stream=0, shared=0), of numpy scalars and addresses."""

    def run(function: Any, grid: int, block: int, *arguments: Any, stream: Any = 0, shared: int = 0) -> None:
        boxes = [np.array(int(each) if not isinstance(each, np.generic) else each) for each in arguments]
        pointers = np.array([box.ctypes.data for box in boxes], dtype=np.uint64)
        address = pointers.ctypes.data if boxes else 0
        api.cuLaunchKernel(function, grid, 1, 1, block, 1, 1, shared, stream, address, 0)

    return run


class GraphBuilder:
    """Makes nodes of a graph with short words, and keeps alive what their parameters point to."""

    def __init__(self, api: Any, context: Any) -> None:
        self.api, self.context = api, context
        self.graph = api.cuGraphCreate(0)
        self.kept: list[Any] = []

    def params(self, function: Any, grid: int, block: int, *arguments: Any) -> Any:
        boxes = [np.array(int(each) if not isinstance(each, np.generic) else each) for each in arguments]
        pointers = np.array([box.ctypes.data for box in boxes], dtype=np.uint64)
        self.kept += [boxes, pointers]
        made = self.api.CUDA_KERNEL_NODE_PARAMS()
        made.func = function
        made.gridDimX, made.gridDimY, made.gridDimZ = grid, 1, 1
        made.blockDimX, made.blockDimY, made.blockDimZ = block, 1, 1
        made.sharedMemBytes = 0
        made.kernelParams = pointers.ctypes.data if boxes else 0
        return made

    def kernel(self, function: Any, grid: int, block: int, *arguments: Any, after: Any = ()) -> Any:
        params = self.params(function, grid, block, *arguments)
        return self.api.cuGraphAddKernelNode(self.graph, list(after), len(after), params)

    def set(self, address: Any, value: int, count: int, after: Any = ()) -> Any:
        return self.api.cuGraphAddMemsetNode(
            self.graph, list(after), len(after), self.set_params(address, value, count), self.context
        )

    def set_params(self, address: Any, value: int, count: int) -> Any:
        made = self.api.CUDA_MEMSET_NODE_PARAMS()
        made.dst, made.value, made.elementSize = int(address), value, 4
        made.width, made.height, made.pitch = count, 1, 0
        return made

    def copy_params(self, to: Any, source: Any, count: int) -> Any:
        made = self.api.CUDA_MEMCPY3D()
        made.srcMemoryType = made.dstMemoryType = self.api.CUmemorytype.CU_MEMORYTYPE_DEVICE
        made.srcDevice, made.dstDevice = int(source), int(to)
        made.WidthInBytes, made.Height, made.Depth = count, 1, 1
        return made

    def copy(self, to: Any, source: Any, count: int, after: Any = ()) -> Any:
        return self.api.cuGraphAddMemcpyNode(
            self.graph, list(after), len(after), self.copy_params(to, source, count), self.context
        )

    def empty(self, after: Any = ()) -> Any:
        return self.api.cuGraphAddEmptyNode(self.graph, list(after), len(after))

    def instantiate(self, flags: int = 0) -> Any:
        return self.api.cuGraphInstantiate(self.graph, flags)

    def run(self, stream: Any = 0) -> None:
        self.api.cuGraphLaunch(self.instantiate(), stream)
        self.api.cuStreamSynchronize(stream)


@pytest.fixture
def new_builder(api: Api, context: Any) -> Any:
    """Makes a fresh graph, each with its builder."""
    return lambda: GraphBuilder(api, context)


@pytest.fixture
def builder(new_builder: Any) -> Any:
    """A graph to build."""
    return new_builder()
