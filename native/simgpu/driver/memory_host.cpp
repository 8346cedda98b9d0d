// Host memory that the card may touch: pinned, registered, managed. All of it has one address for both sides.
#include <sys/mman.h>

#include "native/simgpu/driver/core/host_memory.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/memory.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr std::size_t kLargest = std::size_t{1} << 46;

// Maps host memory and makes it known; it goes with its context.
CUresult allocate_host(const ContextPtr& context, std::size_t bytes, unsigned flags, MemoryKind kind,
                       std::uint64_t* out) {
  if (bytes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  if (bytes > kLargest)
    return CUDA_ERROR_OUT_OF_MEMORY;
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    return CUDA_ERROR_OUT_OF_MEMORY;
  Allocation allocation;
  allocation.address = reinterpret_cast<std::uint64_t>(at);
  allocation.bytes = bytes;
  allocation.kind = kind;
  allocation.card = context->device().card;
  allocation.context_id = context->id();
  allocation.context = context->handle;
  allocation.flags = flags;
  // Overlap means that the program unmapped memory that it had registered.
  if (!Driver::instance().allocations.insert(std::move(allocation))) {
    munmap(at, bytes);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *out = reinterpret_cast<std::uint64_t>(at);
  return CUDA_SUCCESS;
}

CUresult host_alloc(void** out, std::size_t bytes, unsigned flags) {
  return with_context([&](Driver&, const ContextPtr& context) {
    constexpr unsigned known =
        CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
    if (out == nullptr || (flags & ~known) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult unsafe = check_unsafe_call(); unsafe != CUDA_SUCCESS)
      return unsafe;
    std::uint64_t address = 0;
    // Under unified addressing every pinned allocation is mapped and portable, asked for or not.
    const CUresult result =
        allocate_host(context, bytes, flags | CU_MEMHOSTALLOC_DEVICEMAP, MemoryKind::Pinned, &address);
    if (result == CUDA_SUCCESS)
      *out = reinterpret_cast<void*>(address);
    return result;
  });
}

CUresult register_host(void* pointer, std::size_t bytes, unsigned flags) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    constexpr unsigned known = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                               CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;
    if (pointer == nullptr || bytes == 0 || (flags & ~known) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if ((flags & CU_MEMHOSTREGISTER_IOMEMORY) != 0)
      return CUDA_ERROR_NOT_SUPPORTED;
    const auto address = reinterpret_cast<std::uint64_t>(pointer);
    if (driver.space.overlaps_window(address, bytes) || !host_range_is_mapped(pointer, bytes))
      return CUDA_ERROR_INVALID_VALUE;
    Allocation allocation;
    allocation.address = address;
    allocation.bytes = bytes;
    allocation.kind = MemoryKind::Registered;
    allocation.card = context->device().card;
    allocation.context_id = context->id();
    allocation.context = context->handle;
    allocation.flags = flags;
    return driver.allocations.insert(std::move(allocation)) ? CUDA_SUCCESS
                                                            : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  });
}

std::optional<Allocation> page_locked_at(Driver& driver, const void* pointer) {
  auto known = driver.allocations.find(reinterpret_cast<std::uint64_t>(pointer));
  if (known && known->kind != MemoryKind::Pinned && known->kind != MemoryKind::Registered)
    known.reset();
  return known;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned int flags) {
  return host_alloc(pointer, bytes, flags);
}

ALIQUOT_EXPORT CUresult cuMemAllocHost_v2(void** pointer, size_t bytes) {
  return host_alloc(pointer, bytes, 0);
}

ALIQUOT_EXPORT CUresult cuMemFreeHost(void* pointer) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    const auto known = page_locked_at(driver, pointer);
    if (!known || known->kind != MemoryKind::Pinned ||
        known->address != reinterpret_cast<std::uint64_t>(pointer))
      return CUDA_ERROR_INVALID_VALUE;
    synchronize_device_of(*known);
    const auto erased = driver.allocations.erase(
        known->address, [&](const Allocation& each) { return each.buffer_id == known->buffer_id; });
    if (!erased)
      return CUDA_ERROR_INVALID_VALUE;
    driver.give_back(*erased);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned int flags) {
  return register_host(pointer, bytes, flags);
}

ALIQUOT_EXPORT CUresult cuMemHostRegister(void* pointer, size_t bytes, unsigned int flags) {
  return register_host(pointer, bytes, flags);
}

ALIQUOT_EXPORT CUresult cuMemHostUnregister(void* pointer) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    if (pointer == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto known = page_locked_at(driver, pointer);
    if (!known || known->kind != MemoryKind::Registered)
      return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    if (known->address != reinterpret_cast<std::uint64_t>(pointer))
      return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    synchronize_device_of(*known);
    const auto erased = driver.allocations.erase(
        known->address, [](const Allocation& each) { return each.kind == MemoryKind::Registered; });
    return erased ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  });
}

ALIQUOT_EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* address, void* pointer,
                                                     unsigned int flags) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    if (address == nullptr || pointer == nullptr || flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if (!page_locked_at(driver, pointer))
      return CUDA_ERROR_INVALID_VALUE;
    *address = reinterpret_cast<CUdeviceptr>(pointer);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuMemHostGetFlags(unsigned int* flags, void* pointer) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    if (flags == nullptr || pointer == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto known = page_locked_at(driver, pointer);
    if (!known || known->kind != MemoryKind::Pinned)
      return CUDA_ERROR_INVALID_VALUE;
    *flags = known->flags;
    return CUDA_SUCCESS;
  });
}

// Managed memory lies in the host, where both sides reach it; it is not charged to the card (see
// docs/simulated-gpu.md).
ALIQUOT_EXPORT CUresult cuMemAllocManaged(CUdeviceptr* address, size_t bytes, unsigned int flags) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (address == nullptr || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
      return CUDA_ERROR_INVALID_VALUE;
    std::uint64_t at = 0;
    const CUresult result = allocate_host(context, bytes, flags, MemoryKind::Managed, &at);
    if (result == CUDA_SUCCESS)
      *address = at;
    return result;
  });
}

} // extern "C"
