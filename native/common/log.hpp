// Log lines of libraries that live in other people's programs: to stderr, one write each, and rarely.
//
// Nothing here allocates, throws, or keeps a descriptor. A line appears from the level in ALIQUOT_LOG on
// (error, warning, info, debug; warning where it is not set) and begins with "aliquot: ".
#pragma once

#include <atomic>
#include <cstdint>

namespace aliquot::common {

enum class LogLevel : std::uint8_t { Error, Warning, Info, Debug };

// printf-like; longer lines are cut.
__attribute__((format(printf, 2, 3))) void log_line(LogLevel level, const char* format, ...) noexcept;

// Lets a burst through and then one a second, and counts what it held back. For lines that a loop could
// repeat.
class LogThrottle {
 public:
  // True when the line may be written; `held_back` is then how many were not since the last one.
  bool allow(std::uint64_t& held_back) noexcept;

 private:
  static constexpr std::uint64_t kBurst = 3;
  std::atomic<std::uint64_t> last_second_{0};
  std::atomic<std::uint64_t> in_this_second_{0};
  std::atomic<std::uint64_t> held_back_{0};
};

} // namespace aliquot::common
