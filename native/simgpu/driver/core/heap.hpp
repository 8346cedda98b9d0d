// Device memory of one card for this process: the accounting of what it takes, and its sub-allocation.
//
// As on a card, memory is taken in 2 MiB blocks: a request of at most 1 MiB shares a block with other small
// ones, a larger one has blocks of its own. What a process is charged is the blocks it holds.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "native/simgpu/driver/core/address_space.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

class Heap {
 public:
  // With `retain`, freed blocks are kept (and stay charged) until `trim`: a memory pool.
  Heap(AddressSpace& space, std::shared_ptr<machine::Machine> machine, std::uint32_t card, bool retain)
      : space_(space), machine_(std::move(machine)), card_(card), retain_(retain) {}
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  // 0 where the card, or the host behind it, has no room. At least 512-byte aligned.
  std::uint64_t allocate(std::uint64_t bytes);
  // `address` and `bytes` as they were allocated.
  void free(std::uint64_t address, std::uint64_t bytes) noexcept;
  // Gives retained blocks back until at most `keep` bytes stay charged.
  void trim(std::uint64_t keep) noexcept;
  std::uint64_t charged() const noexcept;

 private:
  std::uint64_t allocate_small(std::uint64_t bytes);
  std::uint64_t take(std::uint64_t blocks);
  std::uint64_t take_retained(std::uint64_t blocks);
  void give_back(std::uint64_t address, std::uint64_t blocks) noexcept;
  void release(std::uint64_t address, std::uint64_t blocks) noexcept;

  AddressSpace& space_;
  const std::shared_ptr<machine::Machine> machine_;
  const std::uint32_t card_;
  const bool retain_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, UnitMap*> small_;         // blocks of small allocations
  std::map<std::uint64_t, std::uint64_t> retained_; // address -> blocks
  std::uint64_t charged_ = 0;
};

} // namespace aliquot::simgpu::driver
