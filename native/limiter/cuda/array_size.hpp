// How many bytes the texels of an array take.
#pragma once

#include <cstdint>

#include "aliquot/cuda_abi.h"

namespace aliquot::limiter {

struct ArrayShape {
  std::uint64_t width = 0, height = 0, depth = 0; // in texels; 0 means that there is no such dimension
  CUarray_format format = CU_AD_FORMAT_UNSIGNED_INT8;
  unsigned channels = 0;
  unsigned levels = 1;      // of a mipmap
  bool takes_memory = true; // false where pages are given to it later
};

// False where the size does not fit 64 bits: no driver will make such an array.
bool array_bytes(const ArrayShape& shape, std::uint64_t& bytes) noexcept;

} // namespace aliquot::limiter
