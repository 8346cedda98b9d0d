// One side of a copy: what kind of memory an address means, and whether all of it is there.
#pragma once

#include <cstdint>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/driver.hpp"
#include "native/simgpu/driver/core/transfer.hpp"

namespace aliquot::simgpu::driver {

struct Endpoint {
  std::uint8_t* at = nullptr;
  bool device = false;
  bool pageable = false; // host memory that the driver does not know
};

enum class Role : std::uint8_t {
  Device,  // must be memory that the driver knows
  Host,    // may be any host memory
  Unified, // either
};

// INVALID_VALUE where [address, address + bytes) is not all of one allocation, or not mapped, or what is
// mapped there may not be touched so.
CUresult resolve_endpoint(Driver& driver, std::uint64_t address, std::size_t bytes, Role role,
                          Endpoint& endpoint, bool writes = false);

Direction direction_of(const Endpoint& to, const Endpoint& from) noexcept;

// Submits a copy whose sides are resolved, and does what the API promises about when the call returns:
// `blocking` calls wait wherever host memory takes part; others wait only for pageable memory.
CUresult submit_copy(const std::shared_ptr<Stream>& stream, const Endpoint& to, const Endpoint& from,
                     const Pitched& to_layout, const Pitched& from_layout, const Extent3D& extent,
                     bool blocking);

} // namespace aliquot::simgpu::driver
