// What an allocation really takes of a card.
#pragma once

#include <cstdint>

namespace aliquot::limiter {

// The driver takes device memory in blocks of 2 MiB (what cuMemGetAllocationGranularity says on every card
// since Pascal). Allocations of at most half a block share one, in units of 512 bytes.
inline constexpr std::uint64_t kBlockBytes = std::uint64_t{2} << 20u;
inline constexpr std::uint64_t kUnitBytes = 512;

// Whether an allocation shares a block with others. The driver rejects a size of 0 by itself.
constexpr bool is_small(std::uint64_t bytes) noexcept {
  return bytes <= kBlockBytes / 2;
}

constexpr std::uint64_t whole_blocks(std::uint64_t bytes) noexcept {
  return bytes > UINT64_MAX - kBlockBytes ? bytes : (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

constexpr std::uint64_t physical_size(std::uint64_t bytes) noexcept {
  const std::uint64_t step = is_small(bytes) ? kUnitBytes : kBlockBytes;
  const std::uint64_t rest = bytes % step;
  if (rest == 0)
    return bytes;
  return bytes <= UINT64_MAX - step ? bytes + (step - rest) : bytes;
}

} // namespace aliquot::limiter
