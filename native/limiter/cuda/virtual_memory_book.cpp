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
  const MemoryCall under_way;
  const std::lock_guard lock(mutex_);
  Reservation reservation(limiter_, device, bytes);
  if (!reservation)
    return limiter_.refuse(device, bytes);
  const CUresult result = driver().cuMemCreate(handle, bytes, properties, flags);
  if (result != CUDA_SUCCESS)
    return result;
  try {
    memories_.insert_or_assign(*handle, Memory{device, bytes, 1, 0, 0, false});
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
  const MemoryCall under_way;
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
  const MemoryCall under_way;
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

// Numbers of our own, which meet no address.
std::uint64_t VirtualMemoryBook::new_number() noexcept {
  return ~std::uint64_t{0} - next_number_++;
}

CUresult VirtualMemoryBook::export_to(void* exported, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) noexcept {
  const std::lock_guard lock(mutex_);
  const CUresult result = driver().cuMemExportToShareableHandle(exported, handle, type, flags);
  const auto found = memories_.find(handle);
  if (result != CUDA_SUCCESS || found == memories_.end() || found->second.imported)
    return result;
  Memory& memory = found->second;
  if (memory.number == 0)
    memory.number = new_number();
  if (type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
    limiter_.shared.made(memory.number, shared_key_of_file(*static_cast<int*>(exported)), memory.device,
                         memory.bytes);
  else if (type == CU_MEM_HANDLE_TYPE_FABRIC)
    limiter_.shared.made(memory.number, shared_key(exported, sizeof(CUmemFabricHandle)), memory.device,
                         memory.bytes);
  return result;
}

CUresult VirtualMemoryBook::import_from(CUmemGenericAllocationHandle* handle, void* exported,
                                        CUmemAllocationHandleType type) noexcept {
  const std::lock_guard lock(mutex_);
  const CUresult result = driver().cuMemImportFromShareableHandle(handle, exported, type);
  if (result != CUDA_SUCCESS)
    return result;
  try {
    const auto [at, fresh] = memories_.try_emplace(*handle);
    if (!fresh) {
      ++at->second.handles; // what this process made itself, or has imported already
      return result;
    }
    at->second.imported = true;
    at->second.number = new_number();
    if (type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
      limiter_.shared.opened(at->second.number,
                             shared_key_of_file(static_cast<int>(reinterpret_cast<std::intptr_t>(exported))),
                             0);
    else if (type == CU_MEM_HANDLE_TYPE_FABRIC)
      limiter_.shared.opened(at->second.number, shared_key(exported, sizeof(CUmemFabricHandle)), 0);
    return result;
  } catch (const std::bad_alloc&) {
    driver().cuMemRelease(*handle);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
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
  const Memory& gone = memory->second;
  if (gone.handles != 0 || gone.mappings != 0)
    return;
  if (gone.number != 0)
    limiter_.shared.gone(gone.number);
  if (gone.number == 0)
    limiter_.release(gone.device, gone.bytes);
  else if (!gone.imported)
    limiter_.overhead.keep_until_free(gone.device, gone.bytes);
  memories_.erase(memory);
}

} // namespace aliquot::limiter
