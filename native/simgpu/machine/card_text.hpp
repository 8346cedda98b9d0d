// How a card's identity is written.
#pragma once

#include <string>

#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::machine {

std::string uuid_text(const Card& card);   // "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
std::string bus_id_text(const Card& card); // "00000000:10:00.0"

} // namespace aliquot::simgpu::machine
