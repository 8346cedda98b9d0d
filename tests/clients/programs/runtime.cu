// What the runtime API manages around kernels: memory of every kind, streams, events, symbols, queries and
// errors.
#include "features.hpp"

#include <atomic>
#include <cstdint>
#include <numeric>

namespace {

constexpr int kBlock = 128;
constexpr int kCount = 8 * kBlock;

__global__ void add(int* data, int value, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count)
    data[i] += value;
}

std::vector<int> ramp(int first) {
  std::vector<int> values(kCount);
  std::iota(values.begin(), values.end(), first);
  return values;
}

void versions() {
  int runtime = 0, driver = 0;
  OK(cudaRuntimeGetVersion(&runtime));
  OK(cudaDriverGetVersion(&driver));
  EXPECT(runtime == CUDART_VERSION);
  EXPECT(driver / 1000 >= runtime / 1000);
  std::printf("runtime %d\n", runtime);
}

void properties() {
  cudaDeviceProp card{};
  OK(cudaGetDeviceProperties(&card, 0));
  size_t free_bytes = 0, total = 0;
  OK(cudaMemGetInfo(&free_bytes, &total));
  EXPECT(card.totalGlobalMem == total && free_bytes <= total);
  EXPECT(card.warpSize == 32 && card.multiProcessorCount > 0 && card.maxThreadsPerBlock == 1024);
  int value = 0;
  OK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
  EXPECT(value == card.major && card.major >= 7);
  char bus[32] = {};
  OK(cudaDeviceGetPCIBusId(bus, sizeof bus, 0));
  int found = -1;
  OK(cudaDeviceGetByPCIBusId(&found, bus));
  EXPECT(found == 0);
}

__constant__ int table[4];
__device__ int counter;

__global__ void look_up(int* out) {
  out[threadIdx.x] = table[threadIdx.x % 4];
  if (threadIdx.x == 0)
    counter += 5;
}

void symbols() {
  const int values[4] = {10, 20, 30, 40};
  OK(cudaMemcpyToSymbol(table, values, sizeof values));
  int start = 37;
  OK(cudaMemcpyToSymbol(counter, &start, sizeof start));
  DeviceArray<int> out(kBlock);
  look_up<<<1, kBlock>>>(out.get());
  const auto got = out.read();
  for (int i = 0; i < kBlock; ++i)
    EXPECT(got[i] == values[i % 4]);
  int counted = 0;
  OK(cudaMemcpyFromSymbol(&counted, counter, sizeof counted));
  EXPECT(counted == 42);
  size_t bytes = 0;
  OK(cudaGetSymbolSize(&bytes, table));
  EXPECT(bytes == sizeof values);
}

void mark(void* flag) {
  static_cast<std::atomic<int>*>(flag)->fetch_add(1);
}

void streams() {
  cudaStream_t first = nullptr, second = nullptr;
  OK(cudaStreamCreate(&first));
  OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
  cudaEvent_t done = nullptr;
  OK(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
  int* pinned = nullptr;
  OK(cudaMallocHost(&pinned, kCount * sizeof(int)));
  for (int i = 0; i < kCount; ++i)
    pinned[i] = i;
  DeviceArray<int> data(kCount);
  std::atomic<int> marks{0};
  OK(cudaMemcpyAsync(data.get(), pinned, kCount * sizeof(int), cudaMemcpyHostToDevice, first));
  add<<<8, kBlock, 0, first>>>(data.get(), 100, kCount);
  OK(cudaEventRecord(done, first));
  OK(cudaStreamWaitEvent(second, done, 0));
  add<<<8, kBlock, 0, second>>>(data.get(), 1000, kCount);
  OK(cudaMemcpyAsync(pinned, data.get(), kCount * sizeof(int), cudaMemcpyDeviceToHost, second));
  OK(cudaLaunchHostFunc(second, mark, &marks));
  OK(cudaStreamSynchronize(second));
  EXPECT(marks == 1 && cudaStreamQuery(second) == cudaSuccess && cudaEventQuery(done) == cudaSuccess);
  for (int i = 0; i < kCount; ++i)
    EXPECT(pinned[i] == i + 1100);
  OK(cudaFreeHost(pinned));
  OK(cudaEventDestroy(done));
  OK(cudaStreamDestroy(second));
  OK(cudaStreamDestroy(first));
}

void timing() {
  cudaEvent_t start = nullptr, stop = nullptr;
  OK(cudaEventCreate(&start));
  OK(cudaEventCreate(&stop));
  DeviceArray<int> data(ramp(0));
  OK(cudaEventRecord(start));
  for (int i = 0; i < 10; ++i)
    add<<<8, kBlock>>>(data.get(), 1, kCount);
  OK(cudaEventRecord(stop));
  OK(cudaEventSynchronize(stop));
  float milliseconds = -1;
  OK(cudaEventElapsedTime(&milliseconds, start, stop));
  EXPECT(milliseconds > 0 && milliseconds < 60000);
  EXPECT(data.read() == ramp(10));
  OK(cudaEventDestroy(start));
  OK(cudaEventDestroy(stop));
}

void pools() {
  cudaStream_t stream = nullptr;
  OK(cudaStreamCreate(&stream));
  int* data = nullptr;
  OK(cudaMallocAsync(reinterpret_cast<void**>(&data), kCount * sizeof(int), stream));
  OK(cudaMemsetAsync(data, 0, kCount * sizeof(int), stream));
  add<<<8, kBlock, 0, stream>>>(data, 7, kCount);
  std::vector<int> got(kCount);
  OK(cudaMemcpyAsync(got.data(), data, kCount * sizeof(int), cudaMemcpyDeviceToHost, stream));
  OK(cudaStreamSynchronize(stream));
  EXPECT(got == std::vector<int>(kCount, 7));
  cudaMemPool_t pool = nullptr;
  OK(cudaDeviceGetDefaultMemPool(&pool, 0));
  uint64_t used = 0, after = 0;
  OK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
  EXPECT(used >= kCount * sizeof(int));
  OK(cudaFreeAsync(data, stream));
  OK(cudaStreamSynchronize(stream));
  OK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &after));
  EXPECT(after == used - (used - after) && after < used);
  OK(cudaMemPoolTrimTo(pool, 0));
  OK(cudaStreamDestroy(stream));
}

void mapped_memory() {
  int *host = nullptr, *seen = nullptr;
  OK(cudaHostAlloc(&host, kCount * sizeof(int), cudaHostAllocMapped));
  OK(cudaHostGetDevicePointer(&seen, host, 0));
  std::iota(host, host + kCount, 0);
  add<<<8, kBlock>>>(seen, 3, kCount);
  OK(cudaDeviceSynchronize());
  for (int i = 0; i < kCount; ++i)
    EXPECT(host[i] == i + 3);
  OK(cudaFreeHost(host));
  std::vector<int> own = ramp(5);
  OK(cudaHostRegister(own.data(), kCount * sizeof(int), cudaHostRegisterMapped));
  OK(cudaHostGetDevicePointer(&seen, own.data(), 0));
  add<<<8, kBlock>>>(seen, -5, kCount);
  OK(cudaDeviceSynchronize());
  EXPECT(own == ramp(0));
  OK(cudaHostUnregister(own.data()));
}

void pitched_memory() {
  const size_t width = 100, height = 37;
  void* data = nullptr;
  size_t pitch = 0;
  OK(cudaMallocPitch(&data, &pitch, width, height));
  EXPECT(pitch >= width);
  std::vector<char> in(width * height), out(width * height);
  for (size_t i = 0; i < in.size(); ++i)
    in[i] = static_cast<char>(i * 31);
  OK(cudaMemcpy2D(data, pitch, in.data(), width, width, height, cudaMemcpyHostToDevice));
  OK(cudaMemset2D(data, pitch, 9, 10, 5));
  OK(cudaMemcpy2D(out.data(), width, data, pitch, width, height, cudaMemcpyDeviceToHost));
  for (size_t y = 0; y < height; ++y)
    for (size_t x = 0; x < width; ++x)
      EXPECT(out[y * width + x] == (x < 10 && y < 5 ? char{9} : in[y * width + x]));
  OK(cudaFree(data));
}

void pointer_attributes() {
  DeviceArray<int> data(kCount);
  cudaPointerAttributes found{};
  OK(cudaPointerGetAttributes(&found, data.get() + 10));
  EXPECT(found.type == cudaMemoryTypeDevice && found.device == 0 && found.devicePointer == data.get() + 10);
  int local = 0;
  OK(cudaPointerGetAttributes(&found, &local));
  EXPECT(found.type == cudaMemoryTypeUnregistered);
}

void occupancy() {
  int most = 0;
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&most, add, kBlock, 0));
  EXPECT(most >= 1 && most <= 32);
  int grid = 0, block = 0;
  OK(cudaOccupancyMaxPotentialBlockSize(&grid, &block, add, 0, 0));
  EXPECT(grid >= 1 && block >= 32 && block <= 1024);
  cudaFuncAttributes attributes{};
  OK(cudaFuncGetAttributes(&attributes, add));
  EXPECT(attributes.maxThreadsPerBlock >= kBlock && attributes.ptxVersion >= 70);
}

// libcudart 12 looks at the shape itself; 13 leaves it to the driver, which has one word for every bad
// parameter.
bool is_bad_shape(cudaError_t error) {
  return error == (CUDART_VERSION < 13000 ? cudaErrorInvalidConfiguration : cudaErrorInvalidValue);
}

void launch_errors() {
  DeviceArray<int> data(ramp(0));
  add<<<8, 2048>>>(data.get(), 1, kCount);
  EXPECT(is_bad_shape(cudaGetLastError()));
  EXPECT(cudaGetLastError() == cudaSuccess);
  add<<<0, kBlock>>>(data.get(), 1, kCount);
  EXPECT(is_bad_shape(cudaGetLastError()));
  EXPECT(data.read() == ramp(0));
}

void out_of_memory() {
  size_t free_bytes = 0, total = 0;
  OK(cudaMemGetInfo(&free_bytes, &total));
  void* data = nullptr;
  EXPECT(cudaMalloc(&data, total + (1u << 20)) == cudaErrorMemoryAllocation && data == nullptr);
  EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
  EXPECT(cudaMallocAsync(&data, total + (1u << 20), nullptr) == cudaErrorMemoryAllocation);
  EXPECT(cudaGetLastError() == cudaErrorMemoryAllocation);
  DeviceArray<int> small(ramp(0));
  add<<<8, kBlock>>>(small.get(), 1, kCount);
  EXPECT(small.read() == ramp(1));
  std::printf("%s\n", cudaGetErrorString(cudaErrorMemoryAllocation));
}

const Feature kFeatures[] = {
    {"versions", versions},
    {"properties", properties},
    {"symbols", symbols},
    {"streams", streams},
    {"timing", timing},
    {"pools", pools},
    {"mapped_memory", mapped_memory},
    {"pitched_memory", pitched_memory},
    {"pointer_attributes", pointer_attributes},
    {"occupancy", occupancy},
    {"launch_errors", launch_errors},
    {"out_of_memory", out_of_memory},
};

} // namespace

int main(int argc, char** argv) {
  return run_features(kFeatures, sizeof kFeatures / sizeof *kFeatures, argc, argv);
}
