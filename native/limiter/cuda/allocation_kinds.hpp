// Numbers for what allocations have in common: owner, size, device and charge. Programs have few such kinds,
// so a record that holds a number is small, and many records fit into a cache.
//
// A kind is never forgotten: its owner may come again under the same handle, and there is nothing to count.
// Once all numbers are given, new kinds have none.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "native/common/spin_lock.hpp"
#include "native/limiter/cuda/allocation.hpp"

namespace aliquot::limiter {

class AllocationKinds {
 public:
  static constexpr std::uint32_t kMost = 16383;
  static constexpr std::uint32_t kNone = 0; // no kind's number

  // The number of this allocation's kind, a new one where it has none; kNone where there are no more.
  std::uint32_t number(const Allocation& allocation) noexcept;
  // Fills in all but the key. A number that was given stays right for ever.
  void describe(std::uint32_t number, Allocation& allocation) const noexcept;

 private:
  struct Kind {
    std::uint64_t owner;
    std::uint64_t what; // size, device and charge

    bool operator==(const Kind&) const = default;
  };
  static constexpr std::uint32_t kPlaces = 2 * (kMost + 1);

  // Untouched pages of it take no memory of the host's.
  struct Tables {
    Kind kinds[kMost + 1];                      // the first one stays empty
    std::atomic<std::uint32_t> places[kPlaces]; // open addressing, of numbers; 0: none
  };

  static Kind pack(const Allocation& allocation) noexcept;
  std::uint32_t find(const Kind& kind, std::uint32_t& place) const noexcept;
  std::uint32_t add(const Kind& kind) noexcept;

  common::SpinLock adding_;
  std::uint32_t used_ = 0;
  Tables* const tables_ = static_cast<Tables*>(std::calloc(1, sizeof(Tables)));
};

} // namespace aliquot::limiter
