// The way to launch before cuLaunchKernel: parameters, block shape and shared memory are set on the function.
#include <algorithm>
#include <cstring>

#include "native/simgpu/driver/launch.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr unsigned kMostParameterBytes = 4096;

template <class Body>
CUresult with_function(CUfunction handle, Body body) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    ResolvedFunction resolved;
    const CUresult found = resolve_function(driver, handle, context, resolved);
    if (found != CUDA_SUCCESS)
      return found;
    const std::lock_guard guard(resolved.function->legacy_mutex);
    return body(resolved);
  });
}

CUresult set_parameter(CUfunction handle, int offset, const void* value, unsigned bytes) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    if (offset < 0 || value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto at = static_cast<unsigned>(offset);
    if (at > kMostParameterBytes || bytes > kMostParameterBytes - at)
      return CUDA_ERROR_INVALID_VALUE;
    auto& parameters = resolved.function->legacy_parameters;
    if (parameters.size() < at + bytes)
      parameters.resize(at + bytes);
    std::copy_n(static_cast<const std::uint8_t*>(value), bytes, parameters.begin() + at);
    return CUDA_SUCCESS;
  });
}

CUresult launch_grid(CUfunction handle, int width, int height, CUstream stream) {
  LaunchShape shape;
  std::vector<std::uint8_t> bytes;
  const CUresult read = with_function(handle, [&](const ResolvedFunction& resolved) {
    if (width <= 0 || height <= 0)
      return CUDA_ERROR_INVALID_VALUE;
    Function& function = *resolved.function;
    std::memcpy(shape.block, function.legacy_block, sizeof shape.block);
    shape.dynamic_shared_bytes = function.legacy_shared;
    bytes = function.legacy_parameters;
    bytes.resize(function.info().parameter_bytes + 1); // never empty, so that the buffer below has an address
    return CUDA_SUCCESS;
  });
  if (read != CUDA_SUCCESS)
    return read;
  std::size_t size = bytes.size();
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, bytes.data(), CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                   CU_LAUNCH_PARAM_END};
  return cuLaunchKernel(handle, static_cast<unsigned>(width), static_cast<unsigned>(height), 1,
                        shape.block[0], shape.block[1], shape.block[2], shape.dynamic_shared_bytes, stream,
                        nullptr, extra);
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuFuncSetBlockShape(CUfunction handle, int x, int y, int z) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    if (x <= 0 || y <= 0 || z <= 0)
      return CUDA_ERROR_INVALID_VALUE;
    unsigned* block = resolved.function->legacy_block;
    block[0] = static_cast<unsigned>(x);
    block[1] = static_cast<unsigned>(y);
    block[2] = static_cast<unsigned>(z);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuFuncSetSharedSize(CUfunction handle, unsigned int bytes) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    resolved.function->legacy_shared = bytes;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuParamSetSize(CUfunction handle, unsigned int bytes) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    if (bytes > kMostParameterBytes)
      return CUDA_ERROR_INVALID_VALUE;
    resolved.function->legacy_parameters.resize(bytes);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuParamSeti(CUfunction handle, int offset, unsigned int value) {
  return set_parameter(handle, offset, &value, sizeof value);
}

ALIQUOT_EXPORT CUresult cuParamSetf(CUfunction handle, int offset, float value) {
  return set_parameter(handle, offset, &value, sizeof value);
}

ALIQUOT_EXPORT CUresult cuParamSetv(CUfunction handle, int offset, void* value, unsigned int bytes) {
  return set_parameter(handle, offset, value, bytes);
}

ALIQUOT_EXPORT CUresult cuLaunch(CUfunction handle) {
  return launch_grid(handle, 1, 1, nullptr);
}

ALIQUOT_EXPORT CUresult cuLaunchGrid(CUfunction handle, int width, int height) {
  return launch_grid(handle, width, height, nullptr);
}

ALIQUOT_EXPORT CUresult cuLaunchGridAsync(CUfunction handle, int width, int height, CUstream stream) {
  return launch_grid(handle, width, height, stream);
}

} // extern "C"
