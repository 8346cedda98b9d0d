#include "native/simgpu/driver/core/transfer.hpp"

#include <cstring>

#include "native/simgpu/driver/core/context.hpp"
#include "native/simgpu/driver/core/driver.hpp"

namespace aliquot::simgpu::driver {
namespace {

// memmove: source and target of a copy on the device may overlap, and then what comes out is not defined, but
// it must not crash.
void copy_rows(Pitched to, Pitched from, const Extent3D& extent) noexcept {
  const bool solid_rows = to.row == extent.width && from.row == extent.width;
  for (std::size_t z = 0; z < extent.depth; ++z) {
    std::uint8_t* target = to.at + z * to.slice;
    const std::uint8_t* source = from.at + z * from.slice;
    if (solid_rows || extent.height == 1) {
      std::memmove(target, source, extent.width * extent.height);
      continue;
    }
    for (std::size_t y = 0; y < extent.height; ++y)
      std::memmove(target + y * to.row, source + y * from.row, extent.width);
  }
}

template <class Pattern>
void fill(std::uint8_t* at, std::size_t bytes, Pattern pattern) noexcept {
  for (std::size_t i = 0; i + sizeof pattern <= bytes; i += sizeof pattern)
    std::memcpy(at + i, &pattern, sizeof pattern);
}

void fill_row(std::uint8_t* at, std::size_t bytes, std::uint32_t pattern, unsigned pattern_bytes) noexcept {
  if (pattern_bytes == 1)
    std::memset(at, static_cast<int>(pattern & 0xff), bytes);
  else if (pattern_bytes == 2)
    fill(at, bytes, static_cast<std::uint16_t>(pattern));
  else
    fill(at, bytes, pattern);
}

} // namespace

void CopyCommand::stage() {
  staged_.resize(extent_.bytes());
  const Pitched solid{staged_.data(), extent_.width, extent_.width * extent_.height};
  copy_rows(solid, from_, extent_);
  from_ = solid;
}

Outcome CopyCommand::run(Stream& stream) noexcept {
  copy_rows(to_, from_, extent_);
  machine::Machine& machine = *Driver::instance().machine;
  const std::uint32_t card = stream.context().device().card;
  switch (direction_) {
  case Direction::ToDevice:
    machine.count_copy(card, machine::Copy::ToDevice, extent_.bytes());
    break;
  case Direction::ToHost:
    machine.count_copy(card, machine::Copy::ToHost, extent_.bytes());
    break;
  case Direction::OnDevice:
    machine.count_copy(card, machine::Copy::OnDevice, extent_.bytes());
    break;
  case Direction::OnHost:
    break;
  }
  return Outcome::Done;
}

Outcome SetCommand::run(Stream&) noexcept {
  if (to_.row == extent_.width || extent_.height == 1) {
    fill_row(to_.at, extent_.width * extent_.height, pattern_, pattern_bytes_);
    return Outcome::Done;
  }
  for (std::size_t y = 0; y < extent_.height; ++y)
    fill_row(to_.at + y * to_.row, extent_.width, pattern_, pattern_bytes_);
  return Outcome::Done;
}

} // namespace aliquot::simgpu::driver
