// Sizes of formats are those of cuda.h (CUarray_format) and, for the video formats, of their usual
// definitions.
#include "native/limiter/cuda/array_size.hpp"

#include <algorithm>

namespace aliquot::limiter {
namespace {

bool is_one_of(CUarray_format format, CUarray_format first, CUarray_format last) noexcept {
  return format >= first && format <= last;
}

// Bits of one channel of the plain formats; 0 for the others.
unsigned bits_of_channel(CUarray_format format) noexcept {
  switch (format) {
  case CU_AD_FORMAT_UNSIGNED_INT8:
  case CU_AD_FORMAT_SIGNED_INT8:
    return 8;
  case CU_AD_FORMAT_UNSIGNED_INT16:
  case CU_AD_FORMAT_SIGNED_INT16:
  case CU_AD_FORMAT_HALF:
    return 16;
  case CU_AD_FORMAT_UNSIGNED_INT32:
  case CU_AD_FORMAT_SIGNED_INT32:
  case CU_AD_FORMAT_FLOAT:
    return 32;
  default:
    return 0;
  }
}

// Bits of one texel of the formats that have their channels in themselves.
unsigned bits_of_texel(CUarray_format format) noexcept {
  constexpr unsigned kNormalised[] = {8, 16, 32, 16, 32, 64}; // INT8X1, X2, X4, INT16X1, X2, X4
  if (is_one_of(format, CU_AD_FORMAT_UNORM_INT8X1, CU_AD_FORMAT_SNORM_INT16X4)) {
    return kNormalised[(format - CU_AD_FORMAT_UNORM_INT8X1) % 6];
  }
  switch (format) {
  case CU_AD_FORMAT_NV12:
  case CU_AD_FORMAT_UINT8_SEMIPLANAR_420:
  case CU_AD_FORMAT_UINT8_PLANAR_420:
    return 12;
  case CU_AD_FORMAT_YUY2:
  case CU_AD_FORMAT_NV16:
  case CU_AD_FORMAT_UINT8_PACKED_422:
  case CU_AD_FORMAT_UINT8_SEMIPLANAR_422:
  case CU_AD_FORMAT_UINT8_PLANAR_422:
    return 16;
  case CU_AD_FORMAT_P010:
  case CU_AD_FORMAT_P016:
  case CU_AD_FORMAT_UINT16_SEMIPLANAR_420:
  case CU_AD_FORMAT_UINT16_PLANAR_420:
  case CU_AD_FORMAT_UINT8_PACKED_444:
  case CU_AD_FORMAT_UINT8_SEMIPLANAR_444:
  case CU_AD_FORMAT_UINT8_PLANAR_444:
  case CU_AD_FORMAT_Y444_PLANAR8:
  case CU_AD_FORMAT_YUV444_8bit_SemiPlanar:
    return 24;
  case CU_AD_FORMAT_UINT16_SEMIPLANAR_444:
  case CU_AD_FORMAT_UINT16_PLANAR_444:
  case CU_AD_FORMAT_Y444_PLANAR10:
  case CU_AD_FORMAT_YUV444_16bit_SemiPlanar:
    return 48;
  case CU_AD_FORMAT_Y416:
    return 64;
  default:
    return 32;
  }
}

// A block of 4 by 4 texels takes 8 bytes in BC1 and BC4, and 16 in the others.
unsigned bits_of_compressed(CUarray_format format) noexcept {
  const bool small = is_one_of(format, CU_AD_FORMAT_BC1_UNORM, CU_AD_FORMAT_BC1_UNORM_SRGB) ||
                     is_one_of(format, CU_AD_FORMAT_BC4_UNORM, CU_AD_FORMAT_BC4_SNORM);
  return small ? 4 : 8;
}

bool is_compressed(CUarray_format format) noexcept {
  return is_one_of(format, CU_AD_FORMAT_BC1_UNORM, CU_AD_FORMAT_BC7_UNORM_SRGB);
}

unsigned bits_per_texel(const ArrayShape& shape) noexcept {
  if (is_compressed(shape.format))
    return bits_of_compressed(shape.format);
  const unsigned channel = bits_of_channel(shape.format);
  return channel != 0 ? channel * std::clamp(shape.channels, 1u, 4u) : bits_of_texel(shape.format);
}

std::uint64_t whole_blocks(std::uint64_t texels) noexcept {
  return (texels + 3) / 4 * 4;
}

bool level_bytes(const ArrayShape& shape, unsigned level, std::uint64_t& bytes) noexcept {
  std::uint64_t width = std::max<std::uint64_t>(shape.width >> level, 1);
  std::uint64_t height = std::max<std::uint64_t>(shape.height >> level, 1);
  const std::uint64_t depth = std::max<std::uint64_t>(shape.depth >> level, 1);
  if (is_compressed(shape.format)) {
    width = whole_blocks(width);
    height = whole_blocks(height);
  }
  std::uint64_t bits = 0;
  if (__builtin_mul_overflow(width, height, &bits) || __builtin_mul_overflow(bits, depth, &bits) ||
      __builtin_mul_overflow(bits, std::uint64_t{bits_per_texel(shape)}, &bits)) {
    return false;
  }
  bytes = bits / 8 + (bits % 8 != 0 ? 1 : 0);
  return true;
}

} // namespace

bool array_bytes(const ArrayShape& shape, std::uint64_t& bytes) noexcept {
  bytes = 0;
  if (!shape.takes_memory || shape.width == 0)
    return true;
  for (unsigned level = 0; level < std::clamp(shape.levels, 1u, 32u); ++level) {
    std::uint64_t more = 0;
    if (!level_bytes(shape, level, more) || __builtin_add_overflow(bytes, more, &bytes))
      return false;
  }
  return true;
}

} // namespace aliquot::limiter
