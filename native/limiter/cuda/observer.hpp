// Entry points that are passed through and watched: calls an observer stands around. One specialisation of
// Observer stands for all ABI versions and stream variants of a base name.
#pragma once

#include "aliquot/cuda_abi.h"

namespace aliquot::limiter {

// One type for each base name, e.g. cuMemcpyHtoD_entry.
#define ALIQUOT_CUDA_ENTRY_POINT(index, symbol, base, family, variant, result, parameters, arguments)        \
  struct base##_entry;
#include "aliquot/cuda_entry_points.inc"

// Whether a null stream means the calling thread's own: the `variant` of the list.
enum class StreamVariant : unsigned char { none, ptsz, ptds };

// What is around a call; by default nothing. One that observes has
//   template <bool PerThread, typename Call, ...> static CUresult around(Call call, arguments...) noexcept;
template <typename Entry>
struct Observer {
  static constexpr bool kObserves = false;
};

} // namespace aliquot::limiter
