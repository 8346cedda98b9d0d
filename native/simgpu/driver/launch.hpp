// Checks of a launch and its parameters, shared by all the ways to launch.
#pragma once

#include "native/simgpu/driver/resolve_function.hpp"

namespace aliquot::simgpu::driver {

struct LaunchShape {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  unsigned dynamic_shared_bytes = 0;
  bool cooperative = false;
};

CUresult submit_launch(const ResolvedFunction& resolved, const LaunchShape& shape, const StreamPtr& stream,
                       std::vector<std::uint8_t> parameters);

} // namespace aliquot::simgpu::driver
