// Hooks of stream-ordered memory. A pool is charged the bytes that it has reserved (see pool_book.hpp).
// Allocations recorded into a graph by stream capture take memory only when the graph runs (graph_book.hpp).
#include "native/limiter/cuda/charging.hpp"

namespace aliquot::limiter {
namespace {

// Whether an allocation in the stream becomes a node of a graph.
bool is_captured(Limiter& here, CUstream stream) noexcept {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (driver().cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS ||
      status == CU_STREAM_CAPTURE_STATUS_NONE)
    return false;
  here.graphs.expect_memory();
  return true;
}

bool is_default_stream(CUstream stream) noexcept {
  return stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

// The ordinal of the stream's device.
bool ordinal_of(CUstream stream, CUdevice& ordinal) noexcept {
  CUcontext context = nullptr, popped = nullptr;
  if (is_default_stream(stream))
    return driver().cuCtxGetDevice(&ordinal) == CUDA_SUCCESS;
  if (driver().cuStreamGetCtx(stream, &context) != CUDA_SUCCESS ||
      driver().cuCtxPushCurrent_v2(context) != CUDA_SUCCESS) {
    return false;
  }
  const bool found = driver().cuCtxGetDevice(&ordinal) == CUDA_SUCCESS;
  driver().cuCtxPopCurrent_v2(&popped);
  return found;
}

template <typename Call>
CUresult allocate_in(CUmemoryPool pool, unsigned device, CUdeviceptr* address, std::size_t bytes,
                     Call call) noexcept {
  Limiter& here = *limiter();
  const CUresult answer = here.pools.allocate(
      pool, device, bytes, address, [&] { return in_driver(call); },
      [&] { in_driver([&] { return driver().cuMemFree_v2(*address); }); });
  if (answer == CUDA_SUCCESS)
    here.counters().allocations.fetch_add(1, std::memory_order_relaxed);
  return answer;
}

// From the pool that is current on the stream's device.
template <typename Call>
CUresult allocate_async(CUdeviceptr* address, std::size_t bytes, CUstream stream, Call call) noexcept {
  if (InsideDriver::here())
    return call();
  Limiter* here = limiter();
  if (here == nullptr)
    return CUDA_ERROR_NOT_INITIALIZED;
  CUdevice ordinal = 0;
  CUmemoryPool pool = nullptr;
  if (address == nullptr || is_captured(*here, stream))
    return in_driver(call);
  if (!ordinal_of(stream, ordinal) || driver().cuDeviceGetMemPool(&pool, ordinal) != CUDA_SUCCESS) {
    return unplaced(call, [&] { return driver().cuMemFreeAsync(*address, stream); });
  }
  unsigned device = here->device_of(ordinal);
  here->pools.device_of(pool, device);
  return allocate_in(pool, device, address, bytes, call);
}

template <typename Call>
CUresult allocate_from_pool(CUmemoryPool pool, CUdeviceptr* address, std::size_t bytes, CUstream stream,
                            Call call) noexcept {
  if (InsideDriver::here())
    return call();
  Limiter* here = limiter();
  if (here == nullptr)
    return CUDA_ERROR_NOT_INITIALIZED;
  unsigned device = kNoDevice;
  if (address == nullptr || is_captured(*here, stream) || !here->pools.device_of(pool, device))
    return in_driver(call);
  return allocate_in(pool, device, address, bytes, call);
}

// A pool that a device has by itself becomes known when the program first sees it.
CUresult learn(CUresult answer, const CUmemoryPool* pool, CUdevice ordinal) noexcept {
  Limiter* here = limiter();
  if (answer == CUDA_SUCCESS && here != nullptr)
    here->pools.learn(*pool, here->device_of(ordinal));
  return answer;
}

CUresult learn_located(CUresult answer, const CUmemoryPool* pool, const CUmemLocation* location,
                       CUmemAllocationType type) noexcept {
  const bool on_device = location != nullptr && location->type == CU_MEM_LOCATION_TYPE_DEVICE;
  return on_device && type == CU_MEM_ALLOCATION_TYPE_PINNED ? learn(answer, pool, location->id) : answer;
}

CUresult settled(CUresult answer, CUmemoryPool pool) noexcept {
  if (Limiter* here = limiter())
    here->pools.settle(pool);
  return answer;
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream stream) {
  return allocate_async(address, bytes, stream,
                        [&] { return driver().cuMemAllocAsync(address, bytes, stream); });
}

ALIQUOT_EXPORT CUresult cuMemAllocAsync_ptsz(CUdeviceptr* address, size_t bytes, CUstream stream) {
  return allocate_async(address, bytes, stream,
                        [&] { return driver().cuMemAllocAsync_ptsz(address, bytes, stream); });
}

ALIQUOT_EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr* address, size_t bytes, CUmemoryPool pool,
                                                CUstream stream) {
  return allocate_from_pool(pool, address, bytes, stream,
                            [&] { return driver().cuMemAllocFromPoolAsync(address, bytes, pool, stream); });
}

ALIQUOT_EXPORT CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* address, size_t bytes, CUmemoryPool pool,
                                                     CUstream stream) {
  return allocate_from_pool(pool, address, bytes, stream, [&] {
    return driver().cuMemAllocFromPoolAsync_ptsz(address, bytes, pool, stream);
  });
}

ALIQUOT_EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  return refunded(&Limiter::memory, address, [&] { return driver().cuMemFreeAsync(address, stream); });
}

ALIQUOT_EXPORT CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream) {
  return refunded(&Limiter::memory, address, [&] { return driver().cuMemFreeAsync_ptsz(address, stream); });
}

ALIQUOT_EXPORT CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* properties) {
  const CUresult answer = driver().cuMemPoolCreate(pool, properties);
  return properties != nullptr ? learn_located(answer, pool, &properties->location, properties->allocType)
                               : answer;
}

ALIQUOT_EXPORT CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  Limiter* here = limiter();
  return here != nullptr ? here->pools.destroy(pool) : driver().cuMemPoolDestroy(pool);
}

ALIQUOT_EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) {
  return settled(driver().cuMemPoolTrimTo(pool, keep), pool);
}

ALIQUOT_EXPORT CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
  return learn(driver().cuDeviceGetDefaultMemPool(pool, device), pool, device);
}

ALIQUOT_EXPORT CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
  const CUresult answer = driver().cuDeviceGetMemPool(pool, device);
  return learn(answer, pool, device);
}

ALIQUOT_EXPORT CUresult cuMemGetDefaultMemPool(CUmemoryPool* pool, CUmemLocation* location,
                                               CUmemAllocationType type) {
  return learn_located(driver().cuMemGetDefaultMemPool(pool, location, type), pool, location, type);
}

ALIQUOT_EXPORT CUresult cuMemGetMemPool(CUmemoryPool* pool, CUmemLocation* location,
                                        CUmemAllocationType type) {
  return learn_located(driver().cuMemGetMemPool(pool, location, type), pool, location, type);
}
}
