// Which clocks a card can be set to.
#pragma once

#include <cstdint>
#include <vector>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

std::vector<std::uint32_t> memory_clocks(const CardModel& model);   // MHz, highest first
std::vector<std::uint32_t> graphics_clocks(const CardModel& model); // at the full memory clock

// Which of the two a clock domain is.
nvmlReturn_t give_clock(nvmlClockType_t type, unsigned int sm, unsigned int memory,
                        unsigned int* clock) noexcept;

// States of the card: P0, and P8 where the memory clock goes down when idle.
inline bool has_low_state(const View& view) {
  return memory_clocks(view.model).size() > 1;
}

} // namespace aliquot::simgpu::nvml
