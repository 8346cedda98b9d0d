// All sequences of an outlook at once: one lane of a vector register each. For the common case only: devices
// of one model, at most eight gaps of at most a whole device, compute but no VRAM asked for. Rollout has the
// general case, and the same results.
#pragma once

#include "native/placement/types.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aliquot::placement {

inline constexpr int kLaneGaps = 8;
inline constexpr int kLaneMultiple = 32; // the number of sequences is rounded up to the widest vector

// The steps of all sequences, [step][sequence].
struct LaneSteps {
  std::uint32_t length = 0;
  std::uint32_t sequences = 0;     // a multiple of kLaneMultiple
  std::vector<std::int16_t> milli; // of each device
  std::vector<std::int16_t> count; // 0: no device; -1: never fits
  std::vector<std::int32_t> cpu;
  std::vector<std::int32_t> memory;
};

// What the steps of each sequence fill and take. Sized by the caller: `sequences` each.
struct LaneRuns {
  std::int32_t* filled;
  std::int32_t* cpu;
  std::int32_t* memory;
};

// The gaps ascend; none is 0 or more than a whole device. What is taken of CPU and memory is never more than
// the limits.
void run_lanes(const LaneSteps& steps, const Room& room, const LaneRuns& runs);

// The same for processors with certain instructions.
namespace baseline {
void run_lanes(const LaneSteps& steps, const Room& room, const LaneRuns& runs);
}
namespace avx2 {
void run_lanes(const LaneSteps& steps, const Room& room, const LaneRuns& runs);
}
namespace avx512 {
void run_lanes(const LaneSteps& steps, const Room& room, const LaneRuns& runs);
}

} // namespace aliquot::placement
