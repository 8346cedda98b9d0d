// Chooses the body of run_lanes for the processor at hand.
#include "native/placement/lanes.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace aliquot::placement {
namespace {

#if defined(__x86_64__)
// Intel's Software Developer's Manual, volume 1, 14.3 and 14.7.1: the system keeps the registers, and there
// is AVX2.
bool has_avx2() noexcept {
  constexpr unsigned kOsxsave = 1U << 27;
  constexpr unsigned kVectorState = 6;
  constexpr unsigned kAvx2 = 1U << 5;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0)
    return false;
  unsigned enabled = 0;
  unsigned high = 0;
  __asm__("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
  return (enabled & kVectorState) == kVectorState && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
         (b & kAvx2) != 0;
}
#endif

} // namespace

void run_lanes(const LaneSteps& steps, const Room& room, const LaneRuns& runs) {
#if defined(__x86_64__)
  static const bool kHasAvx2 = has_avx2();
  if (kHasAvx2) {
    avx2::run_lanes(steps, room, runs);
    return;
  }
#endif
  baseline::run_lanes(steps, room, runs);
}

} // namespace aliquot::placement
