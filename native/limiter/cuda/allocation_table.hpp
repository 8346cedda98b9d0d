// What this process holds, by address or handle.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "native/common/spin_lock.hpp"
#include "native/limiter/cuda/allocation.hpp"
#include "native/limiter/cuda/allocation_kinds.hpp"
#include "native/limiter/cuda/full_records.hpp"
#include "native/limiter/cuda/packed_records.hpp"

namespace aliquot::limiter {

// A hash map in shards, so that threads rarely meet; constant time an operation. It has no destructor: what
// lives in other people's programs must outlast their last call.
//
// What fits into packed records lies there, and all else, which is rare, in full ones under one lock. The
// driver is called outside of all locks.
class AllocationTable {
 public:
  // False where there is no host memory for it; then nothing was added. A key that is there already is
  // replaced.
  bool insert(const Allocation& allocation) noexcept;
  // Removes and returns it; false where it is not known.
  bool take(std::uint64_t key, Allocation& taken) noexcept;

  // Removes all that end with this context, and shows each to `visit`, under a lock that it must not take.
  template <typename Visit>
  void take_all(std::uint64_t context, Visit visit) noexcept;
  // Gives all allocations of a pool that is going away the charge Single. Returns their bytes for each
  // device.
  BytesByDevice detach_from_pool(std::uint64_t pool) noexcept;
  bool find(std::uint64_t key, Allocation& found) noexcept;

 private:
  struct alignas(64) Shard {
    common::SpinLock lock;
    PackedShard records;
  };
  static_assert(sizeof(Shard) == 64);
  static constexpr std::size_t kShards = 64;
  static_assert(AllocationKinds::kMost < 1u << PackedRecord::kKindBits);

  Shard& shard_of(std::uint64_t key) noexcept;
  void unpack(PackedRecord record, Allocation& allocation) const noexcept;
  bool insert_packed(const Allocation& allocation) noexcept;
  bool insert_full(const Allocation& allocation) noexcept;
  bool take_packed(std::uint64_t key, Allocation& taken) noexcept;
  bool take_full(std::uint64_t key, Allocation& taken) noexcept;

  Shard shards_[kShards];
  AllocationKinds kinds_;
  common::SpinLock full_lock_;
  FullRecords full_;
  std::atomic<std::size_t> full_count_{0}; // a hint for who holds no lock
};

template <typename Visit>
void AllocationTable::take_all(std::uint64_t context, Visit visit) noexcept {
  const auto ends = [&](const Allocation& allocation) {
    if (allocation.owner != context || !ends_with_context(allocation.charge))
      return false;
    visit(allocation);
    return true;
  };
  for (Shard& shard : shards_) {
    const std::lock_guard guard(shard.lock);
    shard.records.remove_if([&](const PackedRecord& record) {
      Allocation allocation;
      unpack(record, allocation);
      return ends(allocation);
    });
  }
  const std::lock_guard guard(full_lock_);
  full_.remove_if(ends);
  full_count_.store(full_.size(), std::memory_order_relaxed);
}

} // namespace aliquot::limiter
