#include "native/simgpu/nvml/physics.hpp"

#include <algorithm>

#include "native/simgpu/nvml/health.hpp"

namespace aliquot::simgpu::nvml {
namespace {

constexpr std::uint32_t kAmbientC = 30;
constexpr std::uint32_t kRiseC = 42;          // over ambient at full load and full clocks
constexpr std::uint32_t kLoadPercent = 85;    // of the way from idle power to the limit, at full load
constexpr std::uint32_t kIdleMemoryMhz = 405; // GDDR; HBM does not clock down
constexpr std::uint32_t kHbmBits = 1024;      // the narrowest HBM interface is wider than any GDDR one

std::uint32_t on_grid(std::uint32_t mhz, std::uint32_t boost) noexcept {
  const std::uint32_t below = boost > mhz ? boost - mhz : 0;
  const std::uint32_t steps = (below + kClockStepMhz - 1) / kClockStepMhz;
  return std::max(kLowestSmMhz, boost > steps * kClockStepMhz ? boost - steps * kClockStepMhz : 0);
}

// The lowest of what was set and what the hardware allows.
std::uint32_t highest_allowed_mhz(const View& view, std::uint64_t& reasons) noexcept {
  const std::uint32_t boost = boost_mhz(view.model);
  const auto locked = machine::unpacked(view.controls.locked_gpu.load());
  const auto applications = machine::unpacked(view.controls.applications.load());
  std::uint32_t highest = boost;
  if (locked.high_mhz != 0)
    highest = std::min(highest, locked.high_mhz);
  if (applications.high_mhz != 0)
    highest = std::min(highest, applications.high_mhz);
  if (highest < boost)
    reasons |= nvmlClocksEventReasonApplicationsClocksSetting;
  if (const machine::Throttle throttle = throttle_of(view); throttle.reasons != 0) {
    reasons |= throttle.reasons;
    highest = std::min(highest, boost * std::min(throttle.clock_percent, 100U) / 100);
  }
  return on_grid(highest, boost);
}

bool within_limit(const View& view, std::uint32_t mhz) noexcept {
  return view.model.idle_power_mw + load_power_mw(view.model, mhz) <= power_limit_mw(view);
}

} // namespace

std::uint32_t boost_mhz(const CardModel& model) noexcept {
  return model.clock_khz / 1000;
}

std::uint32_t full_memory_mhz(const CardModel& model) noexcept {
  return model.memory_clock_khz / 1000;
}

std::uint32_t idle_memory_mhz(const CardModel& model) noexcept {
  return model.memory_bus_bits < kHbmBits ? std::min(kIdleMemoryMhz, full_memory_mhz(model))
                                          : full_memory_mhz(model);
}

// Dynamic power goes with the square of the clock here: less than the cube that voltage and frequency
// together would give, more than frequency alone.
std::uint32_t load_power_mw(const CardModel& model, std::uint32_t sm_mhz) noexcept {
  const std::uint64_t full = std::uint64_t{model.power_limit_mw - model.idle_power_mw} * kLoadPercent / 100;
  const std::uint64_t boost = std::max<std::uint64_t>(boost_mhz(model), 1);
  return static_cast<std::uint32_t>(full * sm_mhz / boost * sm_mhz / boost);
}

OperatingPoint operating_point(const View& view) noexcept {
  OperatingPoint point;
  point.sm_mhz = highest_allowed_mhz(view, point.reasons);
  if (!within_limit(view, point.sm_mhz))
    point.reasons |= nvmlClocksEventReasonSwPowerCap;
  while (!within_limit(view, point.sm_mhz) && point.sm_mhz >= kLowestSmMhz + kClockStepMhz)
    point.sm_mhz -= kClockStepMhz;
  const auto locked_memory = machine::unpacked(view.controls.locked_memory.load());
  point.memory_mhz = full_memory_mhz(view.model);
  if (locked_memory.high_mhz != 0)
    point.memory_mhz = std::min(point.memory_mhz, locked_memory.high_mhz);
  point.load_mw = load_power_mw(view.model, point.sm_mhz);
  if (const std::uint64_t offset = view.controls.gpu_offset.load(); offset != 0)
    point.sm_mhz = static_cast<std::uint32_t>(
        std::max<std::int64_t>(kLowestSmMhz, static_cast<std::int64_t>(point.sm_mhz + offset) -
                                                 static_cast<std::int64_t>(machine::kOffsetBias)));
  return point;
}

std::uint32_t load_percent(const View& view) noexcept {
  return view.machine.utilisation_percent(view.index);
}

std::uint32_t power_limit_mw(const View& view) noexcept {
  const std::uint64_t set = view.controls.power_limit_mw.load();
  return set != 0 ? static_cast<std::uint32_t>(set) : view.model.power_limit_mw;
}

// As on cards that let it be set: never below what idling and the lowest clocks draw.
std::uint32_t lowest_power_limit_mw(const CardModel& model) noexcept {
  return std::max(model.power_limit_mw / 2,
                  model.idle_power_mw + load_power_mw(model, kLowestSmMhz + kClockStepMhz));
}

std::uint32_t power_mw(const View& view) noexcept {
  const std::uint64_t load = operating_point(view).load_mw;
  return view.model.idle_power_mw + static_cast<std::uint32_t>(load * load_percent(view) / 100);
}

// In proportion to what is drawn; a card that slows down for heat has reached the threshold.
std::uint32_t temperature_c(const View& view) noexcept {
  constexpr std::uint64_t kThermal =
      nvmlClocksEventReasonSwThermalSlowdown | nvmlClocksThrottleReasonHwThermalSlowdown;
  const machine::Throttle throttle = throttle_of(view);
  if (throttle.temperature_mc != 0)
    return throttle.temperature_mc / 1000;
  if ((throttle.reasons & kThermal) != 0)
    return kSlowdownC;
  const std::uint64_t full = load_power_mw(view.model, boost_mhz(view.model));
  const std::uint64_t drawn = power_mw(view) - view.model.idle_power_mw;
  return kAmbientC + static_cast<std::uint32_t>(full != 0 ? kRiseC * drawn / full : 0);
}

bool has_memory_temperature(const View& view) noexcept {
  return view.model.memory_bus_bits >= kHbmBits;
}

std::uint32_t memory_temperature_c(const View& view) noexcept {
  constexpr std::uint32_t kAboveGpuC = 4;
  return temperature_c(view) + kAboveGpuC;
}

std::uint32_t sm_clock_mhz(const View& view) noexcept {
  const std::uint32_t working = operating_point(view).sm_mhz;
  if (load_percent(view) != 0)
    return working;
  const auto locked = machine::unpacked(view.controls.locked_gpu.load());
  return std::min(working, std::max(kLowestSmMhz, locked.low_mhz));
}

std::uint32_t memory_clock_mhz(const View& view) noexcept {
  const std::uint32_t working = operating_point(view).memory_mhz;
  if (load_percent(view) != 0)
    return working;
  const auto locked = machine::unpacked(view.controls.locked_memory.load());
  return std::min(working, std::max(idle_memory_mhz(view.model), locked.low_mhz));
}

std::uint64_t clock_reasons(const View& view) noexcept {
  return load_percent(view) != 0 ? operating_point(view).reasons
                                 : nvmlClocksEventReasonGpuIdle | throttle_of(view).reasons;
}

std::uint32_t memory_utilisation(const View& view) noexcept {
  return load_percent(view) / 2;
}

} // namespace aliquot::simgpu::nvml
