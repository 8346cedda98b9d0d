// What a device's grant says, read once for a decision; and times that admission and watching share.
#pragma once

#include <algorithm>

#include "native/limiter/compute/device_gate.hpp"

namespace aliquot::limiter::compute {

inline std::uint64_t later(std::uint64_t a, std::uint64_t b) noexcept {
  return std::max(a, b);
}

inline constexpr std::uint64_t kNoEnd = ~std::uint64_t{0};
inline constexpr std::uint64_t kMostEarly = 1'000'000; // ns, by which a turn may be opened too early
inline constexpr std::uint64_t kLeastLook = 20'000;    // ns, between two looks at work that should have ended

struct DeviceGate::Terms {
  Mode mode = Mode::Free;
  std::uint64_t turn = 0, begins_ns = 0, ends_ns = 0, flags = 0, in_flight_ns = 0, idle_window_ns = 0,
                rate_ppm = 0;

  bool open(std::uint64_t now) const noexcept {
    return (turn & 1u) != 0 && (ends_ns == kNoEnd || now < ends_ns);
  }
  // How long until the launch should be on its way, which itself takes `lead`.
  std::uint64_t too_early(std::uint64_t now, std::uint64_t lead) const noexcept {
    const std::uint64_t from = begins_ns - std::min(begins_ns, lead);
    return now < from && from - now < kMostEarly ? from - now : 0;
  }
  bool always() const noexcept { return (flags & layout::kGrantAlways) != 0; }
  bool contended() const noexcept { return (flags & layout::kGrantContended) != 0; }
  bool careful() const noexcept { return contended() || always() || ends_ns != kNoEnd; }
};

} // namespace aliquot::limiter::compute
