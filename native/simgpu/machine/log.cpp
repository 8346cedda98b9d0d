#include "native/simgpu/machine/log.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace aliquot::simgpu::machine {
namespace {

Level threshold() noexcept {
  const char* wanted = std::getenv("ALIQUOT_LOG");
  if (wanted == nullptr)
    return Level::Warning;
  if (std::strcmp(wanted, "error") == 0)
    return Level::Error;
  if (std::strcmp(wanted, "info") == 0)
    return Level::Info;
  return std::strcmp(wanted, "debug") == 0 ? Level::Debug : Level::Warning;
}

} // namespace

void log_line(Level level, const char* format, ...) noexcept {
  if (level > threshold())
    return;
  // One write per line, so that lines of several processes do not mix.
  char line[1024] = "aliquot: ";
  const std::size_t prefix = std::strlen(line);
  va_list arguments;
  va_start(arguments, format);
  const int wanted = std::vsnprintf(line + prefix, sizeof line - prefix - 1, format, arguments);
  va_end(arguments);
  if (wanted < 0)
    return;
  std::size_t length = std::strlen(line);
  line[length++] = '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line, length);
}

} // namespace aliquot::simgpu::machine
