// Open addressing with linear probing; erasing shifts the run back, so there are no tombstones and a look-up
// stays short however long the program runs.
#include "native/limiter/cuda/allocation_table.hpp"

#include <cstdlib>
#include <mutex>

namespace aliquot::limiter {
namespace {

constexpr std::size_t kFirstCapacity = 16;

// Addresses differ in their middle bits; a multiplication carries those to the top (Fibonacci hashing,
// Knuth 6.4).
std::uint64_t hash(std::uint64_t key) noexcept {
  return key * 0x9E3779B97F4A7C15u;
}

std::size_t home(std::uint64_t key, std::size_t capacity) noexcept {
  return static_cast<std::size_t>(hash(key) >> 20u) & (capacity - 1);
}

} // namespace

Allocation* AllocationTable::Shard::find(std::uint64_t key) noexcept {
  if (capacity == 0)
    return nullptr;
  for (std::size_t at = home(key, capacity);; at = (at + 1) & (capacity - 1)) {
    if (slots[at].key == key)
      return &slots[at];
    if (slots[at].key == 0)
      return nullptr;
  }
}

void AllocationTable::Shard::place(const Allocation& allocation) noexcept {
  std::size_t at = home(allocation.key, capacity);
  while (slots[at].key != 0)
    at = (at + 1) & (capacity - 1);
  slots[at] = allocation;
}

bool AllocationTable::Shard::grow() noexcept {
  const std::size_t wider = capacity == 0 ? kFirstCapacity : capacity * 2;
  auto* fresh = static_cast<Allocation*>(std::calloc(wider, sizeof(Allocation)));
  if (fresh == nullptr)
    return false;
  Allocation* old = slots;
  const std::size_t old_capacity = capacity;
  slots = fresh;
  capacity = wider;
  for (std::size_t at = 0; at < old_capacity; ++at) {
    if (old[at].key != 0)
      place(old[at]);
  }
  std::free(old);
  return true;
}

void AllocationTable::Shard::erase(Allocation* slot) noexcept {
  const std::size_t mask = capacity - 1;
  auto hole = static_cast<std::size_t>(slot - slots);
  for (std::size_t at = (hole + 1) & mask; slots[at].key != 0; at = (at + 1) & mask) {
    const std::size_t wanted = home(slots[at].key, capacity);
    if (((at - wanted) & mask) < ((at - hole) & mask))
      continue; // it may not lie before its home
    slots[hole] = slots[at];
    hole = at;
  }
  slots[hole].key = 0;
  --used;
}

AllocationTable::Shard& AllocationTable::shard_of(std::uint64_t key) noexcept {
  return shards_[hash(key) >> 58u];
}

bool AllocationTable::insert(const Allocation& allocation) noexcept {
  Shard& shard = shard_of(allocation.key);
  const std::lock_guard guard(shard.lock);
  if (Allocation* known = shard.find(allocation.key)) {
    *known = allocation;
    return true;
  }
  if ((shard.used + 1) * 4 > shard.capacity * 3 && !shard.grow())
    return false;
  shard.place(allocation);
  ++shard.used;
  return true;
}

bool AllocationTable::take(std::uint64_t key, Allocation& taken) noexcept {
  if (key == 0)
    return false;
  Shard& shard = shard_of(key);
  const std::lock_guard guard(shard.lock);
  Allocation* found = shard.find(key);
  if (found == nullptr)
    return false;
  taken = *found;
  shard.erase(found);
  return true;
}

BytesByDevice AllocationTable::take_all(std::uint64_t owner, Charge charge) noexcept {
  BytesByDevice bytes{};
  for (Shard& shard : shards_) {
    const std::lock_guard guard(shard.lock);
    for (std::size_t at = 0; at < shard.capacity;) {
      Allocation& slot = shard.slots[at];
      if (slot.key == 0 || slot.owner != owner || slot.charge != static_cast<std::uint8_t>(charge)) {
        ++at;
        continue;
      }
      bytes[slot.device % bytes.size()] += slot.bytes;
      shard.erase(&slot); // another one may have moved here: look at this place again
    }
  }
  return bytes;
}

BytesByDevice AllocationTable::detach_from_pool(std::uint64_t pool) noexcept {
  BytesByDevice bytes{};
  for (Shard& shard : shards_) {
    const std::lock_guard guard(shard.lock);
    for (std::size_t at = 0; at < shard.capacity; ++at) {
      Allocation& slot = shard.slots[at];
      if (slot.key == 0 || slot.owner != pool || slot.charge != static_cast<std::uint8_t>(Charge::Pool))
        continue;
      slot.charge = static_cast<std::uint8_t>(Charge::Single);
      bytes[slot.device % bytes.size()] += slot.bytes;
    }
  }
  return bytes;
}

} // namespace aliquot::limiter
