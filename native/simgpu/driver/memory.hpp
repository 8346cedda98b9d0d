// Parts of the memory family that others use.
#pragma once

#include "native/simgpu/driver/entry.hpp"

namespace aliquot::simgpu::driver {

CUresult allocate_device(const ContextPtr& context, std::size_t bytes, CUdeviceptr* out);
// Waits for all work that may touch the memory.
void synchronize_device_of(const Allocation& allocation);

} // namespace aliquot::simgpu::driver
