// The clock of the grants.
#pragma once

#include <cstdint>
#include <ctime>

namespace aliquot::limiter::arbiter {

inline std::uint64_t now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

} // namespace aliquot::limiter::arbiter
