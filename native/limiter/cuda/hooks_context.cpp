// Hooks of the ends of contexts: what lay in one is freed with it, and refunded.
#include <atomic>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter {
namespace {

// cuCtxAttach, long deprecated, makes cuCtxDetach end a context only when it was called as often.
std::atomic<bool> counts_are_in_use{false};

void refund_context(CUcontext context) noexcept {
  Limiter* here = limiter();
  if (here == nullptr || context == nullptr)
    return;
  here->forget_contexts();
  const auto owner = reinterpret_cast<std::uint64_t>(context);
  here->release(here->memory.take_all(owner, Charge::Context));
  here->release(here->handles.take_all(owner, Charge::Context));
}

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

template <typename Call>
CUresult end_context(CUcontext context, Call call) noexcept {
  const CUresult answer = call();
  if (answer == CUDA_SUCCESS)
    refund_context(context);
  return answer;
}

// Releasing or resetting a primary context frees what lies in it, if it ends it.
template <typename Call>
CUresult end_primary(CUdevice device, bool always, Call call) noexcept {
  CUcontext context = limiter() != nullptr ? primary_context(device) : nullptr;
  const CUresult answer = call();
  if (answer == CUDA_SUCCESS && (always || !is_active(device)))
    refund_context(context);
  return answer;
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

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
  const CUresult answer = driver().cuCtxDetach(context);
  if (answer == CUDA_SUCCESS && !counts_are_in_use.load(std::memory_order_relaxed))
    refund_context(context);
  return answer;
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
