#include "native/simgpu/driver/core/log.hpp"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace aliquot::simgpu::driver {
namespace {

LogLevel threshold() noexcept {
  static const LogLevel level = [] {
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
  }();
  return level;
}

} // namespace

void log_line(LogLevel level, const char* format, ...) noexcept {
  if (level > threshold())
    return;
  char line[2048] = "aliquot: ";
  const std::size_t prefix = std::strlen(line);
  std::va_list arguments;
  va_start(arguments, format);
  int length = std::vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
  va_end(arguments);
  if (length < 0)
    return;
  std::size_t total = std::strlen(line);
  line[total++] = '\n';
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, total);
}

} // namespace aliquot::simgpu::driver
