// Gives each distinct free room a small number, so that scores can be kept per room instead of per node: most
// nodes of a cluster look like some other node. Knows nothing of what is kept under the numbers.
#pragma once

#include "native/placement/types.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aliquot::placement {

class RoomTable {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;

  // The number of a room, which is given one if it has none. Gaps are compared in the order given.
  std::uint32_t number(const Room& room);
  // As it was when it was numbered; valid until the next call of number().
  [[nodiscard]] Room room(std::uint32_t number) const noexcept;
  [[nodiscard]] std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(entries_.size()); }
  [[nodiscard]] std::size_t bytes() const noexcept;
  void clear() noexcept;

 private:
  struct Entry {
    std::uint64_t hash;
    std::uint32_t first_gap;
    std::uint32_t gap_count;
    std::int32_t cpu;
    std::int32_t memory;
  };

  void grow();
  [[nodiscard]] bool same(const Entry& entry, std::uint64_t hash, const Room& room) const noexcept;

  std::vector<Entry> entries_;
  std::vector<Gap> gaps_;
  std::vector<std::uint32_t> slots_; // open addressing; a power of two
};

} // namespace aliquot::placement
