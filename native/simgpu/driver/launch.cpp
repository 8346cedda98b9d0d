// Launches: cuLaunchKernel, its extended and cooperative forms. Host functions are in stream.cpp.
#include "native/simgpu/driver/launch.hpp"

#include <cstring>

#include "native/common/log.hpp"
#include "native/simgpu/driver/core/host_memory.hpp"
#include "native/simgpu/driver/core/kernel_command.hpp"
#include "native/simgpu/driver/occupancy.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

constexpr unsigned kMostThreads = 1024, kMostThreadsZ = 64, kMostBlocksYZ = 65535, kMostBlocksX = 0x7fffffff;
constexpr unsigned kMostAttributes = 64; // more than there are; a larger count is not one

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

CUresult launch(CUfunction handle, const LaunchShape& shape, CUstream stream_handle, void** array,
                void** extra) {
  return with_stream(stream_handle, [&](Driver& driver, const StreamPtr& stream) {
    ResolvedFunction resolved;
    const CUresult found = resolve_function(driver, handle, stream->shared_context(), resolved);
    if (found != CUDA_SUCCESS)
      return found;
    if (const CUresult checked = check_dimensions(shape); checked != CUDA_SUCCESS)
      return checked;
    std::vector<std::uint8_t> parameters;
    const CUresult read = read_parameters(resolved.function->info(), array, extra, parameters);
    return read == CUDA_SUCCESS ? submit_launch(resolved, shape, stream, std::move(parameters)) : read;
  });
}

bool is_single(const CUlaunchAttributeValue& value) noexcept {
  return value.clusterDim.x <= 1 && value.clusterDim.y <= 1 && value.clusterDim.z <= 1;
}

bool attributes_are_there(const CUlaunchConfig& config) noexcept {
  if (config.numAttrs == 0)
    return true;
  return config.numAttrs <= kMostAttributes && config.attrs != nullptr &&
         host_range_is_mapped(config.attrs, config.numAttrs * sizeof *config.attrs);
}

// Attributes that only tune are accepted; those that change what a kernel sees are refused, as they are not
// implemented.
CUresult read_attribute(const CUlaunchAttribute& attribute, LaunchShape& shape) noexcept {
  switch (attribute.id) {
  case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
    shape.cooperative = attribute.value.cooperative != 0;
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_IGNORE:
  case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
  case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
  case CU_LAUNCH_ATTRIBUTE_PRIORITY:
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
  // Permission to overlap with the kernel before; to run after it is always right.
  case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
    return is_single(attribute.value) ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
  default:
    return attribute.id < CU_LAUNCH_ATTRIBUTE_MAX ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
  }
}

} // namespace

CUresult aliquot::simgpu::driver::submit_launch(const ResolvedFunction& resolved, const LaunchShape& shape,
                                                const StreamPtr& stream,
                                                std::vector<std::uint8_t> parameters) {
  const Function& function = *resolved.function;
  if (function.context.get() != &stream->context())
    return CUDA_ERROR_INVALID_HANDLE;
  const Device& device = function.context->device();
  if (const CUresult checked = check_kernel(function.info(), *resolved.settings, device, shape);
      checked != CUDA_SUCCESS)
    return checked;
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
  Executor::instance().submit(stream, std::make_unique<KernelCommand>(resolved.function, std::move(launch)));
  return CUDA_SUCCESS;
}

extern "C" {

ALIQUOT_EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                                       unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                       unsigned int block_z, unsigned int shared, CUstream stream,
                                       void** parameters, void** extra) {
  const LaunchShape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, false};
  return launch(function, shape, stream, parameters, extra);
}

ALIQUOT_EXPORT CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_x,
                                                  unsigned int grid_y, unsigned int grid_z,
                                                  unsigned int block_x, unsigned int block_y,
                                                  unsigned int block_z, unsigned int shared, CUstream stream,
                                                  void** parameters) {
  const LaunchShape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, true};
  return launch(function, shape, stream, parameters, nullptr);
}

ALIQUOT_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                                         void** extra) {
  if (config == nullptr || !attributes_are_there(*config)) {
    const CUresult status = Driver::status();
    return status != CUDA_SUCCESS ? status : CUDA_ERROR_INVALID_VALUE;
  }
  LaunchShape shape{{config->gridDimX, config->gridDimY, config->gridDimZ},
                    {config->blockDimX, config->blockDimY, config->blockDimZ},
                    config->sharedMemBytes,
                    false};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const CUresult read = read_attribute(config->attrs[i], shape);
    if (read == CUDA_SUCCESS)
      continue;
    aliquot::common::log_line(aliquot::common::LogLevel::Warning,
                              "cuLaunchKernelEx: launch attribute %d is not implemented",
                              static_cast<int>(config->attrs[i].id));
    return read;
  }
  return launch(function, shape, config->hStream, parameters, extra);
}

} // extern "C"
