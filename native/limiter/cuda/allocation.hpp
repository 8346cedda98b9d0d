// What this process holds, one allocation: how much, where, and who would free it with itself.
#pragma once

#include <array>
#include <cstdint>

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

enum class Charge : std::uint8_t {
  Context, // refunded when it is freed, or its context is destroyed
  Small,   // the same, but what is charged is the block that it shares with others
  Managed, // the same; the device may hold less
  Rounded, // the same, once the driver's figure shows that it is free
  Pool,    // paid for by its pool's reserved bytes
  Single,  // refunded when it is freed, and only then
};

constexpr bool ends_with_context(Charge charge) noexcept {
  return charge < Charge::Pool;
}

struct Allocation {
  std::uint64_t key = 0;   // address or handle, never 0
  std::uint64_t owner = 0; // context or pool
  std::uint64_t bytes = 0; // a multiple of 512
  unsigned device = 0;     // the slice's number of it
  Charge charge = Charge::Context;
};

using BytesByDevice = std::array<std::uint64_t, layout::kMaxDevices>;

} // namespace aliquot::limiter
