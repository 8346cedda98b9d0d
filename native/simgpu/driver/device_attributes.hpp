// The numbers behind cuDeviceGetAttribute.
#pragma once

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver {

// False for an attribute that does not exist.
bool device_attribute(const Device& device, CUdevice_attribute attribute, int& value) noexcept;

// Shared memory that a block takes for the driver itself: 1 KiB from compute capability 8.0 (CUDA C++
// Programming Guide, "Compute Capabilities", shared memory).
constexpr unsigned reserved_shared_bytes(std::uint32_t capability) noexcept {
  return capability >= 80 ? 1024 : 0;
}

} // namespace aliquot::simgpu::driver
