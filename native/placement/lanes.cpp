// Chooses the body of run_lanes for the processor at hand.
#include "native/placement/lanes.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace aliquot::placement {
namespace {

using Body = void (*)(const LaneSteps&, const Room&, const LaneRuns&);

#if defined(__x86_64__)
// Intel's Software Developer's Manual, volume 1, 14.3, 14.7.1 and 15.2: the system keeps the registers, and
// the instructions are there.
Body body_for_processor() noexcept {
  constexpr unsigned kOsxsave = 1U << 27;
  constexpr unsigned kVectorState = 0x06;
  constexpr unsigned kWideVectorState = 0xe6;
  constexpr unsigned kAvx2 = 1U << 5;
  constexpr unsigned kAvx512 = 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31; // F, DQ, BW, VL
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0)
    return baseline::run_lanes;
  unsigned state = 0;
  unsigned high = 0;
  __asm__("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0)
    return baseline::run_lanes;
  if ((state & kWideVectorState) == kWideVectorState && (b & kAvx512) == kAvx512)
    return avx512::run_lanes;
  return (state & kVectorState) == kVectorState && (b & kAvx2) != 0 ? avx2::run_lanes : baseline::run_lanes;
}
#else
Body body_for_processor() noexcept {
  return baseline::run_lanes;
}
#endif

} // namespace

void run_lanes(const LaneSteps& steps, const Room& room, const LaneRuns& runs) {
  static const Body kBody = body_for_processor();
  kBody(steps, room, runs);
}

} // namespace aliquot::placement
