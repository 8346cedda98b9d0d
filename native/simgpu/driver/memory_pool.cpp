// Stream-ordered memory: pools, and allocations and frees that take their place in a stream.
#include <algorithm>
#include <utility>

#include "native/simgpu/driver/graph/memory_capture.hpp"
#include "native/simgpu/driver/memory_pool.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

// Gives the memory back to its pool when the stream comes to it.
class FreeCommand final : public Command {
 public:
  explicit FreeCommand(Allocation allocation) : allocation_(std::move(allocation)) {}
  Outcome run(Stream&) noexcept override {
    skip();
    return Outcome::Done;
  }
  void skip() noexcept override {
    Driver& driver = Driver::instance();
    const auto erased = driver.allocations.erase(allocation_.address, [this](const Allocation& each) {
      return each.buffer_id == allocation_.buffer_id;
    });
    if (erased)
      driver.give_back(*erased);
  }

 private:
  const Allocation allocation_;
};

// Memory that frees on their way will bring back is waited for before an allocation fails.
std::uint64_t allocate_from(Pool& pool, std::size_t bytes, const StreamPtr& stream) {
  if (const std::uint64_t address = pool.allocate(bytes); address != 0)
    return address;
  Executor::instance().wait_idle(stream);
  Driver::instance().trim_pools();
  return pool.allocate(bytes);
}

CUresult allocate(CUdeviceptr* out, std::size_t bytes, const PoolPtr& pool, CUstream handle) {
  return with_capturable_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (out == nullptr || bytes == 0)
      return CUDA_ERROR_INVALID_VALUE;
    PoolPtr chosen = pool;
    if (!chosen) {
      Device& device = stream->context().device();
      const std::lock_guard guard(device.pool_mutex);
      chosen = device.current_pool;
    }
    if (chosen->origin.owner != 0)
      return CUDA_ERROR_INVALID_VALUE; // an imported pool gives no memory
    if (stream->capturing)
      return capture_allocate(*stream, chosen->device, bytes, out);
    if (chosen->device.refuses(bytes))
      return CUDA_ERROR_OUT_OF_MEMORY;
    Allocation allocation;
    allocation.address = allocate_from(*chosen, bytes, stream);
    if (allocation.address == 0)
      return CUDA_ERROR_OUT_OF_MEMORY;
    allocation.bytes = bytes;
    allocation.kind = MemoryKind::Pool;
    allocation.card = chosen->device.card;
    allocation.pool = chosen;
    *out = allocation.address;
    driver.allocations.insert(std::move(allocation));
    return CUDA_SUCCESS;
  });
}

// The attributes that are counts of bytes: where each is kept, and whether it may be set to zero.
CUresult get_attribute(const Pool& pool, CUmemPool_attribute attribute, void* value) {
  const auto number = [value](int n) {
    *static_cast<int*>(value) = n;
    return CUDA_SUCCESS;
  };
  const auto bytes = [value](std::uint64_t n) {
    *static_cast<cuuint64_t*>(value) = n;
    return CUDA_SUCCESS;
  };
  switch (attribute) {
  case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    return number(pool.reuse_follow_events);
  case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    return number(pool.reuse_opportunistic);
  case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
    return number(pool.reuse_internal);
  case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
    return bytes(pool.release_threshold);
  case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
    return bytes(pool.reserved());
  case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    return bytes(pool.reserved_high);
  case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
    return bytes(pool.used);
  case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
    return bytes(pool.used_high);
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult set_attribute(Pool& pool, CUmemPool_attribute attribute, const void* value) {
  const auto flag = [value](std::atomic<int>& to) {
    to = *static_cast<const int*>(value) != 0 ? 1 : 0;
    return CUDA_SUCCESS;
  };
  // A high-water mark can only be reset, and then begins at what is in use.
  const auto reset = [value](std::atomic<std::uint64_t>& to, std::uint64_t current) {
    if (*static_cast<const cuuint64_t*>(value) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    to = current;
    return CUDA_SUCCESS;
  };
  switch (attribute) {
  case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    return flag(pool.reuse_follow_events);
  case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    return flag(pool.reuse_opportunistic);
  case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
    return flag(pool.reuse_internal);
  case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
    pool.release_threshold = *static_cast<const cuuint64_t*>(value);
    return CUDA_SUCCESS;
  case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    return reset(pool.reserved_high, pool.reserved());
  case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
    return reset(pool.used_high, pool.used);
  default:
    return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult check_properties(Driver& driver, const CUmemPoolProps& properties) {
  if (properties.allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
    return CUDA_ERROR_INVALID_VALUE;
  if (properties.handleTypes != CU_MEM_HANDLE_TYPE_NONE &&
      properties.handleTypes != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
    return CUDA_ERROR_NOT_SUPPORTED;
  if (properties.location.type != CU_MEM_LOCATION_TYPE_DEVICE)
    return CUDA_ERROR_NOT_SUPPORTED;
  return driver.device(properties.location.id) != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult pool_of(CUmemoryPool* out, CUdevice dev, PoolPtr Device::* which) {
  return with_device(dev, [&](Device& device) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard guard(device.pool_mutex);
    *out = static_cast<CUmemoryPool>((device.*which)->handle);
    return CUDA_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream stream) {
  return allocate(address, bytes, nullptr, stream);
}

ALIQUOT_EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr* address, size_t bytes, CUmemoryPool handle,
                                                CUstream stream) {
  return with_pool(handle,
                   [&](Driver&, const PoolPtr& pool) { return allocate(address, bytes, pool, stream); });
}

ALIQUOT_EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
  return with_capturable_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (address == 0)
      return CUDA_SUCCESS;
    if (stream->capturing)
      return capture_free(*stream, address);
    const auto known = driver.allocations.find(address);
    if (!known || known->address != address)
      return CUDA_ERROR_INVALID_VALUE;
    if (known->kind != MemoryKind::Pool && known->kind != MemoryKind::Device &&
        known->kind != MemoryKind::Graph)
      return CUDA_ERROR_INVALID_VALUE;
    const bool ours = driver.allocations.change(address, [&](Allocation& each) {
      return each.buffer_id == known->buffer_id && !std::exchange(each.freeing, true);
    });
    if (!ours)
      return CUDA_ERROR_INVALID_VALUE;
    Executor::instance().submit(stream, std::make_unique<FreeCommand>(*known));
    Executor::instance().run_light(stream);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolCreate(CUmemoryPool* out, const CUmemPoolProps* properties) {
  return with_driver([&](Driver& driver) {
    if (out == nullptr || properties == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult checked = check_properties(driver, *properties); checked != CUDA_SUCCESS)
      return checked;
    Device& device = *driver.device(properties->location.id);
    const auto pool = std::make_shared<Pool>(device, driver.space, driver.machine, false);
    pool->max_bytes = properties->maxSize;
    pool->handle_types = properties->handleTypes;
    pool->handle = driver.pools.insert(pool);
    *out = static_cast<CUmemoryPool>(pool->handle);
    return CUDA_SUCCESS;
  });
}

// What was allocated from it stays valid; the memory goes when the last of it is freed.
ALIQUOT_EXPORT CUresult cuMemPoolDestroy(CUmemoryPool handle) {
  return with_pool(handle, [&](Driver& driver, const PoolPtr& pool) {
    if (pool->is_default)
      return CUDA_ERROR_INVALID_VALUE;
    if (!driver.pools.erase(handle))
      return CUDA_ERROR_INVALID_VALUE;
    {
      const std::lock_guard guard(pool->device.pool_mutex);
      if (pool->device.current_pool == pool)
        pool->device.current_pool = pool->device.default_pool;
    }
    pool->destroyed = true;
    pool->heap.trim(0);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t keep) {
  return with_pool(handle, [&](Driver&, const PoolPtr& pool) {
    pool->heap.trim(keep);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute,
                                              void* value) {
  return with_pool(handle, [&](Driver&, const PoolPtr& pool) {
    return value == nullptr ? CUDA_ERROR_INVALID_VALUE : get_attribute(*pool, attribute, value);
  });
}

ALIQUOT_EXPORT CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute,
                                              void* value) {
  return with_pool(handle, [&](Driver&, const PoolPtr& pool) {
    return value == nullptr ? CUDA_ERROR_INVALID_VALUE : set_attribute(*pool, attribute, value);
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice dev) {
  return pool_of(pool, dev, &Device::default_pool);
}

ALIQUOT_EXPORT CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice dev) {
  return pool_of(pool, dev, &Device::current_pool);
}

ALIQUOT_EXPORT CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool handle) {
  return with_device(dev, [&](Device& device) {
    return with_pool(handle, [&](Driver&, const PoolPtr& pool) {
      if (&pool->device != &device || pool->origin.owner != 0)
        return CUDA_ERROR_INVALID_VALUE;
      const std::lock_guard guard(device.pool_mutex);
      device.current_pool = pool;
      return CUDA_SUCCESS;
    });
  });
}

} // extern "C"
