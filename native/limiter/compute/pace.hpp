// A bucket of device time: what holds a process to its part of a card while there is no arbiter.
#pragma once

#include <algorithm>
#include <cstdint>

#include "aliquot/slice_layout.hpp"

namespace aliquot::limiter::compute {

class Pace {
 public:
  // Time that was not used is kept for so long, so that short pauses cost nothing.
  static constexpr std::int64_t kDepth = 20'000'000; // ns of the device

  void refill(std::uint64_t now, std::uint64_t ppm) noexcept {
    const std::uint64_t passed =
        filled_at_ == 0 ? 0 : std::min<std::uint64_t>(now - filled_at_, 1'000'000'000);
    filled_at_ = now;
    const auto gained = static_cast<std::int64_t>(passed * ppm / layout::kWholeCardPpm);
    left_ = std::min(kDepth, left_ + gained);
  }
  std::int64_t left() const noexcept { return left_; }
  void take(std::int64_t ns) noexcept { left_ -= ns; }
  // How long until something is left.
  std::uint64_t wait(std::uint64_t ppm) const noexcept {
    return left_ > 0 ? 0 : static_cast<std::uint64_t>(1'000 - left_) * layout::kWholeCardPpm / ppm;
  }

 private:
  std::int64_t left_ = kDepth;
  std::uint64_t filled_at_ = 0;
};

} // namespace aliquot::limiter::compute
