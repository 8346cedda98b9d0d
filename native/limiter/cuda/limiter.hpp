// The limiter of this process: what the hooks share. It exists from the first successful cuInit on.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "aliquot/cuda_abi.h"
#include "native/limiter/cuda/allocation_table.hpp"
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/graph_book.hpp"
#include "native/limiter/cuda/overhead.hpp"
#include "native/limiter/cuda/pool_book.hpp"
#include "native/limiter/cuda/shared_book.hpp"
#include "native/limiter/cuda/small_blocks.hpp"
#include "native/limiter/cuda/virtual_memory_book.hpp"
#include "native/limiter/region/ledger.hpp"

namespace aliquot::limiter {

// The slice's number of a device that is not in the slice: nothing may be allocated there.
inline constexpr unsigned kNoDevice = layout::kMaxDevices;

// Where a call acts: the calling thread's current context.
struct Place {
  CUcontext context = nullptr;
  unsigned device = kNoDevice; // the slice's number of it
};

namespace detail {

// The device of a context never changes, so each thread remembers the one that it asked for last.
struct RememberedPlace {
  Place place;
  std::uint32_t epoch = 0;
};
extern constinit thread_local RememberedPlace remembered [[gnu::tls_model("initial-exec")]];

} // namespace detail

class Limiter {
 public:
  Limiter(SliceRegion& region, Ledger& ledger) noexcept : region_(region), ledger_(ledger) {}

  // What the slice may use of each of its cards, in its order.
  std::span<const layout::DeviceLimit> cards() const noexcept {
    return {region_.limits().devices, region_.device_count()};
  }
  // Learns which of the driver's devices are the slice's. After a successful cuInit of the driver.
  void map_devices() noexcept;
  unsigned device_of(CUdevice ordinal) const noexcept;
  CUdevice ordinal_of(unsigned device) const noexcept; // -1 where the driver has none
  // False where the calling thread has no usable context; the driver will say so itself.
  bool current_place(Place& place) noexcept;
  // What a thread remembers of contexts is no longer so.
  void forget_contexts() noexcept { context_epoch_.fetch_add(1, std::memory_order_relaxed); }

  // As Ledger::reserve. What the driver took meanwhile is charged first; before it gives up, what came back
  // by itself is refunded.
  bool reserve(unsigned device, std::uint64_t bytes) noexcept {
    if (overhead.has_grown())
      overhead.catch_up();
    return ledger_.reserve(device, bytes) || reserve_what_came_back(device, bytes);
  }
  void release(unsigned device, std::uint64_t bytes) noexcept { ledger_.release(device, bytes); }
  // Refunds what is gone, by what it was charged as.
  void refund(const Allocation& allocation) noexcept;
  // Refunds all that a context took with itself.
  void refund_context(CUcontext context) noexcept;
  // What pools and graphs gave back to the device by themselves. True where there was any.
  bool settle_books() noexcept {
    if (!pools.any() && !graphs.any())
      return false;
    const bool pooled = pools.settle_all();
    return graphs.settle_all() || pooled;
  }
  VramUse use(unsigned device) noexcept {
    settle_books();
    if (overhead.has_grown())
      overhead.catch_up();
    if (overhead.has_shrunk())
      overhead.shrink();
    return ledger_.use(device);
  }
  // Counts and logs an allocation over the limit, and returns what the program is told.
  CUresult refuse(unsigned device, std::uint64_t bytes) noexcept;

  layout::Counters& counters() noexcept { return ledger_.counters(); }
  SliceRegion& region() noexcept { return region_; }
  Ledger& ledger() noexcept { return ledger_; }

  AllocationTable memory;  // by address
  AllocationTable handles; // arrays and mipmaps, by handle
  SmallBlocks small_blocks;
  PoolBook pools{*this};
  GraphBook graphs{*this};
  SharedBook shared{*this};
  VirtualMemoryBook virtual_memory{*this};
  Overhead overhead{*this};

 private:
  bool meet_context(CUcontext context, Place& place) noexcept;
  bool reserve_what_came_back(unsigned device, std::uint64_t bytes) noexcept;
  static constexpr int kMaxOrdinals = 64;

  SliceRegion& region_;
  Ledger& ledger_;
  std::atomic<std::uint32_t> context_epoch_{1};
  std::atomic<std::uint8_t> device_of_[kMaxOrdinals] = {}; // the slice's number plus 1; 0: not in the slice
  std::atomic<int> ordinal_of_[layout::kMaxDevices] = {};  // the other way round, plus 1
};

inline bool Limiter::current_place(Place& place) noexcept {
  CUcontext context = nullptr;
  if (driver().cuCtxGetCurrent(&context) != CUDA_SUCCESS || context == nullptr)
    return false;
  const detail::RememberedPlace& known = detail::remembered;
  if (known.place.context != context || known.epoch != context_epoch_.load(std::memory_order_relaxed))
    return meet_context(context, place);
  place = known.place;
  return true;
}

namespace detail {
extern std::atomic<Limiter*> limiter;
}

// Null before cuInit, and in a forked child, whose parent's limiter is not its own.
inline Limiter* limiter() noexcept {
  return detail::limiter.load(std::memory_order_acquire);
}

// Makes it, if it is not there. Null where the process is in no usable slice.
Limiter* attach_limiter() noexcept;

// Set while a memory hook is in the driver. What the driver allocates by calling its own exported functions
// belongs to the call that is being accounted, and reaches the driver as it is.
class InsideDriver {
 public:
  InsideDriver() noexcept : before_(inside_) { inside_ = true; }
  ~InsideDriver() { inside_ = before_; }
  InsideDriver(const InsideDriver&) = delete;
  InsideDriver& operator=(const InsideDriver&) = delete;
  static bool here() noexcept { return inside_; }

 private:
  static constinit thread_local bool inside_ [[gnu::tls_model("initial-exec")]];
  const bool before_;
};

template <typename Call>
auto in_driver(Call call) noexcept {
  const InsideDriver inside;
  return call();
}

// Bytes that are reserved for one driver call: committed when it gave the memory, rolled back otherwise.
class Reservation {
 public:
  Reservation(Limiter& limiter, unsigned device, std::uint64_t bytes) noexcept
      : limiter_(limiter), device_(device), bytes_(bytes), held_(limiter.reserve(device, bytes)) {}
  ~Reservation() {
    if (held_)
      limiter_.release(device_, bytes_);
  }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  explicit operator bool() const noexcept { return held_; }
  // Makes it larger or smaller; false, and nothing changed, where it cannot be made larger.
  bool resize(std::uint64_t bytes) noexcept;
  void commit() noexcept { held_ = false; }

 private:
  Limiter& limiter_;
  unsigned device_;
  std::uint64_t bytes_;
  bool held_;
};

} // namespace aliquot::limiter
