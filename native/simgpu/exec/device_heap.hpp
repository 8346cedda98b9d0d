// The heap of device malloc and free: what the driver gives to kernels that call them.
#pragma once

#include <cstdint>

namespace aliquot::simgpu::exec {

// Called from several threads at once.
class DeviceHeap {
 public:
  virtual ~DeviceHeap() = default;
  // 0 where there is no room, which device malloc returns as null. Aligned to 16 bytes.
  virtual std::uint64_t allocate(std::uint64_t bytes) noexcept = 0;
  // False where nothing was allocated at this address.
  virtual bool release(std::uint64_t address) noexcept = 0;
};

} // namespace aliquot::simgpu::exec
