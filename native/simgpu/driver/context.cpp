// Contexts: created ones, the stack of current ones, limits. Primary contexts and peers have files of their
// own.
#include <algorithm>
#include <utility>

#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr unsigned kOldApiVersion = 3010, kApiVersion = 3020;
constexpr std::size_t kLargestStack = std::size_t{512} << 10;

CUresult create(CUcontext* out, unsigned flags, CUdevice ordinal, unsigned api_version) {
  return with_device(ordinal, [&](Device& device) {
    const unsigned schedule = flags & CU_CTX_SCHED_MASK;
    if (out == nullptr || (flags & ~unsigned{CU_CTX_FLAGS_MASK}) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if ((schedule & (schedule - 1)) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    if (this_thread().in_host_function)
      return CUDA_ERROR_NOT_PERMITTED;
    CUresult error = CUDA_SUCCESS;
    const ContextPtr context = Context::make(device, flags, false, error);
    if (!context)
      return error;
    context->api_version = api_version;
    context->handle = static_cast<CUcontext>(Driver::instance().contexts.insert(context));
    this_thread().contexts.push_back(context->handle);
    *out = context->handle;
    return CUDA_SUCCESS;
  });
}

// `handle`, or this thread's current one where it is null.
CUresult context_or_current(CUcontext handle, ContextPtr& context) {
  if (handle == nullptr)
    return current_context_even_if_failed(context);
  context = Driver::instance().contexts.find(handle);
  return context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

// A primary context that is not active may be made current: libcudart does that before it retains it. Calls
// in it return CONTEXT_IS_DESTROYED until then.
CUresult check_can_be_current(Driver& driver, CUcontext handle) {
  if (this_thread().in_host_function)
    return CUDA_ERROR_NOT_PERMITTED;
  return handle != nullptr && driver.contexts.live(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult destroy(CUcontext handle) {
  return with_driver([&](Driver& driver) {
    const ContextPtr context = driver.contexts.find(handle);
    if (!context || context->primary())
      return CUDA_ERROR_INVALID_CONTEXT;
    if (this_thread().in_host_function)
      return CUDA_ERROR_NOT_PERMITTED;
    if (!driver.contexts.erase(handle))
      return CUDA_ERROR_INVALID_CONTEXT;
    auto& stack = this_thread().contexts;
    if (!stack.empty() && stack.back() == handle)
      stack.pop_back();
    context->destroy();
    return CUDA_SUCCESS;
  });
}

CUresult push(CUcontext handle) {
  return with_driver([&](Driver& driver) {
    if (const CUresult checked = check_can_be_current(driver, handle); checked != CUDA_SUCCESS)
      return checked;
    this_thread().contexts.push_back(handle);
    return CUDA_SUCCESS;
  });
}

CUresult pop(CUcontext* out) {
  return with_driver([&](Driver&) {
    auto& stack = this_thread().contexts;
    if (stack.empty())
      return CUDA_ERROR_INVALID_CONTEXT;
    if (out != nullptr)
      *out = static_cast<CUcontext>(stack.back());
    stack.pop_back();
    return CUDA_SUCCESS;
  });
}

CUresult synchronize(const ContextPtr& context) {
  if (const CUresult captured = check_wait(*context); captured != CUDA_SUCCESS)
    return captured;
  context->synchronize();
  Driver::instance().trim_pools();
  return context->failure();
}

bool limit_is_settable(CUlimit limit, std::size_t value) noexcept {
  switch (limit) {
  case CU_LIMIT_STACK_SIZE:
    return value <= kLargestStack;
  case CU_LIMIT_MAX_L2_FETCH_GRANULARITY:
    return value <= 128;
  default:
    return true;
  }
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuCtxCreate(CUcontext* context, unsigned int flags, CUdevice dev) {
  return create(context, flags, dev, kOldApiVersion);
}

ALIQUOT_EXPORT CUresult cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice dev) {
  return create(context, flags, dev, kApiVersion);
}

ALIQUOT_EXPORT CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int affinity_count,
                                       unsigned int flags, CUdevice dev) {
  if (affinity_count < 0 || (affinity_count > 0 && affinity == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  // Execution affinity exists under MPS alone.
  if (affinity_count > 0)
    return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  return create(context, flags, dev, kApiVersion);
}

ALIQUOT_EXPORT CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* parameters, unsigned int flags,
                                       CUdevice dev) {
  if (parameters == nullptr)
    return create(context, flags, dev, kApiVersion);
  if (parameters->cigParams != nullptr)
    return CUDA_ERROR_NOT_SUPPORTED;
  return cuCtxCreate_v3(context, parameters->execAffinityParams, parameters->numExecAffinityParams, flags,
                        dev);
}

ALIQUOT_EXPORT CUresult cuCtxDestroy(CUcontext context) {
  return destroy(context);
}
ALIQUOT_EXPORT CUresult cuCtxDestroy_v2(CUcontext context) {
  return destroy(context);
}
ALIQUOT_EXPORT CUresult cuCtxPushCurrent(CUcontext context) {
  return push(context);
}
ALIQUOT_EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
  return push(context);
}
ALIQUOT_EXPORT CUresult cuCtxPopCurrent(CUcontext* context) {
  return pop(context);
}
ALIQUOT_EXPORT CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  return pop(context);
}

ALIQUOT_EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
  return with_driver([&](Driver& driver) {
    auto& stack = this_thread().contexts;
    if (context == nullptr) {
      if (!stack.empty())
        stack.pop_back();
      return CUDA_SUCCESS;
    }
    if (const CUresult checked = check_can_be_current(driver, context); checked != CUDA_SUCCESS)
      return checked;
    if (stack.empty())
      stack.push_back(context);
    else
      stack.back() = context;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
  return with_driver([&](Driver&) {
    if (context == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto& stack = this_thread().contexts;
    *context = stack.empty() ? nullptr : static_cast<CUcontext>(stack.back());
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext handle) {
  return with_driver([&](Driver&) {
    ContextPtr context;
    if (const CUresult found = context_or_current(handle, context); found != CUDA_SUCCESS)
      return found;
    if (device == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *device = context->device().ordinal;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
  return cuCtxGetDevice_v2(device, nullptr);
}

ALIQUOT_EXPORT CUresult cuCtxGetFlags(unsigned int* flags) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (flags == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *flags = context->flags;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxSetFlags(unsigned int flags) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if ((flags & ~unsigned{CU_CTX_FLAGS_MASK}) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    context->flags = flags;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetId(CUcontext handle, unsigned long long* id) {
  return with_driver([&](Driver&) {
    ContextPtr context;
    if (const CUresult found = context_or_current(handle, context); found != CUDA_SUCCESS)
      return found;
    if (id == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *id = context->id();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int* version) {
  return with_driver([&](Driver&) {
    ContextPtr context;
    if (const CUresult found = context_or_current(handle, context); found != CUDA_SUCCESS)
      return found;
    if (version == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *version = context->api_version;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxSynchronize(void) {
  return with_context([](Driver&, const ContextPtr& context) { return synchronize(context); });
}

ALIQUOT_EXPORT CUresult cuCtxSynchronize_v2(CUcontext handle) {
  if (handle == nullptr)
    return cuCtxSynchronize();
  return with_driver([&](Driver& driver) {
    const ContextPtr context = driver.contexts.find(handle);
    if (!context)
      return CUDA_ERROR_INVALID_CONTEXT;
    if (this_thread().in_host_function)
      return CUDA_ERROR_NOT_PERMITTED;
    return synchronize(context);
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (limit >= CU_LIMIT_MAX)
      return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard guard(context->limits_mutex);
    const auto known = context->limits.find(limit);
    if (known == context->limits.end())
      return CUDA_ERROR_UNSUPPORTED_LIMIT;
    *value = known->second;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (limit >= CU_LIMIT_MAX || !limit_is_settable(limit, value))
      return CUDA_ERROR_INVALID_VALUE;
    const std::lock_guard guard(context->limits_mutex);
    const auto known = context->limits.find(limit);
    if (known == context->limits.end())
      return CUDA_ERROR_UNSUPPORTED_LIMIT;
    if (limit == CU_LIMIT_MALLOC_HEAP_SIZE && context->malloc_heap() != nullptr)
      return CUDA_ERROR_INVALID_VALUE; // its size is settled once a module that uses it is loaded
    const std::size_t before = std::exchange(known->second, value);
    if (context->charge_limits())
      return CUDA_SUCCESS;
    known->second = before;
    return CUDA_ERROR_OUT_OF_MEMORY;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetCacheConfig(CUfunc_cache* config) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (config == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *config = static_cast<CUfunc_cache>(context->cache_config.load());
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (config > CU_FUNC_CACHE_PREFER_EQUAL)
      return CUDA_ERROR_INVALID_VALUE;
    context->cache_config = static_cast<int>(config);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetSharedMemConfig(CUsharedconfig* config) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (config == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *config = static_cast<CUsharedconfig>(context->shared_config.load());
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) {
  return with_context([&](Driver&, const ContextPtr& context) {
    if (config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
      return CUDA_ERROR_INVALID_VALUE;
    context->shared_config = static_cast<int>(config);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return with_context([&](Driver&, const ContextPtr&) {
    if (least != nullptr)
      *least = kLeastPriority;
    if (greatest != nullptr)
      *greatest = kGreatestPriority;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuCtxResetPersistingL2Cache(void) {
  return with_context([](Driver&, const ContextPtr&) { return CUDA_SUCCESS; });
}

ALIQUOT_EXPORT CUresult cuCtxGetExecAffinity(CUexecAffinityParam*, CUexecAffinityType type) {
  return with_context([&](Driver&, const ContextPtr&) {
    return type < CU_EXEC_AFFINITY_TYPE_MAX ? CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY : CUDA_ERROR_INVALID_VALUE;
  });
}

} // extern "C"
