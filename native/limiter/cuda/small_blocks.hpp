// The blocks of 2 MiB that small allocations share. The device takes a block with the first of them and gives
// it back after the last, so blocks are what is charged. Which block an allocation lies in, its address
// tells.
#pragma once

#include <cstddef>
#include <cstdint>

#include "native/common/spin_lock.hpp"
#include "native/limiter/cuda/physical_size.hpp"

namespace aliquot::limiter {

class SmallBlocks {
 public:
  enum class Entered : std::uint8_t {
    Known,    // its block is charged already
    New,      // one more block is taken
    NoMemory, // of the host's; nothing was noted
  };

  Entered enter(std::uint64_t address, std::uint64_t bytes, unsigned device) noexcept;
  // True when its block has no other any more. The block is to be refunded then, unless it is to stay charged
  // until `drop_empty`.
  bool leave(std::uint64_t address, std::uint64_t bytes, bool keep_charged) noexcept;
  // Forgets the empty blocks of a device that are still charged, and says how many bytes they are.
  std::uint64_t drop_empty(unsigned device) noexcept;
  // Whether one more of this size fits into a block that is charged.
  bool has_room(std::uint64_t bytes, unsigned device) noexcept;

 private:
  static constexpr unsigned kUnits = kBlockBytes / kUnitBytes;
  static constexpr unsigned kWords = kUnits / 64;
  struct Block {
    std::uint64_t number = 0; // its address in blocks, never 0
    std::uint32_t live = 0;
    std::uint32_t device = 0;
    std::uint64_t taken[kWords] = {}; // a bit a unit

    void mark(std::uint64_t address, std::uint64_t bytes, bool take) noexcept;
    unsigned longest_gap() const noexcept;
  };

  Block** find(std::uint64_t number) noexcept;
  bool grow() noexcept;
  Block* make() noexcept;
  void erase(Block** slot) noexcept;

  common::SpinLock lock_;
  Block** slots_ = nullptr; // open addressing
  std::size_t capacity_ = 0, used_ = 0, empty_ = 0;
  Block* spare_ = nullptr; // without any bit set
};

} // namespace aliquot::limiter
