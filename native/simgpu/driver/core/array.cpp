#include "native/simgpu/driver/core/array.hpp"

#include "native/simgpu/driver/core/driver.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::uint32_t channel_bytes(CUarray_format format) noexcept {
  switch (format) {
  case CU_AD_FORMAT_UNSIGNED_INT8:
  case CU_AD_FORMAT_SIGNED_INT8:
    return 1;
  case CU_AD_FORMAT_UNSIGNED_INT16:
  case CU_AD_FORMAT_SIGNED_INT16:
  case CU_AD_FORMAT_HALF:
    return 2;
  case CU_AD_FORMAT_UNSIGNED_INT32:
  case CU_AD_FORMAT_SIGNED_INT32:
  case CU_AD_FORMAT_FLOAT:
    return 4;
  default:
    return 0;
  }
}

// Normalised formats name their channels themselves, in runs of one, two and four (cuda.h, CUarray_format).
std::uint32_t normalised_bytes(CUarray_format format, unsigned channels) noexcept {
  if (format < CU_AD_FORMAT_UNORM_INT8X1 || format > CU_AD_FORMAT_SNORM_INT16X4)
    return 0;
  const unsigned index = format - CU_AD_FORMAT_UNORM_INT8X1;
  const std::uint32_t named = 1u << (index % 3);
  return named == channels ? named * (index / 3 % 2 == 0 ? 1 : 2) : 0;
}

// Compressed blocks (0x91 on), planes and packed colours (cuda.h).
bool is_other_format(CUarray_format format) noexcept {
  return (format >= CU_AD_FORMAT_BC1_UNORM && format <= 0xb5) || (format >= 0x50 && format <= 0x5e);
}

} // namespace

std::uint32_t element_bytes(CUarray_format format, unsigned channels, bool& supported) noexcept {
  supported = !is_other_format(format);
  if (channels != 1 && channels != 2 && channels != 4)
    return 0;
  if (const std::uint32_t each = channel_bytes(format); each != 0)
    return each * channels;
  return normalised_bytes(format, channels);
}

std::shared_ptr<ArrayMemory> ArrayMemory::make(Device& device, std::uint64_t bytes) {
  if (bytes == 0 || bytes > device.model.vram_bytes)
    return nullptr;
  std::uint64_t address = device.heap.allocate(bytes);
  if (address == 0) {
    Driver::instance().trim_pools();
    address = device.heap.allocate(bytes);
  }
  return address != 0 ? std::make_shared<ArrayMemory>(device, address, bytes) : nullptr;
}

Array::Array(const CUDA_ARRAY3D_DESCRIPTOR& descriptor_, std::uint32_t element_) noexcept
    : descriptor(descriptor_), element(element_) {}

} // namespace aliquot::simgpu::driver
