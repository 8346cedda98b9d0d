#include "native/limiter/compute/event_clock.hpp"

#include <algorithm>
#include <utility>

#include "native/limiter/cuda/driver.hpp"

namespace aliquot::limiter::compute {
namespace {

// From then on the float in which the driver tells a distance has steps of more than 60 ns.
constexpr std::int64_t kLongest = 500'000'000;
constexpr std::int64_t kDrift = 20'000; // one part in so many, by which the two clocks may differ

} // namespace

std::uint64_t EventClock::start_from(CUevent& event, std::uint64_t after, std::uint64_t before) noexcept {
  std::swap(origin_, event);
  earliest_ = static_cast<std::int64_t>(std::min(after, before));
  latest_ = static_cast<std::int64_t>(before);
  return static_cast<std::uint64_t>(earliest_ + (latest_ - earliest_) / 2);
}

std::uint64_t EventClock::read(CUevent& event, std::uint64_t after, std::uint64_t before) noexcept {
  float ms = 0;
  if (origin_ == nullptr || driver().cuEventElapsedTime(&ms, origin_, event) != CUDA_SUCCESS)
    return start_from(event, after, before);
  const auto distance = static_cast<std::int64_t>(static_cast<double>(ms) * 1e6);
  const std::int64_t earliest = std::max(earliest_, static_cast<std::int64_t>(after) - distance);
  const std::int64_t latest = std::min(latest_, static_cast<std::int64_t>(before) - distance);
  if (earliest > latest)
    return start_from(event, after, before); // the clocks have drifted apart
  earliest_ = earliest;
  latest_ = latest;
  const std::int64_t at = earliest + (latest - earliest) / 2 + distance;
  if (distance > kLongest) {
    std::swap(origin_, event);
    earliest_ += distance - distance / kDrift;
    latest_ += distance + distance / kDrift;
  }
  return std::clamp(static_cast<std::uint64_t>(at), std::min(after, before), before);
}

} // namespace aliquot::limiter::compute
