// What adds up over time: energy, and time under a limit. Readers compute it from the last entry; an entry is
// made whenever what work draws, or why clocks are held down, has changed.
#pragma once

#include <cstdint>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

struct Totals {
  std::uint64_t at_ns = 0;           // CLOCK_BOOTTIME
  std::uint64_t energy_uj = 0;       // since the host started
  std::uint64_t power_capped_ns = 0; // busy time for which the power limit held the clocks down
  std::uint64_t thermal_ns = 0;      // time for which heat did
};

Totals totals(const View& view) noexcept;

// Changes a setting so that what was used before it is counted as it was. False: nothing was changed, because
// another process is in the midst of such a change.
template <typename Change>
bool change_settings(const View& view, Change&& change);

std::uint64_t boot_ns() noexcept;

namespace detail {
void close_entry(const View& view) noexcept;
}

template <typename Change>
bool change_settings(const View& view, Change&& change) {
  return view.session.controls->exclusively([&] {
    detail::close_entry(view);
    change();
    detail::close_entry(view);
  });
}

} // namespace aliquot::simgpu::nvml
