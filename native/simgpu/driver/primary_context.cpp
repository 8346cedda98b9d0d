// The primary context of each device: shared by all libraries of a process, counted, and resettable.
#include "native/simgpu/driver/primary_context.hpp"

#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

// The lock of `primary` is held.
CUresult activate(Device& device, PrimaryContext& primary) {
  if (primary.active)
    return CUDA_SUCCESS;
  CUresult error = CUDA_SUCCESS;
  const ContextPtr context = Context::make(device, primary.flags, true, error);
  if (!context)
    return error;
  context->api_version = 3020;
  context->handle = static_cast<CUcontext>(primary.handle);
  Driver::instance().contexts.replace(primary.handle, context);
  primary.active = true;
  return CUDA_SUCCESS;
}

void deactivate(PrimaryContext& primary) {
  if (!primary.active)
    return;
  primary.active = false;
  if (const ContextPtr context = Driver::instance().contexts.find(primary.handle)) {
    // Still to be found while it is torn down: destructors of context-local storage may call in.
    context->destroy();
    if (!primary.active)
      Driver::instance().contexts.replace(primary.handle, nullptr);
  }
}

CUresult release(CUdevice dev) {
  return with_device(dev, [](Device& device) {
    PrimaryContext& primary = device.primary;
    const std::lock_guard guard(primary.mutex);
    if (primary.retains == 0)
      return CUDA_ERROR_INVALID_CONTEXT;
    if (--primary.retains == 0)
      deactivate(primary);
    return CUDA_SUCCESS;
  });
}

CUresult reset(CUdevice dev) {
  return with_device(dev, [](Device& device) {
    if (this_thread().in_host_function)
      return CUDA_ERROR_NOT_PERMITTED;
    const std::lock_guard guard(device.primary.mutex);
    deactivate(device.primary);
    return CUDA_SUCCESS;
  });
}

CUresult set_flags(CUdevice dev, unsigned flags) {
  return with_device(dev, [&](Device& device) {
    const unsigned schedule = flags & CU_CTX_SCHED_MASK;
    if ((flags & ~unsigned{CU_CTX_FLAGS_MASK}) != 0 || (schedule & (schedule - 1)) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    PrimaryContext& primary = device.primary;
    const std::lock_guard guard(primary.mutex);
    primary.flags = flags;
    if (const ContextPtr context = Driver::instance().contexts.find(primary.handle))
      context->flags = flags;
    return CUDA_SUCCESS;
  });
}

} // namespace

CUresult aliquot::simgpu::driver::retain_primary(Device& device, CUcontext* out) {
  if (out == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (this_thread().in_host_function)
    return CUDA_ERROR_NOT_PERMITTED;
  PrimaryContext& primary = device.primary;
  const std::lock_guard guard(primary.mutex);
  if (const CUresult activated = activate(device, primary); activated != CUDA_SUCCESS)
    return activated;
  ++primary.retains;
  *out = static_cast<CUcontext>(primary.handle);
  return CUDA_SUCCESS;
}

extern "C" {

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice dev) {
  return with_device(dev, [&](Device& device) { return retain_primary(device, context); });
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice dev) {
  return release(dev);
}
ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
  return release(dev);
}
ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice dev) {
  return reset(dev);
}
ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) {
  return reset(dev);
}
ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxSetFlags(CUdevice dev, unsigned int flags) {
  return set_flags(dev, flags);
}
ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags) {
  return set_flags(dev, flags);
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int* flags, int* active) {
  return with_device(dev, [&](Device& device) {
    if (flags == nullptr || active == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard guard(device.primary.mutex);
    *flags = device.primary.flags;
    *active = device.primary.active ? 1 : 0;
    return CUDA_SUCCESS;
  });
}

} // extern "C"
