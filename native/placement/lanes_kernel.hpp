// The body of run_lanes, compiled once per set of instructions: ALIQUOT_LANES names the namespace,
// ALIQUOT_LANE_COUNT says how many sequences a vector holds. Included by the lanes_*.cpp files alone.
#include "native/placement/lanes.hpp"

#include <cstring>

namespace aliquot::placement::ALIQUOT_LANES {
namespace {

constexpr int kLanes = ALIQUOT_LANE_COUNT;
using Short = std::int16_t __attribute__((vector_size(kLanes * 2)));
using Wide = std::int32_t __attribute__((vector_size(kLanes * 4)));

template <class Vector, class Element>
inline Vector loaded(const Element* from) noexcept {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline bool any(Short vector) noexcept {
  std::uint64_t words[sizeof(Short) / 8];
  std::memcpy(words, &vector, sizeof vector);
  std::uint64_t all = 0;
  for (const std::uint64_t word : words)
    all |= word;
  return all != 0;
}

// One vector of sequences. Masks are -1 for true, as comparisons of vectors give them.
template <int kGaps>
class Lanes {
 public:
  Lanes(const Room& room) noexcept : cpu_(Wide{} + room.cpu), memory_(Wide{} + room.memory) {
    for (int at = 0; at < kGaps; ++at)
      gaps_[at] = Short{} + static_cast<std::int16_t>(room.gaps[at].milli);
  }

  void step(Short milli, Short count, Wide cpu, Wide memory) noexcept {
    const Short room = __builtin_convertvector((cpu <= cpu_) & (memory <= memory_), Short) & (open() > 0);
    Short put = room & (count == 0);
    put |= put_one(milli, room & (count == 1));
    if (const Short several = room & (count > 1); any(several))
      put |= put_several(count, several);
    const Wide taken = __builtin_convertvector(put, Wide);
    cpu_ -= cpu & taken;
    memory_ -= memory & taken;
  }
  // More than 0 where a gap is left.
  [[nodiscard]] Short open() const noexcept {
    Short all = gaps_[0];
    for (int at = 1; at < kGaps; ++at)
      all |= gaps_[at];
    return all;
  }
  [[nodiscard]] Wide free() const noexcept {
    Short sum = gaps_[0];
    for (int at = 1; at < kGaps; ++at)
      sum += gaps_[at];
    return __builtin_convertvector(sum, Wide);
  }
  [[nodiscard]] Wide cpu() const noexcept { return cpu_; }
  [[nodiscard]] Wide memory() const noexcept { return memory_; }

 private:
  // Onto the smallest gap that holds it.
  Short put_one(Short milli, Short wanted) noexcept {
    constexpr std::int16_t kNoGap = 0x7fff;
    Short best = Short{} + kNoGap;
    for (int at = 0; at < kGaps; ++at) {
      const Short holds = gaps_[at] >= milli;
      const Short offered = (gaps_[at] & holds) | (~holds & kNoGap);
      best = offered < best ? offered : best;
    }
    const Short fits = wanted & (best != kNoGap);
    Short left = fits;
    for (int at = 0; at < kGaps; ++at) {
      const Short here = left & (gaps_[at] == best);
      gaps_[at] -= milli & here;
      left &= ~here;
    }
    return fits;
  }
  // Whole devices, each in a gap of its own.
  Short put_several(Short count, Short wanted) noexcept {
    Short whole{};
    for (int at = 0; at < kGaps; ++at)
      whole -= gaps_[at] == static_cast<std::int16_t>(kWholeMilli);
    const Short fits = wanted & (whole >= count);
    Short left = count & fits;
    for (int at = 0; at < kGaps; ++at) {
      const Short here = (gaps_[at] == static_cast<std::int16_t>(kWholeMilli)) & (left > 0);
      gaps_[at] &= ~here;
      left += here;
    }
    return fits;
  }

  Short gaps_[kGaps];
  Wide cpu_;
  Wide memory_;
};

template <int kGaps>
void run(const LaneSteps& steps, const Room& room, const LaneRuns& runs) {
  std::int32_t free = 0;
  for (const Gap& gap : room.gaps)
    free += gap.milli;
  for (std::uint32_t first = 0; first < steps.sequences; first += kLanes) {
    Lanes<kGaps> lanes(room);
    for (std::uint32_t step = 0; step < steps.length; ++step) {
      const std::size_t at = std::size_t{step} * steps.sequences + first;
      lanes.step(loaded<Short>(&steps.milli[at]), loaded<Short>(&steps.count[at]),
                 loaded<Wide>(&steps.cpu[at]), loaded<Wide>(&steps.memory[at]));
      if (step % 4 == 3 && !any(lanes.open()))
        break;
    }
    const Wide filled = free - lanes.free();
    const Wide cpu = room.cpu - lanes.cpu();
    const Wide memory = room.memory - lanes.memory();
    std::memcpy(runs.filled + first, &filled, sizeof filled);
    std::memcpy(runs.cpu + first, &cpu, sizeof cpu);
    std::memcpy(runs.memory + first, &memory, sizeof memory);
  }
}

} // namespace

void run_lanes(const LaneSteps& steps, const Room& room, const LaneRuns& runs) {
  using Body = void (*)(const LaneSteps&, const Room&, const LaneRuns&);
  static constexpr Body kBodies[kLaneGaps] = {run<1>, run<2>, run<3>, run<4>, run<5>, run<6>, run<7>, run<8>};
  kBodies[room.gaps.size() - 1](steps, room, runs);
}

} // namespace aliquot::placement::ALIQUOT_LANES
