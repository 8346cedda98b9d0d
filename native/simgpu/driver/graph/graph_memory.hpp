// Memory that belongs to graphs: an address from the moment an allocation node is made, bytes behind it while
// a launch of the graph needs them or its client has not freed them.
//
// Each allocation has whole blocks of its own. What is freed stays charged to the process, for the next
// launch, until it is trimmed.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver {

class Context;

// The blocks of one card that graphs of this process hold.
class GraphMemory {
 public:
  GraphMemory(Device& device, AddressSpace& space, std::shared_ptr<machine::Machine> machine)
      : device_(device), space_(space), machine_(std::move(machine)) {}

  Device& device() const noexcept { return device_; }
  // Addresses alone; 0 where there are none.
  std::uint64_t reserve_addresses(std::uint64_t bytes);
  void release_addresses(std::uint64_t address, std::uint64_t bytes) noexcept;
  // Memory behind them. False where the card has no room.
  bool map(std::uint64_t address, std::uint64_t bytes);
  void unmap(std::uint64_t address, std::uint64_t bytes) noexcept;
  // Gives back what is kept for later launches.
  void trim() noexcept;

  CUresult get(CUgraphMem_attribute attribute, std::uint64_t& value) const;
  // High-water marks alone, and only to zero.
  CUresult set(CUgraphMem_attribute attribute, std::uint64_t value);

 private:
  Device& device_;
  AddressSpace& space_;
  const std::shared_ptr<machine::Machine> machine_;
  mutable std::mutex mutex_; // guards the figures, in bytes
  std::uint64_t used_ = 0, used_high_ = 0, reserved_ = 0, reserved_high_ = 0;
};

GraphMemory& graph_memory_of(Device& device);

// What an allocation node stands for, over all launches.
class GraphAllocation : public std::enable_shared_from_this<GraphAllocation> {
 public:
  // Null where there are no addresses left.
  static std::shared_ptr<GraphAllocation> make(Device& device, std::uint64_t bytes);
  GraphAllocation(GraphMemory& memory, std::uint64_t address, std::uint64_t bytes) noexcept
      : address(address), bytes(bytes), memory_(memory) {}
  ~GraphAllocation();

  // A launch begins that allocates it: known as memory of the context from now on. False where the card has
  // no room. An allocation that is still there (auto-free, or freed in stream order but not yet) goes on as
  // this.
  bool begin(const Context& context);
  // Counterpart of `begin`, by whoever frees the memory.
  void end() noexcept;
  // Allocated by a launch, and not freed since, nor about to be.
  bool outstanding() const;

  Device& device() const noexcept { return memory_.device(); }

  const std::uint64_t address, bytes;
  // Ids of graphs that hold the nodes; 0: none (yet). Guarded by graphs_mutex.
  unsigned allocated_in = 0, freed_in = 0;

 private:
  GraphMemory& memory_;
  mutable std::mutex mutex_; // guards uses_
  unsigned uses_ = 0;
};

// The graph allocation that begins at an address, alive or not; null where it is none.
std::shared_ptr<GraphAllocation> find_graph_allocation(std::uint64_t address);
// Is there one around the address?
bool in_graph_memory(std::uint64_t address);

} // namespace aliquot::simgpu::driver
