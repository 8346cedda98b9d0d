// Serial numbers: cards for data centres have one. A simulated one is made from the UUID.
#pragma once

#include <string>

#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::nvml {

std::string serial_text(const machine::Card& card); // 13 digits
bool has_serial(const machine::Card& card) noexcept;

} // namespace aliquot::simgpu::nvml
