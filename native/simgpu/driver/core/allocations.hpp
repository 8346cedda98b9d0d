// Every stretch of memory that the driver knows in this process: device, pinned, registered and managed.
//
// Answers whose an address is (pointer attributes, copies, frees). Owns no memory: whoever erases an entry
// gives the memory back.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <vector>

#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::driver {

class GraphAllocation;
class ImportedMemory;
class Pool;

enum class MemoryKind : std::uint8_t {
  Device,     // cuMemAlloc and relatives
  Pool,       // cuMemAllocAsync
  Imported,   // cuIpcOpenMemHandle
  Graph,      // an allocation node of a graph that was launched
  Mapped,     // cuMemMap: of VirtualMemory
  Module,     // a variable of a loaded module; freed with it alone
  Pinned,     // cuMemHostAlloc
  Registered, // cuMemHostRegister
  Managed,    // cuMemAllocManaged
};

inline constexpr std::uint32_t kNoCard =
    ~std::uint32_t{0}; // memory of the host, mapped at reserved addresses

constexpr bool on_device(MemoryKind kind) noexcept {
  return kind <= MemoryKind::Module;
}

struct Allocation {
  std::uint64_t address = 0, bytes = 0; // as asked for
  MemoryKind kind = MemoryKind::Device;
  std::uint32_t card = 0;
  std::uint64_t context_id = 0; // 0: none (pool memory belongs to no context)
  void* context = nullptr;      // its handle
  unsigned flags = 0;           // as given to cuMemHostAlloc, cuMemHostRegister
  std::uint64_t buffer_id = 0;
  std::shared_ptr<Pool> pool;
  std::shared_ptr<ImportedMemory> imported; // another process' memory; goes with the last reference
  std::shared_ptr<GraphAllocation> graph;
  bool sync_memops = false;
  bool freeing = false; // cuMemFreeAsync was called; it happens in stream order
};

class Allocations {
 public:
  // False where it would overlap a known one.
  bool insert(Allocation allocation);
  std::optional<Allocation> find(std::uint64_t address) const;
  // Removes the entry that begins at `address` if `accept` says so; two racing frees cannot both succeed.
  template <class Accept>
  std::optional<Allocation> erase(std::uint64_t address, Accept accept) {
    const std::unique_lock guard(mutex_);
    const auto at = entries_.find(address);
    if (at == entries_.end() || !accept(at->second))
      return std::nullopt;
    Allocation allocation = std::move(at->second);
    entries_.erase(at);
    return allocation;
  }
  template <class Change>
  bool change(std::uint64_t address, Change change) {
    const std::unique_lock guard(mutex_);
    Allocation* allocation = find_locked(address);
    return allocation != nullptr && change(*allocation);
  }
  std::vector<Allocation> erase_all_of(std::uint64_t context_id);
  // For kernels: host memory that a card may touch; empty where `address` lies in none.
  exec::Range host_range(std::uint64_t address) const noexcept;
  // Is all of [address, address + bytes) pinned, registered or managed?
  bool page_locked(std::uint64_t address, std::uint64_t bytes) const noexcept;

 private:
  Allocation* find_locked(std::uint64_t address) noexcept;

  mutable std::shared_mutex mutex_;
  std::map<std::uint64_t, Allocation> entries_;
  std::uint64_t next_buffer_id_ = 1;
};

} // namespace aliquot::simgpu::driver
