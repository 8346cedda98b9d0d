// Log lines of the simulated machine: to stderr, only when they help a person (ALIQUOT_LOG sets how much).
#pragma once

namespace aliquot::simgpu::machine {

enum class Level { Error, Warning, Info, Debug };

__attribute__((format(printf, 2, 3))) void log_line(Level level, const char* format, ...) noexcept;

} // namespace aliquot::simgpu::machine
