// What this process holds, by address or handle: how much, where, and who would free it with itself.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "native/common/spin_lock.hpp"
#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

enum class Charge : std::uint8_t {
  Context, // refunded when it is freed, or its context is destroyed
  Small,   // the same, but what is charged is the block that it shares with others
  Managed, // the same; the device may hold less
  Rounded, // the same, once the driver's figure shows that it is free
  Pool,    // paid for by its pool's reserved bytes
  Single,  // refunded when it is freed, and only then
};

constexpr bool ends_with_context(Charge charge) noexcept {
  return charge < Charge::Pool;
}

struct Allocation {
  std::uint64_t key = 0;   // address or handle, never 0
  std::uint64_t owner = 0; // context or pool
  std::uint64_t bytes = 0; // a multiple of 512
  unsigned device = 0;     // the slice's number of it
  Charge charge = Charge::Context;
};

using BytesByDevice = std::array<std::uint64_t, layout::kMaxDevices>;

// Numbers for contexts and pools, so that a record need not hold their handles. There are few of them at a
// time.
class OwnerNumbers {
 public:
  static constexpr std::uint32_t kMost = 4095;

  // The number of an owner, a new one where it has none; kMost where there are no more.
  std::uint32_t number(std::uint64_t owner) noexcept;
  std::uint32_t find(std::uint64_t owner) const noexcept; // kMost where it has none
  std::uint64_t owner(std::uint32_t number) const noexcept;
  void forget(std::uint64_t owner) noexcept;

 private:
  common::SpinLock adding_;
  std::atomic<std::uint32_t> last_{0}, used_{0};
  std::atomic<std::uint64_t> owners_[kMost] = {};
};

// A hash map in shards, so that threads rarely meet; constant time an operation. It has no destructor: what
// lives in other people's programs must outlast their last call.
//
// With many allocations each step costs a miss of the cache, so a record is 16 bytes and is looked for from
// the beginning of the line in which it belongs. The newest record of a shard waits beside its lock while the
// cache is asked for its place, and goes there when the next one comes.
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
  struct Record {
    std::uint64_t key = 0;
    // In units of 512 bytes, which all charges are multiples of.
    std::uint64_t units : 40 = 0;
    std::uint64_t owner : 16 = 0;
    std::uint64_t device : 5 = 0;
    std::uint64_t charge : 3 = 0;
  };
  static_assert(sizeof(Record) == 16);

  struct alignas(64) Shard {
    common::SpinLock lock;
    Record* records = nullptr;
    std::size_t capacity = 0; // a power of two, or 0
    std::size_t used = 0;     // the newest one included
    Record newest;            // key 0: there is none

    bool take_newest(std::uint64_t key, Record& taken) noexcept;
    Record* find(std::uint64_t key) noexcept;
    bool grow() noexcept;
    void await(const Record& record) noexcept;
    void place_newest() noexcept;
    void place(const Record& record) noexcept;
    void erase(Record* record) noexcept;
  };
  static_assert(sizeof(Shard) == 64);
  static constexpr std::size_t kShards = 64;

  Shard& shard_of(std::uint64_t key) noexcept;
  Allocation unpack(const Record& record) const noexcept;
  template <typename Visit>
  void take_all_of(Shard& shard, std::uint32_t owner, Visit& visit) noexcept;

  Shard shards_[kShards];
  OwnerNumbers owners_;
};

template <typename Visit>
void AllocationTable::take_all(std::uint64_t context, Visit visit) noexcept {
  const std::uint32_t owner = owners_.find(context);
  if (owner == OwnerNumbers::kMost)
    return;
  for (Shard& shard : shards_)
    take_all_of(shard, owner, visit);
  owners_.forget(context);
}

template <typename Visit>
void AllocationTable::take_all_of(Shard& shard, std::uint32_t owner, Visit& visit) noexcept {
  shard.lock.lock();
  shard.place_newest();
  for (std::size_t at = 0; at < shard.capacity;) {
    Record& record = shard.records[at];
    if (record.key == 0 || record.owner != owner || !ends_with_context(static_cast<Charge>(record.charge))) {
      ++at;
      continue;
    }
    visit(unpack(record));
    shard.erase(&record); // another one may have moved here: look at this place again
  }
  shard.lock.unlock();
}

} // namespace aliquot::limiter
