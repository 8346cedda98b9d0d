// A memory pool (cuMemPool*, cuMemAllocAsync): a heap that keeps what is freed until it is trimmed.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>

#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver {

class Pool {
 public:
  Pool(Device& device_, AddressSpace& space, const std::shared_ptr<machine::Machine>& machine,
       bool is_default_)
      : device(device_), is_default(is_default_), heap(space, machine, device_.card, true) {}

  std::uint64_t allocate(std::uint64_t bytes);
  void free(std::uint64_t address, std::uint64_t bytes) noexcept;
  // What a synchronisation does: memory above the release threshold goes back.
  void release_above_threshold() noexcept;
  std::uint64_t reserved() const noexcept { return heap.charged(); }

  Device& device;
  const bool is_default;
  Heap heap;
  void* handle = nullptr;
  std::uint64_t max_bytes = 0; // 0: as the card allows
  std::atomic<std::uint64_t> release_threshold{0};
  std::atomic<std::uint64_t> used{0}, used_high{0}, reserved_high{0};
  std::atomic<int> reuse_follow_events{1}, reuse_opportunistic{1}, reuse_internal{1};
  std::atomic<bool> destroyed{false};
};

} // namespace aliquot::simgpu::driver
