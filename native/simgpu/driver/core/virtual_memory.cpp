#include "native/simgpu/driver/core/virtual_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <iterator>
#include <utility>

#include "native/simgpu/driver/core/driver.hpp"
#include "native/simgpu/driver/core/memory_gate.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr std::uint64_t kHostPage = 4096; // what a reservation is a multiple of (cuMemAddressReserve)

void* pointer_of(CUmemGenericAllocationHandle handle) noexcept {
  return reinterpret_cast<void*>(handle);
}

AddressSpace& space() noexcept {
  return Driver::instance().space;
}

CardAccess changed(CardAccess access, const AccessChange& change) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << (change.card % 64);
  const bool reads = change.flags != CU_MEM_ACCESS_FLAGS_PROT_NONE;
  const bool writes = change.flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return {reads ? access.read | bit : access.read & ~bit, writes ? access.write | bit : access.write & ~bit};
}

unsigned long long flags_of(CardAccess access, std::uint32_t card) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << (card % 64);
  if ((access.write & bit) != 0)
    return CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return (access.read & bit) != 0 ? CU_MEM_ACCESS_FLAGS_PROT_READ : CU_MEM_ACCESS_FLAGS_PROT_NONE;
}

// Memory of the host shows at its device address, too, for as long as the host may touch it.
bool show_to_host(std::uint64_t address, std::uint64_t bytes, const FileView& view, CUmemAccess_flags flags) {
  const int protection = flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? PROT_READ | PROT_WRITE
                         : flags == CU_MEM_ACCESS_FLAGS_PROT_READ    ? PROT_READ
                                                                     : PROT_NONE;
  void* const at = reinterpret_cast<void*>(address);
  if (protection == PROT_NONE)
    return mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) !=
           MAP_FAILED;
  return mmap(at, bytes, protection, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, view.file->fd(),
              static_cast<off_t>(view.offset)) != MAP_FAILED;
}

Allocation entry_of(std::uint64_t address, std::uint64_t bytes, const PhysicalMemory& memory) {
  Allocation entry;
  entry.address = address;
  entry.bytes = bytes;
  entry.kind = MemoryKind::Mapped;
  entry.card = memory.device != nullptr ? memory.device->card : kNoCard;
  return entry;
}

} // namespace

// ---- addresses --------------------------------------------------------------------------------------------

CUresult VirtualMemory::reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t hint,
                                std::uint64_t& address) {
  if (bytes == 0 || bytes % kHostPage != 0 || hint % kHostPage != 0 || (alignment & (alignment - 1)) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard guard(mutex_);
  const std::uint64_t found = space().reserve(bytes, alignment, hint);
  if (found == 0)
    return CUDA_ERROR_OUT_OF_MEMORY;
  reservations_.emplace(found, bytes);
  address = found;
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::unreserve(std::uint64_t address, std::uint64_t bytes) {
  const std::lock_guard guard(mutex_);
  const auto at = reservations_.find(address);
  if (at == reservations_.end() || at->second != bytes || overlaps_mapping(address, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  reservations_.erase(at);
  space().unreserve(address, bytes);
  return CUDA_SUCCESS;
}

bool VirtualMemory::is_reserved(std::uint64_t address, std::uint64_t bytes) const {
  auto at = reservations_.upper_bound(address);
  if (at == reservations_.begin())
    return false;
  --at;
  const std::uint64_t offset = address - at->first;
  return offset < at->second && bytes <= at->second - offset;
}

bool VirtualMemory::overlaps_mapping(std::uint64_t address, std::uint64_t bytes) const {
  const auto next = mappings_.lower_bound(address);
  if (next != mappings_.end() && next->first - address < bytes)
    return true;
  return next != mappings_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > address;
}

// ---- handles ----------------------------------------------------------------------------------------------

CUmemGenericAllocationHandle VirtualMemory::add(const std::shared_ptr<PhysicalMemory>& memory) {
  const std::lock_guard guard(mutex_);
  memory->handle = handles_.insert(memory);
  return reinterpret_cast<CUmemGenericAllocationHandle>(memory->handle);
}

std::shared_ptr<PhysicalMemory> VirtualMemory::find(CUmemGenericAllocationHandle handle) {
  const std::lock_guard guard(mutex_);
  std::shared_ptr<PhysicalMemory> memory = handles_.find(pointer_of(handle));
  return memory && memory->references != 0 ? memory : nullptr;
}

CUresult VirtualMemory::release(CUmemGenericAllocationHandle handle) {
  std::shared_ptr<PhysicalMemory> memory; // may end here: after the lock
  const std::lock_guard guard(mutex_);
  memory = handles_.find(pointer_of(handle));
  if (!memory || memory->references == 0)
    return CUDA_ERROR_INVALID_VALUE;
  --memory->references;
  forget_if_unused(memory);
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::retain(std::uint64_t address, CUmemGenericAllocationHandle& handle) {
  const std::lock_guard guard(mutex_);
  const auto at = mapping_at(address);
  if (at == mappings_.end())
    return CUDA_ERROR_INVALID_VALUE;
  ++at->second.memory->references;
  handle = reinterpret_cast<CUmemGenericAllocationHandle>(at->second.memory->handle);
  return CUDA_SUCCESS;
}

// A handle that was released may be asked for again by address for as long as the memory is mapped.
void VirtualMemory::forget_if_unused(const std::shared_ptr<PhysicalMemory>& memory) {
  if (memory->references == 0 && memory->mappings == 0)
    handles_.erase(memory->handle);
}

CUresult VirtualMemory::properties(std::uint64_t address, CUmemAllocationProp& properties) {
  const std::lock_guard guard(mutex_);
  const auto at = mapping_at(address);
  if (at == mappings_.end())
    return CUDA_ERROR_INVALID_VALUE;
  properties = at->second.memory->properties;
  return CUDA_SUCCESS;
}

// ---- mappings ---------------------------------------------------------------------------------------------

VirtualMemory::Mappings::iterator VirtualMemory::mapping_at(std::uint64_t address) {
  const auto next = mappings_.upper_bound(address);
  if (next == mappings_.begin())
    return mappings_.end();
  const auto at = std::prev(next);
  return address - at->first < at->second.bytes ? at : mappings_.end();
}

std::pair<VirtualMemory::Mappings::iterator, VirtualMemory::Mappings::iterator>
VirtualMemory::exactly(std::uint64_t address, std::uint64_t bytes) {
  const auto none = std::pair{mappings_.end(), mappings_.end()};
  const auto first = mappings_.find(address);
  auto at = first;
  std::uint64_t covered = 0;
  while (covered < bytes) {
    if (at == mappings_.end() || at->first != address + covered)
      return none;
    covered += at->second.bytes;
    ++at;
  }
  return covered == bytes ? std::pair{first, at} : none;
}

CUresult VirtualMemory::map(std::uint64_t address, std::uint64_t bytes, CUmemGenericAllocationHandle handle) {
  if (bytes == 0 || address % kBlockBytes != 0 || bytes % kBlockBytes != 0)
    return CUDA_ERROR_INVALID_VALUE;
  const std::lock_guard guard(mutex_);
  const std::shared_ptr<PhysicalMemory> memory = handles_.find(pointer_of(handle));
  if (!memory || memory->references == 0 || bytes > memory->bytes)
    return CUDA_ERROR_INVALID_VALUE;
  if (!is_reserved(address, bytes) || overlaps_mapping(address, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  const auto at = mappings_.emplace(address, Mapping{bytes, memory}).first;
  if (!space().map_file(address, bytes, memory->view)) {
    mappings_.erase(at);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  space().publish_mapping(address, bytes, {});
  Driver::instance().allocations.insert(entry_of(address, bytes, *memory));
  ++memory->mappings;
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::unmap(std::uint64_t address, std::uint64_t bytes) {
  std::vector<std::shared_ptr<PhysicalMemory>> freed; // the last references may end here: after the lock
  const std::lock_guard guard(mutex_);
  if (address % kBlockBytes != 0 || bytes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  const auto [first, last] = exactly(address, bytes);
  if (first == last)
    return CUDA_ERROR_INVALID_VALUE;
  for (auto at = first; at != last; ++at) {
    const Mapping& mapping = at->second;
    freed.push_back(mapping.memory);
    Driver::instance().allocations.erase(at->first, [](const Allocation&) { return true; });
    space().withdraw(at->first, mapping.bytes / kBlockBytes);
    space().unmap_file(at->first, mapping.bytes);
    if (mapping.host_access != CU_MEM_ACCESS_FLAGS_PROT_NONE)
      show_to_host(at->first, mapping.bytes, {}, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    --mapping.memory->mappings;
    forget_if_unused(mapping.memory);
  }
  mappings_.erase(first, last);
  return CUDA_SUCCESS;
}

// ---- access -----------------------------------------------------------------------------------------------

CUresult VirtualMemory::set_access(std::uint64_t address, std::uint64_t bytes,
                                   const std::vector<AccessChange>& changes) {
  const std::lock_guard guard(mutex_);
  if (bytes == 0)
    return CUDA_ERROR_INVALID_VALUE;
  const auto [first, last] = exactly(address, bytes);
  if (first == last)
    return CUDA_ERROR_INVALID_VALUE;
  for (const AccessChange& change : changes)
    for (auto at = first; at != last; ++at)
      if (change.host && !at->second.memory->on_host())
        return CUDA_ERROR_INVALID_VALUE;
  for (const AccessChange& change : changes)
    for (auto at = first; at != last; ++at) {
      Mapping& mapping = at->second;
      if (!change.host) {
        space().set_access(at->first, changed(space().access_at(at->first), change));
        continue;
      }
      if (!show_to_host(at->first, mapping.bytes, mapping.memory->view, change.flags))
        return CUDA_ERROR_OUT_OF_MEMORY;
      mapping.host_access = change.flags;
    }
  return CUDA_SUCCESS;
}

CUresult VirtualMemory::access(std::uint64_t address, const AccessChange& place, unsigned long long& flags) {
  const std::lock_guard guard(mutex_);
  const auto at = mapping_at(address);
  if (at == mappings_.end())
    return CUDA_ERROR_INVALID_VALUE;
  flags = place.host ? static_cast<unsigned long long>(at->second.host_access)
                     : flags_of(space().access_at(at->first), place.card);
  return CUDA_SUCCESS;
}

// ---- sharing ----------------------------------------------------------------------------------------------

std::shared_ptr<Arena> VirtualMemory::arena_of(const Device& device) {
  const std::lock_guard guard(mutex_);
  std::shared_ptr<Arena>& arena = arenas_[device.card];
  if (!arena) // twice the VRAM, so that fragmentation never makes an allocation fail that would fit
    arena = std::make_shared<Arena>(device.model.vram_bytes / kBlockBytes * kBlockBytes * 2);
  return arena;
}

CUresult VirtualMemory::export_fd(CUmemGenericAllocationHandle handle, int& fd) {
  const std::lock_guard guard(mutex_);
  const std::shared_ptr<PhysicalMemory> memory = handles_.find(pointer_of(handle));
  if (!memory || memory->references == 0 ||
      (memory->properties.requestedHandleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) == 0)
    return CUDA_ERROR_INVALID_VALUE;
  // What follows needs descriptors of the process, and there may be none.
  if (memory->in_arena() && !give_own_file(*memory))
    return CUDA_ERROR_NOT_PERMITTED;
  fd = memory->export_fd(memory);
  return fd >= 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_PERMITTED;
}

// While no command runs, what a handle holds is copied and each address that shows it is turned to the copy.
bool VirtualMemory::give_own_file(PhysicalMemory& memory) {
  const FileView own{BackingFile::make(memory.bytes), 0};
  if (!own)
    return false;
  const Quiet quiet;
  if (!copy_file(memory.view, own, memory.bytes))
    return false;
  for (const auto& [address, mapping] : mappings_)
    if (mapping.memory.get() == &memory && !space().map_file(address, mapping.bytes, own))
      return false;
  memory.move_to(own);
  return true;
}

} // namespace aliquot::simgpu::driver
