// Bytes that have crossed a card's PCIe link, over all processes that there were.
#pragma once

#include <cstdint>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

struct Traffic {
  std::uint64_t to_device = 0, to_host = 0;
};
// `instance`: of this MIG device alone; null: of all of the card.
Traffic traffic_of(Machine& machine, std::uint32_t card, const machine::ComputeInstance* instance);

} // namespace aliquot::simgpu::nvml
