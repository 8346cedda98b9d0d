// Open addressing with linear probing; erasing shifts the run back, so there are no tombstones and a look-up
// stays short however long the program runs.
#include "native/limiter/cuda/allocation_table.hpp"

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "native/limiter/cuda/physical_size.hpp"

namespace aliquot::limiter {
namespace {

constexpr std::size_t kFirstCapacity = 16;
constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kRecordsPerLine = 4;

// Addresses differ in their middle bits; a multiplication carries those to the top (Fibonacci hashing,
// Knuth 6.4).
std::uint64_t hash(std::uint64_t key) noexcept {
  return key * 0x9E3779B97F4A7C15u;
}

// The first record of the line in which a key belongs.
std::size_t home(std::uint64_t key, std::size_t capacity) noexcept {
  return static_cast<std::size_t>(hash(key) >> 20u) & (capacity - 1) & ~(kRecordsPerLine - 1);
}

} // namespace

std::uint32_t OwnerNumbers::find(std::uint64_t owner) const noexcept {
  const std::uint32_t last = last_.load(std::memory_order_relaxed);
  if (owners_[last].load(std::memory_order_relaxed) == owner)
    return last;
  const std::uint32_t used = used_.load(std::memory_order_acquire);
  for (std::uint32_t each = 0; each < used; ++each) {
    if (owners_[each].load(std::memory_order_relaxed) == owner)
      return each;
  }
  return kMost;
}

std::uint32_t OwnerNumbers::number(std::uint64_t owner) noexcept {
  if (const std::uint32_t known = find(owner); known != kMost) {
    if (last_.load(std::memory_order_relaxed) != known)
      last_.store(known, std::memory_order_relaxed);
    return known;
  }
  const std::lock_guard guard(adding_);
  if (const std::uint32_t known = find(owner); known != kMost)
    return known;
  const std::uint32_t used = used_.load(std::memory_order_relaxed);
  std::uint32_t free = 0;
  while (free < used && owners_[free].load(std::memory_order_relaxed) != 0)
    ++free;
  if (free == kMost)
    return kMost;
  owners_[free].store(owner, std::memory_order_relaxed);
  if (free == used)
    used_.store(used + 1, std::memory_order_release);
  return free;
}

std::uint64_t OwnerNumbers::owner(std::uint32_t number) const noexcept {
  return number < kMost ? owners_[number].load(std::memory_order_relaxed) : 0;
}

void OwnerNumbers::forget(std::uint64_t owner) noexcept {
  const std::lock_guard guard(adding_);
  if (const std::uint32_t known = find(owner); known != kMost)
    owners_[known].store(0, std::memory_order_relaxed);
}

AllocationTable::Record* AllocationTable::Shard::find(std::uint64_t key) noexcept {
  if (capacity == 0)
    return nullptr;
  for (std::size_t at = home(key, capacity);; at = (at + 1) & (capacity - 1)) {
    if (records[at].key == key)
      return &records[at];
    if (records[at].key == 0)
      return nullptr;
  }
}

// One that is there already is replaced.
void AllocationTable::Shard::place(const Record& record) noexcept {
  std::size_t at = home(record.key, capacity);
  while (records[at].key != 0 && records[at].key != record.key)
    at = (at + 1) & (capacity - 1);
  used -= records[at].key == record.key;
  records[at] = record;
}

void AllocationTable::Shard::place_newest() noexcept {
  if (newest.key != 0)
    place(newest);
  newest.key = 0;
}

void AllocationTable::Shard::await(const Record& record) noexcept {
  place_newest();
  newest = record;
  ++used;
  __builtin_prefetch(&records[home(record.key, capacity)], 1);
}

bool AllocationTable::Shard::take_newest(std::uint64_t key, Record& taken) noexcept {
  if (newest.key != key)
    return false;
  taken = newest;
  newest.key = 0;
  --used;
  return true;
}

bool AllocationTable::Shard::grow() noexcept {
  const std::size_t wider = capacity == 0 ? kFirstCapacity : capacity * 2;
  auto* fresh = static_cast<Record*>(std::aligned_alloc(kLineBytes, wider * sizeof(Record)));
  if (fresh == nullptr)
    return false;
  std::memset(static_cast<void*>(fresh), 0, wider * sizeof(Record));
  Record* old = records;
  const std::size_t old_capacity = capacity;
  records = fresh;
  capacity = wider;
  for (std::size_t at = 0; at < old_capacity; ++at) {
    if (old[at].key != 0)
      place(old[at]);
  }
  std::free(old);
  return true;
}

void AllocationTable::Shard::erase(Record* record) noexcept {
  const std::size_t mask = capacity - 1;
  auto hole = static_cast<std::size_t>(record - records);
  for (std::size_t at = (hole + 1) & mask; records[at].key != 0; at = (at + 1) & mask) {
    const std::size_t wanted = home(records[at].key, capacity);
    if (((at - wanted) & mask) < ((at - hole) & mask))
      continue; // it may not lie before its home
    records[hole] = records[at];
    hole = at;
  }
  records[hole].key = 0;
  --used;
}

AllocationTable::Shard& AllocationTable::shard_of(std::uint64_t key) noexcept {
  return shards_[hash(key) >> 58u];
}

Allocation AllocationTable::unpack(const Record& record) const noexcept {
  return {record.key, owners_.owner(record.owner), record.units * kUnitBytes,
          static_cast<unsigned>(record.device), static_cast<Charge>(record.charge)};
}

bool AllocationTable::insert(const Allocation& allocation) noexcept {
  Record record;
  record.key = allocation.key;
  record.units = (allocation.bytes + kUnitBytes - 1) / kUnitBytes;
  record.owner = owners_.number(allocation.owner);
  record.device = allocation.device;
  record.charge = static_cast<std::uint8_t>(allocation.charge);
  if (record.owner == OwnerNumbers::kMost)
    return false;
  Shard& shard = shard_of(allocation.key);
  const std::lock_guard guard(shard.lock);
  if ((shard.used + 1) * 4 > shard.capacity * 3 && !shard.grow())
    return false;
  shard.await(record);
  return true;
}

bool AllocationTable::take(std::uint64_t key, Allocation& taken) noexcept {
  if (key == 0)
    return false;
  Shard& shard = shard_of(key);
  const std::lock_guard guard(shard.lock);
  Record newest;
  if (shard.take_newest(key, newest)) {
    taken = unpack(newest);
    return true;
  }
  Record* found = shard.find(key);
  if (found == nullptr)
    return false;
  taken = unpack(*found);
  shard.erase(found);
  return true;
}

bool AllocationTable::find(std::uint64_t key, Allocation& found) noexcept {
  if (key == 0)
    return false;
  Shard& shard = shard_of(key);
  const std::lock_guard guard(shard.lock);
  shard.place_newest();
  const Record* record = shard.find(key);
  if (record != nullptr)
    found = unpack(*record);
  return record != nullptr;
}

BytesByDevice AllocationTable::detach_from_pool(std::uint64_t pool) noexcept {
  BytesByDevice bytes{};
  const std::uint32_t owner = owners_.find(pool);
  for (Shard& shard : shards_) {
    const std::lock_guard guard(shard.lock);
    shard.place_newest();
    for (std::size_t at = 0; owner != OwnerNumbers::kMost && at < shard.capacity; ++at) {
      Record& record = shard.records[at];
      if (record.key == 0 || record.owner != owner || static_cast<Charge>(record.charge) != Charge::Pool)
        continue;
      record.charge = static_cast<std::uint8_t>(Charge::Single);
      bytes[record.device % bytes.size()] += record.units * kUnitBytes;
    }
  }
  owners_.forget(pool); // what is left is freed one by one
  return bytes;
}

} // namespace aliquot::limiter
