// A memory pool (cuMemPool*, cuMemAllocAsync): a heap that keeps what is freed until it is trimmed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver {

// Whose an imported pool is; owner 0: this process'.
struct PoolOrigin {
  std::uint64_t owner = 0, key = 0;
  std::shared_ptr<void> hold;
};

class Pool {
 public:
  Pool(Device& device_, AddressSpace& space, const std::shared_ptr<machine::Machine>& machine,
       bool is_default_);

  std::uint64_t allocate(std::uint64_t bytes);
  void free(std::uint64_t address, std::uint64_t bytes) noexcept;
  // What a synchronisation does: memory above the release threshold goes back.
  void release_above_threshold() noexcept;
  std::uint64_t reserved() const noexcept { return heap.charged(); }

  Device& device;
  const bool is_default;
  Heap heap;
  void* handle = nullptr;
  const std::uint64_t share_key; // what other processes know it by
  unsigned handle_types = 0;     // as asked for when it was made
  PoolOrigin origin;
  std::atomic<std::uint64_t> peers{0}; // cards beside its own that may touch it: bit i is card i
  std::uint64_t max_bytes = 0;         // 0: as the card allows
  std::atomic<std::uint64_t> release_threshold{0};
  std::atomic<std::uint64_t> used{0}, used_high{0}, reserved_high{0};
  std::atomic<int> reuse_follow_events{1}, reuse_opportunistic{1}, reuse_internal{1};
  std::atomic<bool> destroyed{false};
};

} // namespace aliquot::simgpu::driver
