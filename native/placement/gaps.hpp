// The gaps of one node's devices of one model while claims are put onto it, in the order in which gaps are
// filled.
#pragma once

#include "native/placement/types.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace aliquot::placement {

// A gap in one word, so that comparing words compares compute first, then VRAM.
inline std::uint64_t gap_word(std::int32_t milli, std::int32_t vram) noexcept {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(milli)) << 32) |
         static_cast<std::uint32_t>(vram);
}

// At most kGaps; ascending; those with nothing free are left out.
template <int kGaps>
class Gaps {
 public:
  Gaps() = default;
  Gaps(const Gaps& other) noexcept : count_(other.count_) {
    std::copy(other.word_.begin(), other.word_.begin() + count_, word_.begin());
  }
  Gaps& operator=(const Gaps&) = delete;

  void append(const Gap& gap) noexcept { word_[count_++] = gap_word(gap.milli, gap.vram); }
  [[nodiscard]] int count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t largest_milli() const noexcept { return word_[count_ - 1] >> 32; }

  // Puts `wanted` shares onto the smallest gaps that hold them; false, and nothing changed, if they do not
  // fit.
  bool put(int wanted, std::int32_t milli, std::int32_t vram) noexcept {
    const int first = find(0, milli, vram);
    if (wanted == 1) {
      if (first == count_)
        return false;
      shrink(first, gap_word(milli, vram));
      return true;
    }
    return wanted <= count_ - first && put_several(first, wanted, milli, vram);
  }

 private:
  // The first gap at `from` or later that holds a share; the count if there is none.
  [[nodiscard]] int find(int from, std::int32_t milli, std::int32_t vram) const noexcept {
    const auto least_milli = static_cast<std::uint32_t>(milli);
    const auto least_vram = static_cast<std::uint32_t>(vram);
    while (from < count_ &&
           ((word_[from] >> 32) < least_milli || static_cast<std::uint32_t>(word_[from]) < least_vram))
      ++from;
    return from;
  }

  void shrink(int at, std::uint64_t by) noexcept {
    const std::uint64_t left = word_[at] - by; // no borrow between the halves: the gap holds the share
    if (left == 0) {
      --count_;
      for (; at < count_; ++at)
        word_[at] = word_[at + 1];
      return;
    }
    for (; at > 0 && word_[at - 1] > left; --at)
      word_[at] = word_[at - 1];
    word_[at] = left;
  }

  bool put_several(int first, int wanted, std::int32_t milli, std::int32_t vram) noexcept {
    std::array<int, kGaps> chosen;
    int fitting = 0;
    for (int at = first; at < count_ && fitting < wanted; at = find(at + 1, milli, vram))
      chosen[fitting++] = at;
    if (fitting < wanted)
      return false;
    const std::uint64_t by = gap_word(milli, vram);
    for (int index = 0; index < wanted; ++index)
      word_[chosen[index]] -= by;
    std::sort(word_.begin(), word_.begin() + count_);
    const auto* kept =
        std::find_if(word_.begin(), word_.begin() + count_, [](std::uint64_t gap) { return gap != 0; });
    count_ -= static_cast<int>(kept - word_.begin());
    std::copy(kept, kept + count_, word_.begin());
    return true;
  }

  std::array<std::uint64_t, kGaps> word_;
  int count_ = 0;
};

} // namespace aliquot::placement
