// Functions and kernels: their attributes, names and parameters.
#include "native/simgpu/driver/occupancy.hpp"
#include "native/simgpu/driver/resolve_function.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

// What cuFuncGetAttribute and cuKernelGetAttribute answer.
CUresult get_attribute(const exec::KernelInfo& info, const KernelSettings& settings, const Device& device,
                       std::uint32_t ptx_version, CUfunction_attribute attribute, int* value) {
  const auto is = [value](std::int64_t number) {
    *value = static_cast<int>(number);
    return CUDA_SUCCESS;
  };
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    return is(largest_block(device, info));
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    return is(info.static_shared_bytes);
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    return is(info.const_bytes);
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    return is(info.local_bytes);
  case CU_FUNC_ATTRIBUTE_NUM_REGS:
    return is(info.registers);
  case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    return is(ptx_version);
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    return is(device.capability());
  case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    return is(0);
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    return is(dynamic_shared_limit(device, info, settings));
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    return is(settings.shared_carveout);
  case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
    return is(0);
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    return is(settings.cluster[0]);
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    return is(settings.cluster[1]);
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
    return is(settings.cluster[2]);
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    return is(settings.non_portable_cluster);
  case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    return is(settings.cluster_scheduling);
  default:
    return attribute < CU_FUNC_ATTRIBUTE_MAX ? is(0) : CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult set_attribute(const exec::KernelInfo& info, KernelSettings& settings, const Device& device,
                       CUfunction_attribute attribute, int value) {
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    if (value < 0 || static_cast<std::int64_t>(value) + info.static_shared_bytes >
                         static_cast<std::int64_t>(device.model.shared_per_block_optin_bytes))
      return CUDA_ERROR_INVALID_VALUE;
    settings.max_dynamic_shared_bytes = value;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    if (value < -1 || value > 100)
      return CUDA_ERROR_INVALID_VALUE;
    settings.shared_carveout = value;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    settings.non_portable_cluster = value;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    settings.cluster_scheduling = value;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
    return CUDA_ERROR_NOT_SUPPORTED;
  default:
    return CUDA_ERROR_INVALID_VALUE; // the rest are facts
  }
}

std::uint32_t ptx_version(const Code& code) noexcept {
  return code.module().sm; // the virtual architecture it was compiled for: 80 for compute_80
}

template <class Body>
CUresult with_function(CUfunction handle, Body body) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    ResolvedFunction resolved;
    const CUresult found = resolve_function(driver, handle, context, resolved);
    return found == CUDA_SUCCESS ? body(resolved) : found;
  });
}

// body(Kernel&, const KernelInfo&): facts that need no context.
template <class Body>
CUresult with_kernel_info(CUkernel handle, Body body) {
  return with_driver([&](Driver& driver) {
    const auto kernel = driver.kernels.find(handle);
    if (!kernel)
      return CUDA_ERROR_INVALID_HANDLE;
    const exec::KernelInfo* info = nullptr;
    const CUresult error = kernel->code->info(kernel->name, info);
    return error == CUDA_SUCCESS ? body(*kernel, *info) : error;
  });
}

CUresult parameter_info(const exec::KernelInfo& info, std::size_t index, std::size_t* offset,
                        std::size_t* size) {
  if (offset == nullptr || index >= info.parameters.size())
    return CUDA_ERROR_INVALID_VALUE;
  *offset = info.parameters[index].offset;
  if (size != nullptr)
    *size = info.parameters[index].size;
  return CUDA_SUCCESS;
}

CUresult set_cache_config(KernelSettings& settings, CUfunc_cache config) {
  if (config > CU_FUNC_CACHE_PREFER_EQUAL)
    return CUDA_ERROR_INVALID_VALUE;
  settings.cache_config = static_cast<int>(config);
  return CUDA_SUCCESS;
}

} // namespace

CUresult aliquot::simgpu::driver::resolve_function(Driver& driver, CUfunction handle,
                                                   const ContextPtr& context, ResolvedFunction& resolved) {
  if (kind_of(handle) == HandleKind::Function) {
    resolved.function = driver.functions.find(handle);
    if (!resolved.function)
      return CUDA_ERROR_INVALID_HANDLE;
    resolved.settings = &resolved.function->settings;
    return CUDA_SUCCESS;
  }
  resolved.kernel = driver.kernels.find(handle);
  if (!resolved.kernel)
    return CUDA_ERROR_INVALID_HANDLE;
  resolved.settings = &resolved.kernel->settings;
  CUresult error = CUDA_SUCCESS;
  resolved.function = resolved.kernel->in(context, error);
  return error;
}

extern "C" {

ALIQUOT_EXPORT CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto module = resolved.function->module.lock();
    if (!module)
      return CUDA_ERROR_INVALID_HANDLE;
    return get_attribute(resolved.function->info(), *resolved.settings, resolved.function->context->device(),
                         ptx_version(*module->code), attribute, value);
  });
}

ALIQUOT_EXPORT CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    return set_attribute(resolved.function->info(), *resolved.settings, resolved.function->context->device(),
                         attribute, value);
  });
}

ALIQUOT_EXPORT CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) {
  return with_function(
      handle, [&](const ResolvedFunction& resolved) { return set_cache_config(*resolved.settings, config); });
}

ALIQUOT_EXPORT CUresult cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig config) {
  return with_function(handle, [&](const ResolvedFunction&) {
    return config <= CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuFuncGetModule(CUmodule* out, CUfunction handle) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto module = resolved.function->module.lock();
    if (!module)
      return CUDA_ERROR_INVALID_HANDLE;
    *out = static_cast<CUmodule>(module->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuFuncGetName(const char** name, CUfunction handle) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    if (name == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *name = resolved.function->info().name.c_str();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t* offset, size_t* size) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    return parameter_info(resolved.function->info(), index, offset, size);
  });
}

ALIQUOT_EXPORT CUresult cuFuncGetParamCount(CUfunction handle, size_t* count) {
  return with_function(handle, [&](const ResolvedFunction& resolved) {
    if (count == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *count = resolved.function->info().parameters.size();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction handle) {
  return with_function(handle, [&](const ResolvedFunction&) {
    if (state == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *state = CU_FUNCTION_LOADING_STATE_LOADED;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuFuncLoad(CUfunction handle) {
  return with_function(handle, [](const ResolvedFunction&) { return CUDA_SUCCESS; });
}

ALIQUOT_EXPORT CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel handle,
                                             CUdevice dev) {
  return with_kernel_info(handle, [&](Kernel& kernel, const exec::KernelInfo& info) {
    const Device* device = Driver::instance().device(dev);
    if (device == nullptr)
      return CUDA_ERROR_INVALID_DEVICE;
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    return get_attribute(info, kernel.settings, *device, ptx_version(*kernel.code), attribute, value);
  });
}

ALIQUOT_EXPORT CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel handle,
                                             CUdevice dev) {
  return with_kernel_info(handle, [&](Kernel& kernel, const exec::KernelInfo& info) {
    const Device* device = Driver::instance().device(dev);
    if (device == nullptr)
      return CUDA_ERROR_INVALID_DEVICE;
    return set_attribute(info, kernel.settings, *device, attribute, value);
  });
}

ALIQUOT_EXPORT CUresult cuKernelSetCacheConfig(CUkernel handle, CUfunc_cache config, CUdevice dev) {
  return with_device(dev, [&](Device&) {
    const auto kernel = Driver::instance().kernels.find(handle);
    return kernel ? set_cache_config(kernel->settings, config) : CUDA_ERROR_INVALID_HANDLE;
  });
}

ALIQUOT_EXPORT CUresult cuKernelGetName(const char** name, CUkernel handle) {
  return with_driver([&](Driver& driver) {
    const auto kernel = driver.kernels.find(handle);
    if (!kernel)
      return CUDA_ERROR_INVALID_HANDLE;
    if (name == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *name = kernel->name.c_str();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuKernelGetParamInfo(CUkernel handle, size_t index, size_t* offset, size_t* size) {
  return with_kernel_info(handle, [&](Kernel&, const exec::KernelInfo& info) {
    return parameter_info(info, index, offset, size);
  });
}

ALIQUOT_EXPORT CUresult cuKernelGetParamCount(CUkernel handle, size_t* count) {
  return with_kernel_info(handle, [&](Kernel&, const exec::KernelInfo& info) {
    if (count == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *count = info.parameters.size();
    return CUDA_SUCCESS;
  });
}

} // extern "C"
