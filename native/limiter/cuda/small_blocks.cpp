#include "native/limiter/cuda/small_blocks.hpp"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>

namespace aliquot::limiter {
namespace {

constexpr std::size_t kFirstCapacity = 64;

std::size_t home(std::uint64_t number, std::size_t capacity) noexcept {
  return static_cast<std::size_t>((number * 0x9E3779B97F4A7C15u) >> 32u) & (capacity - 1);
}

std::uint64_t bits(unsigned from, unsigned count) noexcept {
  return (count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1) << from;
}

} // namespace

// A driver that lets an allocation cross into the next block is believed for the part that lies in this one.
void SmallBlocks::Block::mark(std::uint64_t address, std::uint64_t bytes, bool take) noexcept {
  auto at = static_cast<unsigned>(address % kBlockBytes / kUnitBytes);
  const auto end = static_cast<unsigned>(std::min<std::uint64_t>(
      kUnits, at + std::max<std::uint64_t>(1, (bytes + kUnitBytes - 1) / kUnitBytes)));
  while (at < end) {
    const unsigned count = std::min(end - at, 64 - at % 64);
    const std::uint64_t mask = bits(at % 64, count);
    std::uint64_t& word = taken[at / 64];
    word = take ? word | mask : word & ~mask;
    at += count;
  }
}

unsigned SmallBlocks::Block::longest_gap() const noexcept {
  unsigned longest = 0, run = 0;
  for (unsigned unit = 0; unit < kUnits; ++unit) {
    run = (taken[unit / 64] >> (unit % 64) & 1u) == 0 ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  return longest;
}

SmallBlocks::Block** SmallBlocks::find(std::uint64_t number) noexcept {
  std::size_t at = home(number, capacity_);
  while (slots_[at] != nullptr && slots_[at]->number != number)
    at = (at + 1) & (capacity_ - 1);
  return &slots_[at];
}

bool SmallBlocks::grow() noexcept {
  const std::size_t before = capacity_, wider = capacity_ == 0 ? kFirstCapacity : capacity_ * 2;
  auto** fresh = static_cast<Block**>(std::calloc(wider, sizeof(Block*)));
  if (fresh == nullptr)
    return false;
  Block** old = slots_;
  slots_ = fresh;
  capacity_ = wider;
  for (std::size_t at = 0; at < before; ++at) {
    if (old[at] != nullptr)
      *find(old[at]->number) = old[at];
  }
  std::free(old);
  return true;
}

// One that has just become empty is kept aside: a program that allocates and frees in turn needs it at once.
SmallBlocks::Block* SmallBlocks::make() noexcept {
  Block* made = spare_ != nullptr ? spare_ : new (std::nothrow) Block;
  spare_ = nullptr;
  return made;
}

void SmallBlocks::erase(Block** slot) noexcept {
  delete spare_;
  spare_ = *slot;
  *slot = nullptr;
  --used_;
  const std::size_t mask = capacity_ - 1;
  auto hole = static_cast<std::size_t>(slot - slots_);
  for (std::size_t at = (hole + 1) & mask; slots_[at] != nullptr; at = (at + 1) & mask) {
    const std::size_t wanted = home(slots_[at]->number, capacity_);
    if (((at - wanted) & mask) < ((at - hole) & mask))
      continue; // it may not lie before its home
    slots_[hole] = slots_[at];
    slots_[at] = nullptr;
    hole = at;
  }
}

SmallBlocks::Entered SmallBlocks::enter(std::uint64_t address, std::uint64_t bytes,
                                        unsigned device) noexcept {
  const std::uint64_t number = address / kBlockBytes;
  const std::lock_guard guard(lock_);
  if ((used_ + 1) * 2 > capacity_ && !grow())
    return Entered::NoMemory;
  Block** slot = find(number);
  const bool known = *slot != nullptr;
  if (!known) {
    *slot = make();
    if (*slot == nullptr)
      return Entered::NoMemory;
    (*slot)->number = number;
    (*slot)->device = device;
    ++used_;
  } else if ((*slot)->live == 0) {
    --empty_;
  }
  ++(*slot)->live;
  (*slot)->mark(address, bytes, true);
  return known ? Entered::Known : Entered::New;
}

bool SmallBlocks::leave(std::uint64_t address, std::uint64_t bytes, bool keep_charged) noexcept {
  const std::lock_guard guard(lock_);
  if (capacity_ == 0)
    return false;
  Block** slot = find(address / kBlockBytes);
  if (*slot == nullptr || (*slot)->live == 0)
    return false; // never entered
  (*slot)->mark(address, bytes, false);
  if (--(*slot)->live != 0)
    return false;
  if (keep_charged)
    ++empty_;
  else
    erase(slot);
  return true;
}

std::uint64_t SmallBlocks::drop_empty(unsigned device) noexcept {
  const std::lock_guard guard(lock_);
  std::uint64_t bytes = 0;
  for (std::size_t at = 0; empty_ != 0 && at < capacity_;) {
    Block* block = slots_[at];
    if (block == nullptr || block->live != 0 || block->device != device) {
      ++at;
      continue;
    }
    erase(&slots_[at]); // another one may have moved here: look at this place again
    --empty_;
    bytes += kBlockBytes;
  }
  return bytes;
}

bool SmallBlocks::has_room(std::uint64_t bytes, unsigned device) noexcept {
  const auto units = static_cast<unsigned>((bytes + kUnitBytes - 1) / kUnitBytes);
  const std::lock_guard guard(lock_);
  for (std::size_t at = 0; at < capacity_; ++at) {
    if (slots_[at] != nullptr && slots_[at]->device == device && slots_[at]->longest_gap() >= units)
      return true;
  }
  return false;
}

} // namespace aliquot::limiter
