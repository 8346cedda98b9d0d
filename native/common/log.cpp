#include "native/common/log.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <unistd.h>

namespace aliquot::common {
namespace {

LogLevel level_of_environment() noexcept {
  const char* text = std::getenv("ALIQUOT_LOG");
  if (text == nullptr)
    return LogLevel::Warning;
  if (std::strcmp(text, "error") == 0)
    return LogLevel::Error;
  if (std::strcmp(text, "info") == 0)
    return LogLevel::Info;
  if (std::strcmp(text, "debug") == 0)
    return LogLevel::Debug;
  return LogLevel::Warning;
}

} // namespace

void log_line(LogLevel level, const char* format, ...) noexcept {
  if (level > level_of_environment())
    return;
  const int saved_errno = errno;
  char line[2048] = "aliquot: ";
  const std::size_t start = std::strlen(line);
  std::va_list arguments;
  va_start(arguments, format);
  const int written = std::vsnprintf(line + start, sizeof line - start - 1, format, arguments);
  va_end(arguments);
  if (written >= 0) {
    std::size_t length =
        start + std::min<std::size_t>(static_cast<std::size_t>(written), sizeof line - start - 2);
    line[length++] = '\n';
    if (::write(STDERR_FILENO, line, length) < 0)
      errno = saved_errno; // a closed stderr is the program's choice
  }
  errno = saved_errno;
}

bool LogThrottle::allow(std::uint64_t& held_back) noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto second = static_cast<std::uint64_t>(now.tv_sec);
  if (last_second_.exchange(second, std::memory_order_relaxed) != second) {
    in_this_second_.store(0, std::memory_order_relaxed);
  } else if (in_this_second_.load(std::memory_order_relaxed) >= kBurst) {
    held_back_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  in_this_second_.fetch_add(1, std::memory_order_relaxed);
  held_back = held_back_.exchange(0, std::memory_order_relaxed);
  return true;
}

} // namespace aliquot::common
