// Temperature, power and clocks of a simulated card. Nothing is measured: the figures follow from the card's
// data sheet and from how busy its engine was in the last second, so that tools have something plausible to
// draw.
#pragma once

#include <cstdint>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

std::uint32_t power_mw(const View& view) noexcept;
std::uint32_t temperature_c(const View& view) noexcept;
std::uint32_t sm_clock_mhz(const View& view) noexcept;
std::uint32_t memory_clock_mhz(const View& view) noexcept;
std::uint32_t fan_percent(const View& view) noexcept;
// Percent of the last second for which device memory was in use.
std::uint32_t memory_utilisation(const View& view) noexcept;
// Since the machine's host started.
std::uint64_t energy_mj(const View& view) noexcept;

// Thresholds, in degrees Celsius.
inline constexpr std::uint32_t kShutdownC = 95, kSlowdownC = 90, kTargetC = 85;

} // namespace aliquot::simgpu::nvml
