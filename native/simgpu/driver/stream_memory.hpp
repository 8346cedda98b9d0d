// Stream memory operations as a command, for streams and for the nodes of graphs.
#pragma once

#include <memory>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/context.hpp"
#include "native/simgpu/driver/core/stream.hpp"

namespace aliquot::simgpu::driver {

// Checks `count` operations that are to run in `context`, and makes the command that carries them out one
// after another. INVALID_VALUE where one of them is not one, or its address is not memory that the context
// may touch.
CUresult make_memory_operations(Context& context, const CUstreamBatchMemOpParams* operations, unsigned count,
                                std::unique_ptr<Command>& command);

} // namespace aliquot::simgpu::driver
