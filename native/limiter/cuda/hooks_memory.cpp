// Hooks of linear memory: cuMemAlloc, Pitch, Managed, and cuMemFree, which frees pool memory too. Host memory
// (cuMemHostAlloc, cuMemAllocHost, cuMemHostRegister) takes none of a device's and is passed through.
#include "native/limiter/cuda/charging.hpp"
#include "native/limiter/cuda/physical_size.hpp"

namespace aliquot::limiter {
namespace {

// The driver chooses the pitch; on every card so far it is the next multiple of this.
constexpr std::uint64_t kPitchBytes = 512;

template <typename Address, typename Call, typename Undo>
CUresult linear(Address* address, std::uint64_t bytes, Call call, Undo undo) noexcept {
  const std::uint64_t size = physical_size(bytes);
  if (is_small(size))
    return charged_small(address, size, call, undo);
  return charged(&Limiter::memory, Charge::Context, address, size, call, [size] { return size; }, undo);
}

// Charged in full: all of it may come to lie on the device.
template <typename Call, typename Undo>
CUresult managed(CUdeviceptr* address, std::uint64_t bytes, Call call, Undo undo) noexcept {
  const std::uint64_t size = whole_blocks(bytes);
  const CUresult answer =
      charged(&Limiter::memory, Charge::Managed, address, size, call, [size] { return size; }, undo);
  Limiter* here = limiter();
  Place place;
  if (answer == CUDA_SUCCESS && here != nullptr && !InsideDriver::here() && here->current_place(place))
    here->overhead.add_managed(place.device, static_cast<std::int64_t>(size));
  return answer;
}

template <typename Address, typename Number, typename Call, typename Undo>
CUresult pitched(Address* address, Number* pitch, std::uint64_t width, std::uint64_t height, Call call,
                 Undo undo) noexcept {
  std::uint64_t estimate = 0;
  if (pitch == nullptr || __builtin_add_overflow(width, kPitchBytes - 1, &estimate))
    return in_driver(call);
  estimate -= estimate % kPitchBytes;
  if (__builtin_mul_overflow(estimate, height, &estimate))
    return in_driver(call);
  if (is_small(physical_size(estimate)))
    return charged_small(address, physical_size(estimate), call, undo);
  const auto measure = [&] { return physical_size(std::uint64_t{*pitch} * height); };
  return charged(&Limiter::memory, Charge::Context, address, physical_size(estimate), call, measure, undo);
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return linear(
      address, bytes, [&] { return driver().cuMemAlloc_v2(address, bytes); },
      [&] { return driver().cuMemFree_v2(*address); });
}

ALIQUOT_EXPORT CUresult cuMemAlloc(CUdeviceptr_v1* address, unsigned int bytes) {
  return linear(
      address, bytes, [&] { return driver().cuMemAlloc(address, bytes); },
      [&] { return driver().cuMemFree(*address); });
}

ALIQUOT_EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr* address, size_t* pitch, size_t width, size_t height,
                                           unsigned int element) {
  return pitched(
      address, pitch, width, height,
      [&] { return driver().cuMemAllocPitch_v2(address, pitch, width, height, element); },
      [&] { return driver().cuMemFree_v2(*address); });
}

ALIQUOT_EXPORT CUresult cuMemAllocPitch(CUdeviceptr_v1* address, unsigned int* pitch, unsigned int width,
                                        unsigned int height, unsigned int element) {
  return pitched(
      address, pitch, width, height,
      [&] { return driver().cuMemAllocPitch(address, pitch, width, height, element); },
      [&] { return driver().cuMemFree(*address); });
}

ALIQUOT_EXPORT CUresult cuMemAllocManaged(CUdeviceptr* address, size_t bytes, unsigned int flags) {
  return managed(
      address, bytes, [&] { return driver().cuMemAllocManaged(address, bytes, flags); },
      [&] { return driver().cuMemFree_v2(*address); });
}

ALIQUOT_EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  return refunded(&Limiter::memory, address, [&] { return driver().cuMemFree_v2(address); });
}

ALIQUOT_EXPORT CUresult cuMemFree(CUdeviceptr_v1 address) {
  return refunded(&Limiter::memory, address, [&] { return driver().cuMemFree(address); });
}
}
