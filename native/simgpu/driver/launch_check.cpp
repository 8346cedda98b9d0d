// What a launch is checked for, and how its parameters are read.
#include <algorithm>
#include <cstring>

#include "native/simgpu/driver/launch.hpp"
#include "native/simgpu/driver/occupancy.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr unsigned kMostThreads = 1024, kMostThreadsZ = 64, kMostBlocksYZ = 65535, kMostBlocksX = 0x7fffffff;

CUresult check_dimensions(const LaunchShape& shape) noexcept {
  const auto& [grid, block, shared, cooperative] = shape;
  for (int i = 0; i < 3; ++i)
    if (grid[i] == 0 || block[i] == 0)
      return CUDA_ERROR_INVALID_VALUE;
  if (grid[0] > kMostBlocksX || grid[1] > kMostBlocksYZ || grid[2] > kMostBlocksYZ)
    return CUDA_ERROR_INVALID_VALUE;
  if (block[0] > kMostThreads || block[1] > kMostThreads || block[2] > kMostThreadsZ)
    return CUDA_ERROR_INVALID_VALUE;
  return block[0] * block[1] * block[2] <= kMostThreads ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Against what the kernel was compiled for and what the card has.
CUresult check_kernel(const exec::KernelInfo& info, const KernelSettings& settings, const Device& device,
                      const LaunchShape& shape) noexcept {
  const exec::Dim3& required = info.required_threads;
  if (required.x != 0 &&
      (required.x != shape.block[0] || required.y != shape.block[1] || required.z != shape.block[2]))
    return CUDA_ERROR_INVALID_VALUE;
  const unsigned threads = shape.block[0] * shape.block[1] * shape.block[2];
  if (threads > info.max_threads) // .maxntid
    return CUDA_ERROR_INVALID_VALUE;
  if (threads > largest_block(device, info))
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  if (shape.dynamic_shared_bytes > dynamic_shared_limit(device, info, settings))
    return CUDA_ERROR_INVALID_VALUE;
  const std::uint32_t resident = blocks_per_multiprocessor(device, info, threads, shape.dynamic_shared_bytes);
  if (resident == 0)
    return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  if (!shape.cooperative)
    return CUDA_SUCCESS;
  const std::uint64_t blocks = std::uint64_t{shape.grid[0]} * shape.grid[1] * shape.grid[2];
  return blocks <= std::uint64_t{resident} * device.model.sm_count ? CUDA_SUCCESS
                                                                   : CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
}

CUresult read_parameter_array(const exec::KernelInfo& info, void** array, std::vector<std::uint8_t>& bytes) {
  for (std::size_t i = 0; i < info.parameters.size(); ++i) {
    const exec::Parameter& parameter = info.parameters[i];
    if (array[i] == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(bytes.data() + parameter.offset, array[i], parameter.size);
  }
  return CUDA_SUCCESS;
}

// {CU_LAUNCH_PARAM_BUFFER_POINTER, buffer, CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_END}
CUresult read_parameter_buffer(const exec::KernelInfo& info, void** extra, std::vector<std::uint8_t>& bytes) {
  constexpr int most_entries = 8;
  const void* buffer = nullptr;
  const std::size_t* size = nullptr;
  for (int i = 0; i < most_entries && extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
    if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
      buffer = extra[i + 1];
    else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE)
      size = static_cast<const std::size_t*>(extra[i + 1]);
    else
      return CUDA_ERROR_INVALID_VALUE;
  }
  if (buffer == nullptr || size == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  const exec::Parameter& last = info.parameters.back();
  if (*size < last.offset + last.size)
    return CUDA_ERROR_INVALID_VALUE;
  std::memcpy(bytes.data(), buffer, std::min(*size, bytes.size()));
  return CUDA_SUCCESS;
}

} // namespace

CUresult check_launch(const ResolvedFunction& resolved, const LaunchShape& shape) {
  if (const CUresult checked = check_dimensions(shape); checked != CUDA_SUCCESS)
    return checked;
  const Function& function = *resolved.function;
  return check_kernel(function.info(), *resolved.settings, function.context->device(), shape);
}

CUresult read_parameters(const exec::KernelInfo& info, void** array, void** extra,
                         std::vector<std::uint8_t>& bytes) {
  if (array != nullptr && extra != nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  bytes.resize(info.parameter_bytes);
  if (info.parameters.empty())
    return CUDA_SUCCESS;
  if (array != nullptr)
    return read_parameter_array(info, array, bytes);
  return extra != nullptr ? read_parameter_buffer(info, extra, bytes) : CUDA_ERROR_INVALID_VALUE;
}

exec::Launch make_launch(const Function& function, const LaunchShape& shape,
                         std::vector<std::uint8_t> parameters) {
  const Device& device = function.context->device();
  exec::Launch launch;
  launch.program = function.program;
  launch.kernel = function.index;
  launch.grid = {shape.grid[0], shape.grid[1], shape.grid[2]};
  launch.block = {shape.block[0], shape.block[1], shape.block[2]};
  launch.dynamic_shared_bytes = shape.dynamic_shared_bytes;
  launch.parameters = std::move(parameters);
  launch.cooperative = shape.cooperative;
  launch.sm_count = device.model.sm_count;
  launch.clock_khz = device.model.clock_khz;
  return launch;
}

} // namespace aliquot::simgpu::driver
