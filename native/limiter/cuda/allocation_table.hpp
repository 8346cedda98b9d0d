// What this process holds, by address or handle: how much, where, and who would free it with itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "native/common/spin_lock.hpp"
#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

enum class Charge : std::uint8_t {
  Context, // refunded when it is freed, or its context is destroyed
  Pool,    // paid for by its pool's reserved bytes
  Single,  // refunded when it is freed, and only then
};

struct Allocation {
  std::uint64_t key = 0;   // address or handle, never 0
  std::uint64_t owner = 0; // context or pool
  std::uint64_t bytes : 48 = 0;
  std::uint64_t device : 8 = 0; // the slice's number of it
  std::uint64_t charge : 8 = 0;
};
static_assert(sizeof(Allocation) == 24);

using BytesByDevice = std::array<std::uint64_t, layout::kMaxDevices>;

// A hash map in shards, so that threads rarely meet; constant time an operation. It has no destructor: what
// lives in other people's programs must outlast their last call.
class AllocationTable {
 public:
  // False where there is no host memory for it; then nothing was added. A key that is there already is
  // replaced.
  bool insert(const Allocation& allocation) noexcept;
  // Removes and returns it; false where it is not known.
  bool take(std::uint64_t key, Allocation& taken) noexcept;

  // Removes all with this owner and charge. Returns their bytes for each device.
  BytesByDevice take_all(std::uint64_t owner, Charge charge) noexcept;
  // Gives all allocations of a pool that is going away the charge Single. Returns their bytes for each
  // device.
  BytesByDevice detach_from_pool(std::uint64_t pool) noexcept;

 private:
  struct alignas(64) Shard {
    common::SpinLock lock;
    Allocation* slots = nullptr;
    std::size_t capacity = 0; // a power of two, or 0
    std::size_t used = 0;

    Allocation* find(std::uint64_t key) noexcept;
    bool grow() noexcept;
    void place(const Allocation& allocation) noexcept;
    void erase(Allocation* slot) noexcept;
  };
  static constexpr std::size_t kShards = 64;

  Shard& shard_of(std::uint64_t key) noexcept;

  Shard shards_[kShards];
};

} // namespace aliquot::limiter
