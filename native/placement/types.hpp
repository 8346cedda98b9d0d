// The words of the numeric core: what is asked for, and what is free. Plain data; no rules and no scores.
//
// The same as src/aliquot/placement/{demand,packing}: amounts are thousandths of a device, thousandths of a
// host core, and MiB, each in a signed 32-bit field.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace aliquot::placement {

inline constexpr int kWholeMilli = 1000;
inline constexpr int kMaximumDevices = 64; // one bit each in a placement
inline constexpr std::int32_t kUnlimited = std::numeric_limits<std::int32_t>::max();

// What is asked of each device of one model.
struct Share {
  std::int32_t model;
  std::int32_t milli;
  std::int32_t vram;
  auto operator<=>(const Share&) const = default;
};

// What a claim asks of one node. Shares ascend by model.
struct Demand {
  std::int32_t cpu = 0;
  std::int32_t memory = 0;
  std::int32_t count = 0;
  std::vector<Share> shares;
  bool operator==(const Demand&) const = default;

  [[nodiscard]] const Share* share_of(std::int32_t model) const noexcept {
    for (const Share& share : shares)
      if (share.model == model)
        return &share;
    return nullptr;
  }
};

// What is free on one device. The order is that in which a gap counts as smaller.
struct Gap {
  std::int32_t model;
  std::int32_t milli;
  std::int32_t vram;
  auto operator<=>(const Gap&) const = default;

  [[nodiscard]] bool holds(const Share& share) const noexcept {
    return model == share.model && milli >= share.milli && vram >= share.vram;
  }
};

// What is free on one node.
struct Room {
  std::int32_t cpu;
  std::int32_t memory;
  std::span<const Gap> gaps;
};

} // namespace aliquot::placement
