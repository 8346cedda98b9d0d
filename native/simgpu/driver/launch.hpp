// Checks of a launch and its parameters, shared by all the ways to launch.
#pragma once

#include "native/simgpu/driver/resolve_function.hpp"
#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::driver {

struct LaunchShape {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  unsigned dynamic_shared_bytes = 0;
  bool cooperative = false;
};

// Against what every kernel and card allows, what this kernel was compiled for, and what its card has.
CUresult check_launch(const ResolvedFunction& resolved, const LaunchShape& shape);
// The values of a kernel's parameters, from cuLaunchKernel's `kernelParams` or `extra`.
CUresult read_parameters(const exec::KernelInfo& info, void** array, void** extra,
                         std::vector<std::uint8_t>& bytes);
// For a launch that was checked.
exec::Launch make_launch(const Function& function, const LaunchShape& shape,
                         std::vector<std::uint8_t> parameters);

} // namespace aliquot::simgpu::driver
