// The heap of device malloc: a stretch of device memory of one context, from which its kernels allocate.
//
// What is free and what is taken is known to the host alone, so that no kernel can spoil it. (On a card it
// stands in the heap itself.)
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "native/simgpu/exec/device_heap.hpp"

namespace aliquot::simgpu::driver {

class DeviceMallocHeap final : public exec::DeviceHeap {
 public:
  DeviceMallocHeap(std::uint64_t address, std::uint64_t bytes) : address_(address) { free_[address] = bytes; }

  std::uint64_t allocate(std::uint64_t bytes) noexcept override;
  bool release(std::uint64_t address) noexcept override;
  // Where the heap begins.
  std::uint64_t address() const noexcept { return address_; }

 private:
  const std::uint64_t address_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> free_, taken_; // address -> bytes; free neighbours are one
};

} // namespace aliquot::simgpu::driver
