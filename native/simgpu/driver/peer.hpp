// Which cards reach one another's memory.
#pragma once

#include "native/simgpu/driver/core/context.hpp"

namespace aliquot::simgpu::driver {

// Can kernels of `device` touch memory of `peer`?
bool can_access_peer(const Device& device, const Device& peer) noexcept;

// The device of this process for a card of the machine; null where it is not visible.
Device* device_of_card(std::uint32_t card) noexcept;

} // namespace aliquot::simgpu::driver
