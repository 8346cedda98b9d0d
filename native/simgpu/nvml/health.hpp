// What has gone wrong with a card (`aliquot simgpu fault`), as NVML shows it.
#pragma once

#include <cstdint>

#include "native/simgpu/machine/faults.hpp"
#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

machine::EccCounters ecc_counters(const View& view) noexcept;

// How faults hold the clocks down. `reasons` is 0 where none does.
machine::Throttle throttle_of(const View& view) noexcept;

// Tells those who wait for events that the clocks have changed.
void report_clock_change(const View& view) noexcept;

} // namespace aliquot::simgpu::nvml
