// Arrays and mipmapped arrays as memory: elements in rows, rows in slices.
//
// A card lays arrays out as it likes and shows nobody how, so here they are plain: rows without gaps. They
// are copied to and from; nothing samples them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver {

// Bytes of an element; 0 where there is no such format. `supported` is false for those that this driver does
// not lay out (compressed blocks, planes).
std::uint32_t element_bytes(CUarray_format format, unsigned channels, bool& supported) noexcept;

// Device memory that is given back with the last array in it.
class ArrayMemory {
 public:
  // Null where the card has no room.
  static std::shared_ptr<ArrayMemory> make(Device& device, std::uint64_t bytes);
  ArrayMemory(Device& device_, std::uint64_t address_, std::uint64_t bytes_) noexcept
      : device(device_), address(address_), bytes(bytes_) {}
  ~ArrayMemory() { device.heap.free(address, bytes); }
  ArrayMemory(const ArrayMemory&) = delete;
  ArrayMemory& operator=(const ArrayMemory&) = delete;

  Device& device;
  const std::uint64_t address, bytes;
};

class Array {
 public:
  Array(const CUDA_ARRAY3D_DESCRIPTOR& descriptor, std::uint32_t element) noexcept;

  std::uint64_t row_bytes() const noexcept { return std::uint64_t{descriptor.Width} * element; }
  std::uint64_t rows() const noexcept { return descriptor.Height != 0 ? descriptor.Height : 1; }
  std::uint64_t slices() const noexcept { return descriptor.Depth != 0 ? descriptor.Depth : 1; }
  std::uint64_t bytes() const noexcept { return row_bytes() * rows() * slices(); }
  std::uint64_t address() const noexcept { return memory->address + offset; }

  const CUDA_ARRAY3D_DESCRIPTOR descriptor;
  const std::uint32_t element; // bytes
  std::shared_ptr<ArrayMemory> memory;
  std::uint64_t offset = 0; // of a level in the memory of its mipmapped array
  std::uint64_t context_id = 0;
  bool is_level = false; // belongs to a mipmapped array, and goes with it
};

class MipmappedArray {
 public:
  std::vector<CUarray> levels;
  std::uint64_t context_id = 0;
};

} // namespace aliquot::simgpu::driver
