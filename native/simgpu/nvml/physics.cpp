#include "native/simgpu/nvml/physics.hpp"

#include <algorithm>
#include <ctime>

namespace aliquot::simgpu::nvml {
namespace {

constexpr std::uint32_t kAmbientC = 30;
constexpr std::uint32_t kRiseC = 42;       // over ambient at full load
constexpr std::uint32_t kLoadPercent = 85; // of the way from idle power to the limit, at full load
constexpr std::uint32_t kIdleSmMhz = 210;
constexpr std::uint32_t kIdleMemoryMhz = 405; // GDDR; HBM does not clock down

std::uint32_t load(const View& view) noexcept {
  return view.machine.utilisation_percent(view.index);
}

std::uint64_t load_power_mw(const View& view) noexcept {
  return std::uint64_t{view.model.power_limit_mw - view.model.idle_power_mw} * kLoadPercent / 100;
}

bool clocks_memory_down(const View& view) noexcept {
  return view.model.memory_bus_bits <= 512;
}

} // namespace

std::uint32_t power_mw(const View& view) noexcept {
  return view.model.idle_power_mw + static_cast<std::uint32_t>(load_power_mw(view) * load(view) / 100);
}

std::uint32_t temperature_c(const View& view) noexcept {
  return kAmbientC + kRiseC * load(view) / 100;
}

std::uint32_t sm_clock_mhz(const View& view) noexcept {
  return load(view) != 0 ? view.model.clock_khz / 1000 : kIdleSmMhz;
}

std::uint32_t memory_clock_mhz(const View& view) noexcept {
  const bool down = load(view) == 0 && clocks_memory_down(view);
  return down ? kIdleMemoryMhz : view.model.memory_clock_khz / 1000;
}

std::uint32_t fan_percent(const View& view) noexcept {
  return 30 + load(view) / 2;
}

std::uint32_t memory_utilisation(const View& view) noexcept {
  return load(view) / 2;
}

std::uint64_t energy_mj(const View& view) noexcept {
  timespec up;
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  // Milliwatts times milliseconds are microjoules.
  const std::uint64_t up_ms = static_cast<std::uint64_t>(up.tv_sec) * 1000;
  const std::uint64_t busy_ms = std::min(view.machine.busy_ns(view.index) / 1'000'000, up_ms);
  return (view.model.idle_power_mw * up_ms + load_power_mw(view) * busy_ms) / 1000;
}

} // namespace aliquot::simgpu::nvml
