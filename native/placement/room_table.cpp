// See room_table.hpp.
#include "native/placement/room_table.hpp"

#include <algorithm>

namespace aliquot::placement {
namespace {

// The finaliser of MurmurHash3 (Austin Appleby, public domain) as a mixing step.
std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) noexcept {
  hash = (hash ^ word) * 0xff51afd7ed558ccdULL;
  return hash ^ (hash >> 32);
}

std::uint64_t pair_of(std::int32_t high, std::int32_t low) noexcept {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(high)) << 32) |
         static_cast<std::uint32_t>(low);
}

std::uint64_t hash_of(const Room& room) noexcept {
  std::uint64_t hash = mixed(room.gaps.size() + 1, pair_of(room.cpu, room.memory));
  for (const Gap& gap : room.gaps)
    hash = mixed(mixed(hash, pair_of(gap.milli, gap.vram)), static_cast<std::uint32_t>(gap.model));
  return hash;
}

} // namespace

std::uint32_t RoomTable::number(const Room& room) {
  if (entries_.size() * 2 >= slots_.size())
    grow();
  const std::uint64_t hash = hash_of(room);
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  for (; slots_[at] != kNone; at = (at + 1) & mask)
    if (same(entries_[slots_[at]], hash, room))
      return slots_[at];
  const auto made = static_cast<std::uint32_t>(entries_.size());
  entries_.push_back({hash, static_cast<std::uint32_t>(gaps_.size()),
                      static_cast<std::uint32_t>(room.gaps.size()), room.cpu, room.memory});
  gaps_.insert(gaps_.end(), room.gaps.begin(), room.gaps.end());
  slots_[at] = made;
  return made;
}

Room RoomTable::room(std::uint32_t number) const noexcept {
  const Entry& entry = entries_[number];
  return {entry.cpu, entry.memory, std::span(gaps_).subspan(entry.first_gap, entry.gap_count)};
}

std::size_t RoomTable::bytes() const noexcept {
  return entries_.capacity() * sizeof(Entry) + gaps_.capacity() * sizeof(Gap) + slots_.capacity() * 4;
}

void RoomTable::clear() noexcept {
  entries_.clear();
  gaps_.clear();
  std::ranges::fill(slots_, kNone);
}

void RoomTable::grow() {
  slots_.assign(std::max<std::size_t>(1024, slots_.size() * 2), kNone);
  const std::size_t mask = slots_.size() - 1;
  for (std::uint32_t number = 0; number < entries_.size(); ++number) {
    std::size_t at = entries_[number].hash & mask;
    while (slots_[at] != kNone)
      at = (at + 1) & mask;
    slots_[at] = number;
  }
}

bool RoomTable::same(const Entry& entry, std::uint64_t hash, const Room& room) const noexcept {
  return entry.hash == hash && entry.cpu == room.cpu && entry.memory == room.memory &&
         entry.gap_count == room.gaps.size() &&
         std::equal(room.gaps.begin(), room.gaps.end(), gaps_.begin() + entry.first_gap);
}

} // namespace aliquot::placement
