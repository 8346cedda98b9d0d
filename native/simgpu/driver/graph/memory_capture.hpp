// Calls about memory into a stream that captures.
#pragma once

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/device.hpp"
#include "native/simgpu/driver/core/stream.hpp"

namespace aliquot::simgpu::driver {

// An allocation node: its address is known at once, the memory is there when the graph is launched.
CUresult capture_allocate(Stream& stream, Device& device, std::size_t bytes, CUdeviceptr* address);
// A free node: INVALID_VALUE for what no graph allocates.
CUresult capture_free(Stream& stream, CUdeviceptr address);
// Stream memory operations, already checked.
CUresult capture_memory_operations(Stream& stream, const CUstreamBatchMemOpParams* operations,
                                   unsigned count);

} // namespace aliquot::simgpu::driver
