// Addresses that a program reserves, and the memory that it maps there (cuMemAddressReserve, cuMemMap).
//
// A mapping begins with no access; what a card may touch is set per mapping and found by kernels in the
// address space. Every mapping is an entry of `Allocations`, by which copies and pointer queries know it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/handle_table.hpp"
#include "native/simgpu/driver/core/physical_memory.hpp"

namespace aliquot::simgpu::driver {

// What one place may do with a mapping.
struct AccessChange {
  std::uint32_t card = 0;
  bool host = false; // instead of the card
  CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
};

class VirtualMemory {
 public:
  CUresult reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t hint, std::uint64_t& address);
  CUresult unreserve(std::uint64_t address, std::uint64_t bytes);

  // The client's handle for `memory`, which holds one reference.
  CUmemGenericAllocationHandle add(const std::shared_ptr<PhysicalMemory>& memory);
  // Null where the handle was released as often as it was given out.
  std::shared_ptr<PhysicalMemory> find(CUmemGenericAllocationHandle handle);
  CUresult release(CUmemGenericAllocationHandle handle);
  // The handle of what is mapped at an address, with one more reference.
  CUresult retain(std::uint64_t address, CUmemGenericAllocationHandle& handle);

  CUresult map(std::uint64_t address, std::uint64_t bytes, CUmemGenericAllocationHandle handle);
  // Whole mappings, side by side.
  CUresult unmap(std::uint64_t address, std::uint64_t bytes);
  CUresult set_access(std::uint64_t address, std::uint64_t bytes, const std::vector<AccessChange>& changes);
  CUresult access(std::uint64_t address, const AccessChange& place, unsigned long long& flags);
  // A descriptor for other processes; the bytes get a file of their own.
  CUresult export_fd(CUmemGenericAllocationHandle handle, int& fd);
  CUresult properties(std::uint64_t address, CUmemAllocationProp& properties);

  std::shared_ptr<Arena> arena_of(const Device& device);

 private:
  struct Mapping {
    std::uint64_t bytes = 0;
    std::shared_ptr<PhysicalMemory> memory;
    CUmemAccess_flags host_access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
  };
  using Mappings = std::map<std::uint64_t, Mapping>;

  bool is_reserved(std::uint64_t address, std::uint64_t bytes) const;
  bool overlaps_mapping(std::uint64_t address, std::uint64_t bytes) const;
  // The mappings that make up the range exactly; begin == end where they do not.
  std::pair<Mappings::iterator, Mappings::iterator> exactly(std::uint64_t address, std::uint64_t bytes);
  Mappings::iterator mapping_at(std::uint64_t address);
  void forget_if_unused(const std::shared_ptr<PhysicalMemory>& memory);
  bool give_own_file(PhysicalMemory& memory);

  std::mutex mutex_;                                    // guards the rest; no command of a stream takes it
  std::map<std::uint64_t, std::uint64_t> reservations_; // address -> bytes
  Mappings mappings_;
  std::map<std::uint32_t, std::shared_ptr<Arena>> arenas_; // by card
  HandleTable<PhysicalMemory> handles_{HandleKind::PhysicalMemory};
};

} // namespace aliquot::simgpu::driver
