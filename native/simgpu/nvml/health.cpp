#include "native/simgpu/nvml/health.hpp"

namespace aliquot::simgpu::nvml {

bool is_lost(Machine& machine, std::uint32_t card) noexcept {
  return machine.faults().lost(card);
}

machine::EccCounters ecc_counters(const View& view) noexcept {
  return view.machine.faults().ecc(view.index);
}

machine::Throttle throttle_of(const View& view) noexcept {
  return view.machine.faults().throttle(view.index);
}

void report_clock_change(const View& view) noexcept {
  view.machine.faults().post(view.index, machine::EventKind::Clock, 100);
}

} // namespace aliquot::simgpu::nvml
