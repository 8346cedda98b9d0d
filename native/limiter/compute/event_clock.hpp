// When an event passed, on the host's clock: the driver tells only how far apart two events were.
//
// One event is kept as the origin. Each event that is seen to have passed bounds the host's time of the
// origin from both sides: by when it was recorded or last seen not to have passed, and by when it was seen.
// The bounds close in on some microseconds, however late the looks are.
#pragma once

#include <cstdint>

#include "aliquot/cuda_abi.h"

namespace aliquot::limiter::compute {

// For the events of one context.
class EventClock {
 public:
  // The time, CLOCK_MONOTONIC, of `event`, which passed between `after` and `before`. It may be kept: then
  // the one that was kept until now, or null, is in its place.
  std::uint64_t read(CUevent& event, std::uint64_t after, std::uint64_t before) noexcept;

 private:
  std::uint64_t start_from(CUevent& event, std::uint64_t after, std::uint64_t before) noexcept;

  CUevent origin_ = nullptr;
  std::int64_t earliest_ = 0, latest_ = 0; // bounds of the origin's time
};

} // namespace aliquot::limiter::compute
