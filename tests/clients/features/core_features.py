"""What programs do with cuda.core: CUDA C++ through NVRTC, each result compared with NumPy. See `run.py`."""

# The names of cuda.core are chosen at run time, by the toolkit's version.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import numpy as np
from cuda.core import (
    Buffer,
    Device,
    EventOptions,
    LaunchConfig,
    LegacyPinnedMemoryResource,
    Linker,
    LinkerOptions,
    ObjectCode,
    Program,
    ProgramOptions,
    Stream,
    launch,
)

device = Device()
device.set_current()
stream: Stream = device.create_stream()
ARCHITECTURE = "".join(map(str, device.compute_capability))


def compiled(source: str, *names: str, **options: object) -> ObjectCode:
    settings = ProgramOptions(std="c++17", arch=f"compute_{ARCHITECTURE}", **options)
    return Program(source, "c++", settings).compile("ptx", name_expressions=names)


def pinned(array: np.ndarray) -> Buffer:
    buffer = LegacyPinnedMemoryResource().allocate(array.nbytes)
    np.from_dlpack(buffer).view(array.dtype)[:] = array
    return buffer


def on_card(array: np.ndarray) -> Buffer:
    buffer = device.allocate(array.nbytes, stream=stream)
    source = pinned(array)
    buffer.copy_from(source, stream=stream)
    stream.sync()
    return buffer


def read(buffer: Buffer, dtype: type) -> np.ndarray:
    target = LegacyPinnedMemoryResource().allocate(buffer.size)
    buffer.copy_to(target, stream=stream)
    stream.sync()
    return np.from_dlpack(target).view(dtype).copy()


def check_is_a_card():
    assert device.compute_capability >= (7, 5)
    assert device.properties.multiprocessor_count > 0
    assert device.name


def check_templates():
    code = compiled(
        "template <typename T> __global__ void scale(T* x, T f, int n) {"
        "  const int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) x[i] *= f; }",
        "scale<float>",
        "scale<double>",
        "scale<long long>",
    )
    for name, dtype in (("float", np.float32), ("double", np.float64), ("long long", np.int64)):
        x = np.arange(1000, dtype=dtype)
        buffer = on_card(x)
        config = LaunchConfig(grid=16, block=64)
        launch(stream, config, code.get_kernel(f"scale<{name}>"), buffer, dtype(3), np.int32(1000))
        np.testing.assert_array_equal(read(buffer, dtype), x * 3)


def check_matrix_product():
    kernel = compiled(
        """
        extern "C" __global__ void product(const float* a, const float* b, float* c, int n) {
          __shared__ float ta[8][8], tb[8][8];
          const int x = blockIdx.x * 8 + threadIdx.x, y = blockIdx.y * 8 + threadIdx.y;
          float sum = 0;
          for (int t = 0; t < n; t += 8) {
            ta[threadIdx.y][threadIdx.x] = a[y * n + t + threadIdx.x];
            tb[threadIdx.y][threadIdx.x] = b[(t + threadIdx.y) * n + x];
            __syncthreads();
            for (int k = 0; k < 8; ++k) sum += ta[threadIdx.y][k] * tb[k][threadIdx.x];
            __syncthreads();
          }
          c[y * n + x] = sum;
        }"""
    ).get_kernel("product")
    n = 64
    a = np.arange(n * n, dtype=np.float32).reshape(n, n) % 13
    b = np.arange(n * n, dtype=np.float32).reshape(n, n) % 7
    c = device.allocate(a.nbytes, stream=stream)
    launch(
        stream, LaunchConfig(grid=(8, 8), block=(8, 8)), kernel, on_card(a.ravel()), on_card(b.ravel()), c,
        np.int32(n),
    )  # fmt: skip
    np.testing.assert_array_equal(read(c, np.float32).reshape(n, n), a @ b)


def check_dynamic_shared_memory():
    kernel = compiled(
        """
        extern "C" __global__ void reverse(int* x) {
          extern __shared__ int held[];
          held[threadIdx.x] = x[threadIdx.x];
          __syncthreads();
          x[threadIdx.x] = held[blockDim.x - 1 - threadIdx.x];
        }"""
    ).get_kernel("reverse")
    buffer = on_card(np.arange(256, dtype=np.int32))
    launch(stream, LaunchConfig(grid=1, block=256, shmem_size=1024), kernel, buffer)
    np.testing.assert_array_equal(read(buffer, np.int32), np.arange(256)[::-1])


def check_linking():
    """Two programs, one calls a function of the other; the driver links PTX where nvJitLink is not there."""
    library = compiled("__device__ int twice(int v) { return 2 * v; }", relocatable_device_code=True)
    caller = compiled(
        "extern __device__ int twice(int);"
        'extern "C" __global__ void apply(int* x) { x[threadIdx.x] = twice(x[threadIdx.x]) + 1; }',
        relocatable_device_code=True,
    )
    linked = Linker(caller, library, options=LinkerOptions(arch=f"sm_{ARCHITECTURE}")).link("cubin")
    buffer = on_card(np.arange(64, dtype=np.int32))
    launch(stream, LaunchConfig(grid=1, block=64), linked.get_kernel("apply"), buffer)
    np.testing.assert_array_equal(read(buffer, np.int32), np.arange(64) * 2 + 1)


def check_streams_and_events():
    kernel = compiled('extern "C" __global__ void add(int* x, int v) { x[threadIdx.x] += v; }').get_kernel(
        "add"
    )
    config = LaunchConfig(grid=1, block=64)
    other = device.create_stream()
    buffer = on_card(np.arange(64, dtype=np.int32))
    begin = stream.record(options=EventOptions(timing_enabled=True))
    launch(stream, config, kernel, buffer, np.int32(10))
    done = stream.record(options=EventOptions(timing_enabled=True))
    other.wait(done)
    launch(other, config, kernel, buffer, np.int32(100))
    other.sync()
    assert done.is_done
    assert done - begin >= 0
    np.testing.assert_array_equal(read(buffer, np.int32), np.arange(64) + 110)


def check_fill_and_copy():
    first, second = (device.allocate(4096, stream=stream) for _ in range(2))
    first.fill(np.uint16(0xBEEF), stream=stream)
    first.copy_to(second, stream=stream)
    np.testing.assert_array_equal(read(second, np.uint16), np.full(2048, 0xBEEF))


def check_kernel_attributes():
    kernel = compiled('extern "C" __global__ void one(int* x) { *x = 1; }').get_kernel("one")
    attributes = kernel.attributes[device]
    assert attributes.max_threads_per_block >= 64
    assert kernel.num_arguments == 1
    assert kernel.occupancy.max_active_blocks_per_multiprocessor(128, 0) >= 1


def check_out_of_memory():
    total = 1 << 50
    try:
        device.allocate(total, stream=stream)
    except Exception as error:  # noqa: BLE001  whichever class cuda.core has for it
        said = str(error)
    else:
        raise AssertionError("a pebibyte was given")
    assert "CUDA_ERROR_OUT_OF_MEMORY" in said, said
    assert read(on_card(np.arange(8)), np.int64).tolist() == list(range(8))


def check_graph_builder():
    code = compiled('extern "C" __global__ void add(int* x, int value) { x[threadIdx.x] += value; }')
    add, config = code.get_kernel("add"), LaunchConfig(grid=1, block=32)
    buffer = on_card(np.arange(32, dtype=np.int32))
    builder = device.create_graph_builder().begin_building()
    launch(builder, config, add, buffer, np.int32(1))
    left, right = builder.split(2)
    other = on_card(np.zeros(32, np.int32))
    launch(left, config, add, buffer, np.int32(10))
    launch(right, config, add, other, np.int32(5))
    joined = type(builder).join(left, right)
    launch(joined, config, add, buffer, np.int32(100))
    graph = joined.end_building().complete()
    graph.upload(stream)
    for _ in range(2):
        graph.launch(stream)
    stream.sync()
    np.testing.assert_array_equal(read(buffer, np.int32), np.arange(32) + 222)
    np.testing.assert_array_equal(read(other, np.int32), np.full(32, 10))


def check_graph_update():
    code = compiled('extern "C" __global__ void set(int* x, int value) { *x = value; }')
    kernel, buffer = code.get_kernel("set"), on_card(np.zeros(1, np.int32))

    def build(value: int):
        builder = device.create_graph_builder().begin_building()
        launch(builder, LaunchConfig(grid=1, block=1), kernel, buffer, np.int32(value))
        return builder.end_building()

    graph = build(1).complete()
    graph.update(build(2))
    graph.launch(stream)
    stream.sync()
    assert read(buffer, np.int32).tolist() == [2]
