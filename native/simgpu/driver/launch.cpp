// Launches: cuLaunchKernel, its extended and cooperative forms. Host functions are in stream.cpp. Cooperative
// launches over several devices are not implemented, as the device attribute says.
#include "native/simgpu/driver/launch.hpp"

#include "native/simgpu/driver/core/kernel_command.hpp"
#include "native/simgpu/driver/core/marker_command.hpp"
#include "native/simgpu/driver/graph/capture_launch.hpp"
#include "native/simgpu/driver/launch_attributes.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

// Both may only be reached later than they could be: never before the kernel has ended.
void record_events(Driver& driver, const LaunchAttributes& attributes, const StreamPtr& stream) {
  for (const auto& [id, value] : attributes) {
    CUevent handle = nullptr;
    if (id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
      handle = value.programmaticEvent.event;
    else if (id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
      handle = value.launchCompletionEvent.event;
    if (const auto event = handle != nullptr ? driver.events.find(handle) : nullptr)
      submit_record(*event, stream);
  }
}

CUresult launch(CUfunction handle, const LaunchShape& shape, const LaunchAttributes& attributes,
                CUstream stream_handle, void** array, void** extra) {
  return with_capturable_stream(stream_handle, [&](Driver& driver, const StreamPtr& stream) {
    ResolvedFunction resolved;
    const CUresult found = resolve_function(driver, handle, stream->shared_context(), resolved);
    if (found != CUDA_SUCCESS)
      return found;
    if (resolved.function->context.get() != &stream->context())
      return CUDA_ERROR_INVALID_HANDLE;
    if (const CUresult checked = check_launch(resolved, shape); checked != CUDA_SUCCESS)
      return checked;
    std::vector<std::uint8_t> parameters;
    const CUresult read = read_parameters(resolved.function->info(), array, extra, parameters);
    if (read != CUDA_SUCCESS)
      return read;
    if (stream->capturing)
      return capture_launch(*stream, resolved, shape, std::move(parameters), attributes);
    Executor::instance().submit(
        stream, std::make_unique<KernelCommand>(
                    resolved.function, make_launch(*resolved.function, shape, std::move(parameters))));
    record_events(driver, attributes, stream);
    return CUDA_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                                       unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                       unsigned int block_z, unsigned int shared, CUstream stream,
                                       void** parameters, void** extra) {
  const LaunchShape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, false};
  return launch(function, shape, {}, stream, parameters, extra);
}

ALIQUOT_EXPORT CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_x,
                                                  unsigned int grid_y, unsigned int grid_z,
                                                  unsigned int block_x, unsigned int block_y,
                                                  unsigned int block_z, unsigned int shared, CUstream stream,
                                                  void** parameters) {
  const LaunchShape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, true};
  return launch(function, shape, {}, stream, parameters, nullptr);
}

ALIQUOT_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                                         void** extra) {
  LaunchShape shape;
  LaunchAttributes attributes;
  const CUresult read = with_driver([&](Driver&) {
    if (config == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    shape = {{config->gridDimX, config->gridDimY, config->gridDimZ},
             {config->blockDimX, config->blockDimY, config->blockDimZ},
             config->sharedMemBytes,
             false};
    return read_attributes(*config, shape, attributes);
  });
  return read != CUDA_SUCCESS ? read
                              : launch(function, shape, attributes, config->hStream, parameters, extra);
}

} // extern "C"
