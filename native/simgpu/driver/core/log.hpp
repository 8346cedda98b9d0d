// Lines for a person on stderr, prefixed "aliquot: ". Never stdout: that belongs to the host program.
#pragma once

namespace aliquot::simgpu::driver {

enum class LogLevel { Error = 0, Warning, Info, Debug };

// ALIQUOT_LOG sets the level (default warning). One write per line, so lines of several threads do not mix.
[[gnu::format(printf, 2, 3)]] void log_line(LogLevel level, const char* format, ...) noexcept;

} // namespace aliquot::simgpu::driver
