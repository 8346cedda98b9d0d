// Records of allocations in 8 bytes: an address and the number of a kind.
//
// With many allocations a step costs what a miss of the cache costs, and a cache is small beside a table of
// 100,000, so what counts is how many bytes a record takes and how many lines are looked at. A line holds
// seven records and how many passed it because it was full; it nearly always answers alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "native/common/spin_lock.hpp"

namespace aliquot::limiter {

class PackedRecord {
 public:
  static constexpr unsigned kKindBits = 23;

  constexpr PackedRecord() noexcept = default;
  // Whether an address can be packed: below 2^49, and a multiple of 512, as a driver's are.
  static constexpr bool fits(std::uint64_t address) noexcept {
    return address % kAddressUnit == 0 && address != 0 && address >> (kAddressBits + kUnitBits) == 0;
  }
  constexpr PackedRecord(std::uint64_t address, std::uint32_t kind) noexcept
      : word_(address / kAddressUnit << (kKindBits + 1) | kind) {}

  constexpr bool empty() const noexcept { return word_ == 0; }
  constexpr bool is(std::uint64_t address) const noexcept {
    return word_ >> (kKindBits + 1) == address / kAddressUnit;
  }
  constexpr std::uint64_t address() const noexcept { return (word_ >> (kKindBits + 1)) * kAddressUnit; }
  constexpr std::uint32_t kind() const noexcept {
    return static_cast<std::uint32_t>(word_ & ((std::uint64_t{1} << kKindBits) - 1));
  }
  // It lost its owner, and is charged on its own since then.
  constexpr bool detached() const noexcept { return (word_ >> kKindBits & 1u) != 0; }
  constexpr void detach() noexcept { word_ |= std::uint64_t{1} << kKindBits; }

 private:
  static constexpr unsigned kUnitBits = 9, kAddressBits = 40;
  static constexpr std::uint64_t kAddressUnit = std::uint64_t{1} << kUnitBits;
  static_assert(kAddressBits + kKindBits + 1 == 64);

  std::uint64_t word_ = 0;
};

// Not thread-safe; AllocationTable has one for each of its locks. The newest record waits in the shard itself
// while the cache is asked for its place, and goes there when the next one comes.
class PackedShard {
 public:
  // One that is there already is replaced. False where there is no host memory for it; then nothing was
  // added.
  bool insert(PackedRecord record) noexcept;
  bool take(std::uint64_t address, PackedRecord& taken) noexcept;
  bool find(std::uint64_t address, PackedRecord& found) noexcept;

  // Shows all records to `visit`, which may change their kind, and removes those for which it is true.
  template <typename Visit>
  void remove_if(Visit visit) noexcept;

 private:
  static constexpr unsigned kRecordsPerLine = 7;
  struct alignas(64) Line {
    PackedRecord records[kRecordsPerLine];
    std::uint64_t passed = 0; // records that lie behind this line and belong in it or before it

    // A bit for each record; one of that address, or none, and the empty ones. Without branches: which it is
    // cannot be predicted.
    unsigned matching(std::uint64_t address) const noexcept {
      unsigned found = 0;
      for (unsigned each = 0; each < kRecordsPerLine; ++each)
        found |= static_cast<unsigned>(records[each].is(address)) << each;
      return found;
    }
    unsigned empty() const noexcept {
      unsigned found = 0;
      for (unsigned each = 0; each < kRecordsPerLine; ++each)
        found |= static_cast<unsigned>(records[each].empty()) << each;
      return found;
    }
  };
  static_assert(sizeof(Line) == 64);

  std::size_t home(std::uint64_t address) const noexcept;
  std::size_t after(std::size_t line) const noexcept { return line + 1 < count_ ? line + 1 : 0; }
  bool grow() noexcept;
  void place_newest() noexcept;
  void place(PackedRecord record) noexcept;
  PackedRecord* search(std::uint64_t address, std::size_t& line) noexcept;
  void erase(PackedRecord& record, std::size_t line) noexcept;

  Line* lines_ = nullptr;
  std::size_t count_ = 0; // of lines
  std::size_t used_ = 0;  // records, the newest one included
  PackedRecord newest_;
};

template <typename Visit>
void PackedShard::remove_if(Visit visit) noexcept {
  place_newest();
  for (std::size_t line = 0; line < count_; ++line) {
    for (PackedRecord& record : lines_[line].records) {
      if (!record.empty() && visit(record))
        erase(record, line);
    }
  }
}

} // namespace aliquot::limiter
