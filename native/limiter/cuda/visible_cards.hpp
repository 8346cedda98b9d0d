// CUDA_VISIBLE_DEVICES in a slice: what a program writes there is about the cards of its slice; the driver,
// which reads it in cuInit, is to read which cards of the machine those are. Says nothing of what the slice
// may use of them.
#pragma once

#include <cstddef>
#include <span>

#include "aliquot/slice_layout.hpp"

namespace aliquot::limiter {

inline constexpr std::size_t kCardNameLength = 40; // "GPU-" and the 8-4-4-4-12 form

// The variable's definition for the driver, "CUDA_VISIBLE_DEVICES=...".
struct VisibleCards {
  // One more than there can be: a card that is named twice makes the list invalid, which is for the driver to
  // say.
  static constexpr std::size_t kMostNamed = layout::kMaxDevices + 1;
  char definition[sizeof "CUDA_VISIBLE_DEVICES=" + kMostNamed * (kCardNameLength + 1)];
};

// `asked` is the variable's value, null where it is not set: then all `cards`, which are the slice's in its
// order. As in the vendor's driver, entries are indices, or UUIDs or an unambiguous beginning of one, and the
// list ends at the first that names no card; one without any is made "-1", which names none.
VisibleCards visible_to_driver(const char* asked, std::span<const layout::DeviceLimit> cards) noexcept;

// While one lives the process' environment has the variable so; afterwards it is the program's own again.
// Neither frees or moves anything that another thread may be reading.
class EnvironmentForDriver {
 public:
  explicit EnvironmentForDriver(std::span<const layout::DeviceLimit> cards) noexcept;
  ~EnvironmentForDriver();
  EnvironmentForDriver(const EnvironmentForDriver&) = delete;
  EnvironmentForDriver& operator=(const EnvironmentForDriver&) = delete;
};

} // namespace aliquot::limiter
