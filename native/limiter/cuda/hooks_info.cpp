// Hooks of the figures that a program sees: its slice's, not the card's.
#include <algorithm>
#include <limits>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter {
namespace {

template <typename Number>
Number fit(std::uint64_t value) noexcept {
  return static_cast<Number>(std::min<std::uint64_t>(value, std::numeric_limits<Number>::max()));
}

// A card that neighbours have filled has less to give than the slice may take.
template <typename Number>
CUresult memory_info(CUresult answer, Number* free, Number* total) noexcept {
  Limiter* here = limiter();
  Place place;
  if (answer != CUDA_SUCCESS || here == nullptr || free == nullptr || total == nullptr ||
      !here->current_place(place)) {
    return answer;
  }
  const VramUse use = here->use(place.device);
  *free = std::min(*free, fit<Number>(use.free()));
  *total = std::min(*total, fit<Number>(use.limit));
  return answer;
}

template <typename Number>
CUresult total_memory(CUresult answer, Number* bytes, CUdevice device) noexcept {
  Limiter* here = limiter();
  if (answer != CUDA_SUCCESS || here == nullptr || bytes == nullptr)
    return answer;
  const unsigned number = here->device_of(device);
  const std::uint64_t limit = number == kNoDevice ? 0 : here->region().vram_limit(number);
  *bytes = std::min(*bytes, fit<Number>(limit));
  return answer;
}

} // namespace
} // namespace aliquot::limiter

using namespace aliquot::limiter;

extern "C" {

ALIQUOT_EXPORT CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return memory_info(driver().cuMemGetInfo_v2(free, total), free, total);
}

ALIQUOT_EXPORT CUresult cuMemGetInfo(unsigned int* free, unsigned int* total) {
  return memory_info(driver().cuMemGetInfo(free, total), free, total);
}

ALIQUOT_EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return total_memory(driver().cuDeviceTotalMem_v2(bytes, device), bytes, device);
}

ALIQUOT_EXPORT CUresult cuDeviceTotalMem(unsigned int* bytes, CUdevice device) {
  return total_memory(driver().cuDeviceTotalMem(bytes, device), bytes, device);
}
}
