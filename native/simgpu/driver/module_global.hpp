// Where a variable of loaded code lies: for modules and libraries alike.
#pragma once

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/code.hpp"

namespace aliquot::simgpu::driver {

// Either of `address` and `bytes` may be null, not both.
inline CUresult find_global(LoadedModule& module, const char* name, CUdeviceptr* address,
                            std::size_t* bytes) {
  if (name == nullptr || (address == nullptr && bytes == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  LoadedModule::Global global;
  if (!module.global(name, global))
    return CUDA_ERROR_NOT_FOUND;
  if (address != nullptr)
    *address = global.address;
  if (bytes != nullptr)
    *bytes = global.bytes;
  return CUDA_SUCCESS;
}

} // namespace aliquot::simgpu::driver
