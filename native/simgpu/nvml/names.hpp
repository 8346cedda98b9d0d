// How a card's identity is written.
#pragma once

#include <string>

#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::nvml {

std::string uuid_text(const machine::Card& card);    // "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
std::string serial_text(const machine::Card& card);  // 13 digits, from the UUID
bool has_serial(const machine::Card& card) noexcept; // cards for data centres do

} // namespace aliquot::simgpu::nvml
