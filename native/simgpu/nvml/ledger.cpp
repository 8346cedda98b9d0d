#include "native/simgpu/nvml/ledger.hpp"

#include <ctime>

#include "native/simgpu/nvml/physics.hpp"

namespace aliquot::simgpu::nvml {
namespace {

constexpr std::uint64_t kThermal =
    nvmlClocksEventReasonSwThermalSlowdown | nvmlClocksThrottleReasonHwThermalSlowdown;
constexpr std::uint64_t kNsPerMs = 1'000'000;

struct Entry {
  std::uint64_t at_ns = 0, busy_ns = 0, energy_uj = 0, load_mw = 0, reasons = 0, power_capped_ns = 0,
                thermal_ns = 0;
};

// A card that nobody has set anything on draws as at its default since the host started.
Entry last_entry(const View& view) noexcept {
  const CardControls& controls = view.controls;
  for (;;) {
    const std::uint64_t used = controls.ledger_in_use.load();
    const machine::Ledger& ledger = controls.ledger[used & 1];
    const Entry entry{ledger.at_ns.load(),     ledger.busy_ns.load(), ledger.energy_uj.load(),
                      ledger.load_mw.load(),   ledger.reasons.load(), ledger.power_capped_ns.load(),
                      ledger.thermal_ns.load()};
    if (controls.ledger_in_use.load() != used)
      continue;
    if (entry.at_ns != 0)
      return entry;
    return {.load_mw = load_power_mw(view.model, boost_mhz(view.model))};
  }
}

// Power in mW for a time in ms is an energy in uJ.
std::uint64_t microjoules(std::uint64_t milliwatts, std::uint64_t ns) noexcept {
  return milliwatts * (ns / kNsPerMs) + milliwatts * (ns % kNsPerMs) / kNsPerMs;
}

Entry advanced(const View& view, Entry entry) noexcept {
  const std::uint64_t now = boot_ns(), busy = view.machine.busy_ns(view.index);
  const std::uint64_t passed = now > entry.at_ns ? now - entry.at_ns : 0;
  const std::uint64_t worked = busy > entry.busy_ns ? busy - entry.busy_ns : 0;
  entry.energy_uj += microjoules(view.model.idle_power_mw, passed) + microjoules(entry.load_mw, worked);
  if ((entry.reasons & nvmlClocksEventReasonSwPowerCap) != 0)
    entry.power_capped_ns += worked;
  if ((entry.reasons & kThermal) != 0)
    entry.thermal_ns += passed;
  entry.at_ns = now;
  entry.busy_ns = busy;
  return entry;
}

// Into the one of two that nobody reads; which is which changes in one step.
void write_entry(CardControls& controls, const Entry& entry) noexcept {
  const std::uint64_t next = controls.ledger_in_use.load() + 1;
  machine::Ledger& ledger = controls.ledger[next & 1];
  ledger.at_ns.store(entry.at_ns);
  ledger.busy_ns.store(entry.busy_ns);
  ledger.energy_uj.store(entry.energy_uj);
  ledger.load_mw.store(entry.load_mw);
  ledger.reasons.store(entry.reasons);
  ledger.power_capped_ns.store(entry.power_capped_ns);
  ledger.thermal_ns.store(entry.thermal_ns);
  controls.ledger_in_use.store(next);
}

} // namespace

std::uint64_t boot_ns() noexcept {
  timespec up;
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  return static_cast<std::uint64_t>(up.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(up.tv_nsec);
}

void detail::close_entry(const View& view) noexcept {
  Entry entry = advanced(view, last_entry(view));
  const OperatingPoint point = operating_point(view);
  entry.load_mw = point.load_mw;
  entry.reasons = point.reasons;
  write_entry(view.controls, entry);
}

// A fault may have changed the rates since the last entry; nobody saw when, so it counts from now on.
Totals totals(const View& view) noexcept {
  const Entry last = last_entry(view);
  const OperatingPoint point = operating_point(view);
  if (point.load_mw != last.load_mw || point.reasons != last.reasons)
    view.session.controls->exclusively([&] { detail::close_entry(view); });
  const Entry now = advanced(view, last_entry(view));
  return {now.at_ns, now.energy_uj, now.power_capped_ns, now.thermal_ns};
}

} // namespace aliquot::simgpu::nvml
