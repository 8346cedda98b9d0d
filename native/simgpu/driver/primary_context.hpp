// Primary contexts, for the entry points and for the export table that hands one out.
#pragma once

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver {

CUresult retain_primary(Device& device, CUcontext* out);

} // namespace aliquot::simgpu::driver
