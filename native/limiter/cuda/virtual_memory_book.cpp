// The driver may give out a handle again after its release, although mappings of the first memory live on.
// Memory without handles is therefore kept under a number of our own, and found again by where it is mapped.
#include "native/limiter/cuda/virtual_memory_book.hpp"

#include <iterator>
#include <new>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter {

CUresult VirtualMemoryBook::create(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                                   const CUmemAllocationProp* properties, unsigned long long flags) noexcept {
  if (handle == nullptr || properties == nullptr ||
      properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
    return driver().cuMemCreate(handle, bytes, properties, flags); // host memory, or an error of the driver's
  }
  const unsigned device = limiter_.device_of(properties->location.id);
  const std::lock_guard lock(mutex_);
  Reservation reservation(limiter_, device, bytes);
  if (!reservation)
    return limiter_.refuse(device, bytes);
  const CUresult result = driver().cuMemCreate(handle, bytes, properties, flags);
  if (result != CUDA_SUCCESS)
    return result;
  try {
    memories_.insert_or_assign(*handle, Memory{device, bytes, 1, 0});
  } catch (const std::bad_alloc&) {
    driver().cuMemRelease(*handle);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  reservation.commit();
  limiter_.counters().allocations.fetch_add(1, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

CUresult VirtualMemoryBook::retain(CUmemGenericAllocationHandle* handle, void* address) noexcept {
  const std::lock_guard lock(mutex_);
  const CUresult result = driver().cuMemRetainAllocationHandle(handle, address);
  if (result != CUDA_SUCCESS)
    return result;
  auto found = memories_.find(*handle);
  if (found == memories_.end()) {
    const auto mapped = mapped_at(reinterpret_cast<CUdeviceptr>(address));
    if (mapped == memories_.end() || mapped->second.handles != 0)
      return result;
    try {
      found = rename(mapped, *handle);
    } catch (const std::bad_alloc&) {
      driver().cuMemRelease(*handle);
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
  ++found->second.handles;
  return result;
}

CUresult VirtualMemoryBook::release(CUmemGenericAllocationHandle handle) noexcept {
  const std::lock_guard lock(mutex_);
  const CUresult result = driver().cuMemRelease(handle);
  if (result != CUDA_SUCCESS)
    return result;
  const auto found = memories_.find(handle);
  if (found == memories_.end())
    return result;
  if (found->second.handles > 0)
    --found->second.handles;
  if (found->second.handles == 0 && found->second.mappings != 0) {
    try {
      rename(found, next_aside_--);
    } catch (const std::bad_alloc&) {
      return result; // it keeps its number, and stays charged until it is unmapped
    }
    return result;
  }
  refund_if_gone(found);
  return result;
}

CUresult VirtualMemoryBook::map(CUdeviceptr address, std::size_t bytes, std::size_t offset,
                                CUmemGenericAllocationHandle handle, unsigned long long flags) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = memories_.find(handle);
  if (found == memories_.end())
    return driver().cuMemMap(address, bytes, offset, handle, flags);
  try {
    const auto [mapping, added] = mappings_.try_emplace(address, handle);
    const CUresult result = driver().cuMemMap(address, bytes, offset, handle, flags);
    if (result == CUDA_SUCCESS && added)
      ++found->second.mappings;
    if (result != CUDA_SUCCESS && added)
      mappings_.erase(mapping);
    return result;
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUresult VirtualMemoryBook::unmap(CUdeviceptr address, std::size_t bytes) noexcept {
  const std::lock_guard lock(mutex_);
  const CUresult result = driver().cuMemUnmap(address, bytes);
  if (result != CUDA_SUCCESS)
    return result;
  // One call may undo several neighbouring mappings.
  auto mapping = mappings_.lower_bound(address);
  while (mapping != mappings_.end() && mapping->first - address < bytes) {
    const auto memory = memories_.find(mapping->second);
    mapping = mappings_.erase(mapping);
    if (memory == memories_.end())
      continue;
    if (memory->second.mappings > 0)
      --memory->second.mappings;
    refund_if_gone(memory);
  }
  return result;
}

// May throw std::bad_alloc; nothing has changed then.
VirtualMemoryBook::Memories::iterator VirtualMemoryBook::rename(Memories::iterator memory,
                                                                CUmemGenericAllocationHandle handle) {
  const auto renamed = memories_.insert_or_assign(handle, memory->second).first;
  for (auto& [address, owner] : mappings_) {
    if (owner == memory->first)
      owner = handle;
  }
  memories_.erase(memory);
  return renamed;
}

VirtualMemoryBook::Memories::iterator VirtualMemoryBook::mapped_at(CUdeviceptr address) noexcept {
  const auto behind = mappings_.upper_bound(address);
  return behind == mappings_.begin() ? memories_.end() : memories_.find(std::prev(behind)->second);
}

void VirtualMemoryBook::refund_if_gone(Memories::iterator memory) noexcept {
  if (memory->second.handles != 0 || memory->second.mappings != 0)
    return;
  limiter_.release(memory->second.device, memory->second.bytes);
  memories_.erase(memory);
}

} // namespace aliquot::limiter
