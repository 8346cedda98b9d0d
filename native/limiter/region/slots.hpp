// Taking a slot of the account, and taking it away from the dead.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

struct ClaimedSlot {
  std::uint32_t index = layout::kMaxProcesses;
  std::uint64_t owner = 0; // the owner word that it holds now
  explicit operator bool() const noexcept { return index < layout::kMaxProcesses; }
};

ClaimedSlot claim_slot(layout::Account& account) noexcept;

// Takes the slots of dead processes away from them, `mine` excepted. Returns how many there were.
unsigned free_slots_of_dead(layout::Account& account, std::uint64_t mine) noexcept;

// No slot from here on was ever taken.
inline std::uint32_t slots_used(const layout::Account& account) noexcept {
  const std::uint64_t used = account.slots_used.load(std::memory_order_seq_cst);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(used, layout::kMaxProcesses));
}

// True while a slot with this owner word counts.
constexpr bool counts(std::uint64_t owner_word) noexcept {
  return owner_word != 0 && (owner_word >> 63u) == 0; // the highest bit marks one that is being claimed
}

} // namespace aliquot::limiter
