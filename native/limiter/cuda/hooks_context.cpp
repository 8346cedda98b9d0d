// Hooks of the beginnings and ends of contexts: what a driver takes for one is charged; what lay in one is
// freed with it, and refunded.
#include <atomic>

#include "native/limiter/compute/gate.hpp"
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter {
namespace {

// cuCtxAttach, long deprecated, makes cuCtxDetach end a context only when it was called as often.
std::atomic<bool> counts_are_in_use{false};

bool is_active(CUdevice device) noexcept {
  unsigned int flags = 0;
  int active = 0;
  return driver().cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

// The handle of a primary context that is active; clients may have got it past our hooks, by an export table.
CUcontext primary_context(CUdevice device) noexcept {
  CUcontext context = nullptr;
  if (!is_active(device) || driver().cuDevicePrimaryCtxRetain(&context, device) != CUDA_SUCCESS)
    return nullptr;
  driver().cuDevicePrimaryCtxRelease_v2(device);
  return context;
}

// The slice's number of the device of a context that may not be current.
unsigned device_of(Limiter& here, CUcontext context) noexcept {
  CUcontext popped = nullptr;
  CUdevice ordinal = -1;
  if (context == nullptr || driver().cuCtxPushCurrent_v2(context) != CUDA_SUCCESS)
    return kNoDevice;
  const bool found = driver().cuCtxGetDevice(&ordinal) == CUDA_SUCCESS;
  driver().cuCtxPopCurrent_v2(&popped);
  return found ? here.device_of(ordinal) : kNoDevice;
}

// What was allocated in a context is refunded with it, and what the driver took for it.
template <typename Call, typename HasEnded>
CUresult end_context(CUcontext context, Call call, HasEnded has_ended) noexcept {
  Limiter* here = limiter();
  if (here == nullptr || context == nullptr)
    return call();
  return here->overhead.ending_context(device_of(*here, context), [&] {
    compute::Gate* gate = compute::gate();
    if (gate != nullptr)
      gate->context_call_begins();
    const CUresult answer = call();
    const bool ended = answer == CUDA_SUCCESS && has_ended();
    if (gate != nullptr)
      gate->context_call_over(ended ? context : nullptr);
    if (ended)
      here->refund_context(context);
    return answer;
  });
}

template <typename Call>
CUresult end_context(CUcontext context, Call call) noexcept {
  return end_context(context, call, [] { return true; });
}

// Releasing or resetting a primary context frees what lies in it, if it ends it.
template <typename Call>
CUresult end_primary(CUdevice device, bool always, Call call) noexcept {
  CUcontext context = limiter() != nullptr ? primary_context(device) : nullptr;
  return end_context(context, call, [&] { return always || !is_active(device); });
}

// Making a context takes memory of the device before anything is allocated there.
template <typename Call, typename Undo>
CUresult make_context(CUdevice ordinal, Call call, Undo undo) noexcept {
  Limiter* here = InsideDriver::here() ? nullptr : limiter();
  const unsigned device = here != nullptr ? here->device_of(ordinal) : kNoDevice;
  if (device == kNoDevice)
    return call();
  return here->overhead.making_context(device, [&] { return in_driver(call); }, [&] { in_driver(undo); });
}

template <typename Call>
CUresult create_context(CUcontext* context, CUdevice ordinal, Call call) noexcept {
  return make_context(ordinal, call, [&] {
    driver().cuCtxDestroy_v2(*context);
    *context = nullptr;
  });
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  if (limiter() == nullptr || is_active(device))
    return driver().cuDevicePrimaryCtxRetain(context, device);
  return make_context(
      device, [&] { return driver().cuDevicePrimaryCtxRetain(context, device); },
      [&] {
        driver().cuDevicePrimaryCtxRelease_v2(device);
        *context = nullptr;
      });
}

ALIQUOT_EXPORT CUresult cuCtxCreate(CUcontext* context, unsigned int flags, CUdevice device) {
  return create_context(context, device, [&] { return driver().cuCtxCreate(context, flags, device); });
}

ALIQUOT_EXPORT CUresult cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
  return create_context(context, device, [&] { return driver().cuCtxCreate_v2(context, flags, device); });
}

ALIQUOT_EXPORT CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinities, int count,
                                       unsigned int flags, CUdevice device) {
  return create_context(context, device,
                        [&] { return driver().cuCtxCreate_v3(context, affinities, count, flags, device); });
}

ALIQUOT_EXPORT CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* parameters, unsigned int flags,
                                       CUdevice device) {
  return create_context(context, device,
                        [&] { return driver().cuCtxCreate_v4(context, parameters, flags, device); });
}

// A green context is made current as a context of its own (cuCtxFromGreenCtx); it holds the primary one.
ALIQUOT_EXPORT CUresult cuGreenCtxCreate(CUgreenCtx* context, CUdevResourceDesc resources, CUdevice device,
                                         unsigned int flags) {
  return make_context(
      device, [&] { return driver().cuGreenCtxCreate(context, resources, device, flags); },
      [&] {
        driver().cuGreenCtxDestroy(*context);
        *context = nullptr;
      });
}

ALIQUOT_EXPORT CUresult cuGreenCtxDestroy(CUgreenCtx context) {
  CUcontext inner = nullptr;
  if (driver().cuCtxFromGreenCtx(&inner, context) != CUDA_SUCCESS)
    inner = nullptr;
  return end_context(inner, [&] { return driver().cuGreenCtxDestroy(context); });
}

ALIQUOT_EXPORT CUresult cuCtxDestroy_v2(CUcontext context) {
  return end_context(context, [&] { return driver().cuCtxDestroy_v2(context); });
}

ALIQUOT_EXPORT CUresult cuCtxDestroy(CUcontext context) {
  return end_context(context, [&] { return driver().cuCtxDestroy(context); });
}

ALIQUOT_EXPORT CUresult cuCtxAttach(CUcontext* context, unsigned int flags) {
  const CUresult answer = driver().cuCtxAttach(context, flags);
  if (answer == CUDA_SUCCESS)
    counts_are_in_use.store(true, std::memory_order_relaxed);
  return answer;
}

ALIQUOT_EXPORT CUresult cuCtxDetach(CUcontext context) {
  return end_context(
      context, [&] { return driver().cuCtxDetach(context); },
      [] { return !counts_are_in_use.load(std::memory_order_relaxed); });
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return end_primary(device, false, [&] { return driver().cuDevicePrimaryCtxRelease_v2(device); });
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  return end_primary(device, false, [&] { return driver().cuDevicePrimaryCtxRelease(device); });
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return end_primary(device, true, [&] { return driver().cuDevicePrimaryCtxReset_v2(device); });
}

ALIQUOT_EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice device) {
  return end_primary(device, true, [&] { return driver().cuDevicePrimaryCtxReset(device); });
}
}
