// Memory that several processes of a slice hold: charged to its maker while he lives, and then, once, to the
// slice for as long as one of those who opened it lives.
//
// Each entry is written by one process only and counts while that process has a slot, so nothing is to be
// repaired after a death. Nothing is moved when a maker dies: whether he lives is looked up when the sum is
// wanted.
#pragma once

#include <cstdint>

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

struct SharedEntry {
  std::uint64_t maker = 0; // owner word
  std::uint64_t key = 0;
  std::uint64_t bytes = 0;
  unsigned device = 0;
};

inline constexpr std::uint32_t kNoShared = layout::kMaxShared;

// Takes an entry for `holder`; kNoShared where there is none left.
std::uint32_t add_shared(layout::Account& account, std::uint64_t holder, const SharedEntry& entry) noexcept;
void remove_shared(layout::Account& account, std::uint32_t index, std::uint64_t holder) noexcept;

// What the living maker of `key` says of it. False where no process of the slice made it.
bool find_made(const layout::Account& account, std::uint64_t key, SharedEntry& found) noexcept;

bool has_slot(const layout::Account& account, std::uint64_t owner) noexcept;

// Bytes whose maker has gone and which others still have open, each memory counted once.
std::uint64_t add_orphaned(const layout::Account& account, unsigned device) noexcept;
inline std::uint64_t orphaned_bytes(const layout::Account& account, unsigned device) noexcept {
  return account.shared_used.load() == 0 ? 0 : add_orphaned(account, device);
}

// The same for who only looks: `lives` says of an owner word whether its process counts for him.
std::uint64_t orphaned_bytes(const layout::Account& account, unsigned device,
                             bool (*lives)(const layout::Account&, std::uint64_t owner)) noexcept;

// Those of them that `holder` has open.
std::uint64_t orphaned_bytes_of(const layout::Account& account, unsigned device,
                                std::uint64_t holder) noexcept;

} // namespace aliquot::limiter
