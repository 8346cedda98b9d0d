#include "native/limiter/cuda/allocation_table.hpp"

namespace aliquot::limiter {

// The topmost bits; a shard uses those below them.
AllocationTable::Shard& AllocationTable::shard_of(std::uint64_t key) noexcept {
  return shards_[key * 0x9E3779B97F4A7C15u >> 58u];
}

void AllocationTable::unpack(PackedRecord record, Allocation& allocation) const noexcept {
  kinds_.describe(record.kind(), allocation);
  allocation.key = record.address();
  if (record.detached())
    allocation.charge = Charge::Single;
}

bool AllocationTable::insert_packed(const Allocation& allocation) noexcept {
  const std::uint32_t kind = kinds_.number(allocation);
  if (kind == AllocationKinds::kNone) {
    Allocation old;
    take_packed(allocation.key, old);
    return insert_full(allocation);
  }
  Shard& shard = shard_of(allocation.key);
  const std::lock_guard guard(shard.lock);
  return shard.records.insert({allocation.key, kind});
}

bool AllocationTable::insert_full(const Allocation& allocation) noexcept {
  const std::lock_guard guard(full_lock_);
  const bool inserted = full_.insert(allocation);
  full_count_.store(full_.size(), std::memory_order_release);
  return inserted;
}

bool AllocationTable::take_packed(std::uint64_t key, Allocation& taken) noexcept {
  Shard& shard = shard_of(key);
  PackedRecord record;
  {
    const std::lock_guard guard(shard.lock);
    if (!shard.records.take(key, record))
      return false;
  }
  unpack(record, taken);
  return true;
}

bool AllocationTable::take_full(std::uint64_t key, Allocation& taken) noexcept {
  if (full_count_.load(std::memory_order_acquire) == 0)
    return false;
  const std::lock_guard guard(full_lock_);
  const bool known = full_.take(key, taken);
  full_count_.store(full_.size(), std::memory_order_relaxed);
  return known;
}

// An address is handed out again only after it was freed, so one that lies in the other half is out of date.
bool AllocationTable::insert(const Allocation& allocation) noexcept {
  if (!PackedRecord::fits(allocation.key))
    return insert_full(allocation);
  if (full_count_.load(std::memory_order_acquire) != 0) {
    Allocation old;
    take_full(allocation.key, old);
  }
  return insert_packed(allocation);
}

bool AllocationTable::take(std::uint64_t key, Allocation& taken) noexcept {
  if (key == 0)
    return false;
  return (PackedRecord::fits(key) && take_packed(key, taken)) || take_full(key, taken);
}

bool AllocationTable::find(std::uint64_t key, Allocation& found) noexcept {
  if (PackedRecord::fits(key)) {
    Shard& shard = shard_of(key);
    const std::lock_guard guard(shard.lock);
    PackedRecord record;
    if (shard.records.find(key, record)) {
      unpack(record, found);
      return true;
    }
  }
  const std::lock_guard guard(full_lock_);
  return full_.find(key, found);
}

BytesByDevice AllocationTable::detach_from_pool(std::uint64_t pool) noexcept {
  BytesByDevice bytes{};
  const auto is_of_pool = [&](const Allocation& allocation) {
    const bool mine = allocation.owner == pool && allocation.charge == Charge::Pool;
    if (mine)
      bytes[allocation.device % bytes.size()] += allocation.bytes;
    return mine;
  };
  for (Shard& shard : shards_) {
    const std::lock_guard guard(shard.lock);
    shard.records.remove_if([&](PackedRecord& record) {
      Allocation allocation;
      unpack(record, allocation);
      if (is_of_pool(allocation))
        record.detach();
      return false;
    });
  }
  const std::lock_guard guard(full_lock_);
  full_.remove_if([&](Allocation& allocation) {
    if (is_of_pool(allocation))
      allocation.charge = Charge::Single;
    return false;
  });
  return bytes;
}

} // namespace aliquot::limiter
