// Temperature, power and clocks of a simulated card. Nothing is measured: the figures follow from the card's
// data sheet, from what was set on it, and from how busy its engine was in the last second, so that tools
// have something plausible to draw. README.md states the formulae.
#pragma once

#include <cstdint>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

inline constexpr std::uint32_t kLowestSmMhz = 210, kClockStepMhz = 15;

// What the card settles at while it works.
struct OperatingPoint {
  std::uint32_t sm_mhz = 0, memory_mhz = 0;
  std::uint32_t load_mw = 0; // on top of idling, while the engine is busy
  std::uint64_t reasons = 0; // nvmlClocksEventReason...: why not faster
};
OperatingPoint operating_point(const View& view) noexcept;

// Milliwatts that work at this clock draws on top of idling.
std::uint32_t load_power_mw(const CardModel& model, std::uint32_t sm_mhz) noexcept;

std::uint32_t load_percent(const View& view) noexcept; // of the last second
std::uint32_t power_mw(const View& view) noexcept;
std::uint32_t power_limit_mw(const View& view) noexcept;
std::uint32_t lowest_power_limit_mw(const CardModel& model) noexcept;
std::uint32_t temperature_c(const View& view) noexcept;
std::uint32_t memory_temperature_c(const View& view) noexcept;
bool has_memory_temperature(const View& view) noexcept; // HBM reports its own
std::uint32_t sm_clock_mhz(const View& view) noexcept;
std::uint32_t memory_clock_mhz(const View& view) noexcept;
std::uint32_t idle_memory_mhz(const CardModel& model) noexcept;
std::uint32_t boost_mhz(const CardModel& model) noexcept;
std::uint32_t full_memory_mhz(const CardModel& model) noexcept;
std::uint64_t clock_reasons(const View& view) noexcept; // of now: idle, or why not faster
// Percent of the last second for which device memory was in use.
std::uint32_t memory_utilisation(const View& view) noexcept;

// Thresholds, in degrees Celsius.
inline constexpr std::uint32_t kShutdownC = 95, kSlowdownC = 90, kTargetC = 85, kMemoryMaxC = 95;

} // namespace aliquot::simgpu::nvml
