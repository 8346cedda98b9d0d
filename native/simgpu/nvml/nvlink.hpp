// NVLink: modules of one model on one machine are joined through switches, as on the vendor's baseboards.
// PCIe cards have no links, since no bridge is plugged in; a module alone has links that are down.
#pragma once

#include <cstdint>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

struct NvLink {
  std::uint32_t links = 0;
  nvmlNvlinkVersion_t version = NVML_NVLINK_VERSION_INVALID;
  std::uint32_t mbytes_per_second = 0; // a link and direction
};

// links 0: none.
NvLink nvlink_of(const CardModel& model) noexcept;
bool joined(const Card& a, const Card& b) noexcept;
bool links_up(const View& view) noexcept;

} // namespace aliquot::simgpu::nvml
