// Device memory: linear and pitched allocations, and what is known of them.
#include <algorithm>

#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/memory.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

constexpr std::size_t kPitchAlignment = 512; // of a row, as cards from 7.0 on choose it

CUresult free_memory(CUdeviceptr address) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    if (address == 0)
      return CUDA_SUCCESS;
    if (const CUresult unsafe = check_unsafe_call(); unsafe != CUDA_SUCCESS)
      return unsafe;
    const auto known = driver.allocations.find(address);
    if (!known || known->address != address || known->freeing)
      return CUDA_ERROR_INVALID_VALUE;
    if (known->kind != MemoryKind::Device && known->kind != MemoryKind::Pool &&
        known->kind != MemoryKind::Graph && known->kind != MemoryKind::Managed)
      return CUDA_ERROR_INVALID_VALUE;
    // A free waits for what runs, as on a card: the memory may still be in use.
    synchronize_device_of(*known);
    const auto erased = driver.allocations.erase(
        address, [&](const Allocation& each) { return each.buffer_id == known->buffer_id && !each.freeing; });
    if (!erased)
      return CUDA_ERROR_INVALID_VALUE;
    driver.give_back(*erased);
    return CUDA_SUCCESS;
  });
}

CUresult allocate_pitched(const ContextPtr& context, CUdeviceptr* out, std::size_t* pitch, std::size_t width,
                          std::size_t height, unsigned element) {
  if (out == nullptr || pitch == nullptr || width == 0 || height == 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (element != 4 && element != 8 && element != 16)
    return CUDA_ERROR_INVALID_VALUE;
  constexpr std::size_t widest = std::size_t{1} << 31;
  if (width > widest)
    return CUDA_ERROR_INVALID_VALUE;
  const std::size_t row = (width + kPitchAlignment - 1) / kPitchAlignment * kPitchAlignment;
  if (height > context->device().model.vram_bytes / row)
    return CUDA_ERROR_OUT_OF_MEMORY;
  *pitch = row;
  return allocate_device(context, row * height, out);
}

} // namespace

namespace aliquot::simgpu::driver {

CUresult allocate_device(const ContextPtr& context, std::size_t bytes, CUdeviceptr* out) {
  if (out == nullptr || bytes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  Driver& driver = Driver::instance();
  Device& device = context->device();
  if (device.refuses(bytes))
    return CUDA_ERROR_OUT_OF_MEMORY;
  Allocation allocation;
  allocation.address = device.heap.allocate(bytes);
  if (allocation.address == 0) {
    // What pools keep for later is given up before an allocation fails.
    driver.trim_pools();
    allocation.address = device.heap.allocate(bytes);
  }
  if (allocation.address == 0)
    return CUDA_ERROR_OUT_OF_MEMORY;
  allocation.bytes = bytes;
  allocation.kind = MemoryKind::Device;
  allocation.card = device.card;
  allocation.context_id = context->id();
  allocation.context = context->handle;
  *out = allocation.address;
  driver.allocations.insert(std::move(allocation));
  return CUDA_SUCCESS;
}

void synchronize_device_of(const Allocation& allocation) {
  Driver& driver = Driver::instance();
  if (const ContextPtr owner = driver.contexts.find(allocation.context)) {
    for (const StreamPtr& stream : owner->streams())
      Executor::instance().wait_idle(stream);
    return;
  }
  // Pool memory belongs to no context: any on its card may use it.
  for (void* handle :
       driver.contexts.handles_where([&](Context& each) { return each.device().card == allocation.card; }))
    if (const ContextPtr context = driver.contexts.find(handle))
      for (const StreamPtr& stream : context->streams())
        Executor::instance().wait_idle(stream);
}

} // namespace aliquot::simgpu::driver

extern "C" {

ALIQUOT_EXPORT CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    if (free == nullptr && total == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const machine::VramInfo vram = driver.machine->vram(context->device().card);
    if (free != nullptr)
      *free = vram.total - std::min(vram.used, vram.total);
    if (total != nullptr)
      *total = vram.total;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return with_context([&](Driver&, const ContextPtr& context) {
    const CUresult unsafe = check_unsafe_call();
    return unsafe != CUDA_SUCCESS ? unsafe : allocate_device(context, bytes, address);
  });
}

ALIQUOT_EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr* address, size_t* pitch, size_t width, size_t height,
                                           unsigned int element) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (const CUresult unsafe = check_unsafe_call(); unsafe != CUDA_SUCCESS)
      return unsafe;
    return allocate_pitched(context, address, pitch, width, height, element);
  });
}

ALIQUOT_EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  return free_memory(address);
}

ALIQUOT_EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    const auto known = driver.allocations.find(address);
    if (!known)
      return CUDA_ERROR_NOT_FOUND;
    if (base != nullptr)
      *base = known->address;
    if (bytes != nullptr)
      *bytes = known->bytes;
    return CUDA_SUCCESS;
  });
}

} // extern "C"
