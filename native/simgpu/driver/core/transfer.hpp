// Copies and sets as commands of a stream. Addresses are resolved and checked before: here they are bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "native/simgpu/driver/core/stream.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

// Up to this many bytes are moved on the thread that submits them, and a pageable source is staged.
inline constexpr std::size_t kSmallTransfer = std::size_t{64} << 10;

struct Extent3D {
  std::size_t width = 0, height = 1, depth = 1; // bytes, rows, slices
  std::size_t bytes() const noexcept { return width * height * depth; }
};

// Where the first byte lies and how far apart rows and slices are.
struct Pitched {
  std::uint8_t* at = nullptr;
  std::size_t row = 0, slice = 0;
};

enum class Direction : std::uint8_t { ToDevice, ToHost, OnDevice, OnHost };

class CopyCommand final : public Command {
 public:
  CopyCommand(Pitched to, Pitched from, Extent3D extent, Direction direction)
      : to_(to), from_(from), extent_(extent), direction_(direction) {}
  // Reads the source now, so that the caller may change it at once.
  void stage();
  Outcome run(Stream& stream) noexcept override;
  bool light() const noexcept override { return extent_.bytes() <= kSmallTransfer; }

 private:
  Pitched to_, from_;
  const Extent3D extent_;
  const Direction direction_;
  std::vector<std::uint8_t> staged_;
};

// `pattern` of `pattern_bytes` (1, 2 or 4) over rows of `extent.width` bytes.
class SetCommand final : public Command {
 public:
  SetCommand(Pitched to, Extent3D extent, std::uint32_t pattern, unsigned pattern_bytes)
      : to_(to), extent_(extent), pattern_(pattern), pattern_bytes_(pattern_bytes) {}
  Outcome run(Stream& stream) noexcept override;
  bool light() const noexcept override { return extent_.bytes() <= kSmallTransfer; }

 private:
  const Pitched to_;
  const Extent3D extent_;
  const std::uint32_t pattern_;
  const unsigned pattern_bytes_;
};

} // namespace aliquot::simgpu::driver
