#pragma once

#include <cstdint>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

std::uint32_t fan_percent(const View& view, std::uint32_t fan) noexcept;

} // namespace aliquot::simgpu::nvml
