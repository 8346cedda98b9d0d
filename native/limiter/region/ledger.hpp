// What the processes of a slice hold of its devices, exact over all of them and unharmed by kill -9.
//
// Each process writes only its own slot and there is no total: a process may hold up to what it was
// `granted`, and raises that by announcing what it asks for and then adding up everybody's. A slot counts
// only while its owner word names a process, so one compare-and-swap refunds the dead. README.md in
// native/limiter has the rules and the proof. No lock is shared between processes; nothing here makes a
// system call except when the limit is hit.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

struct VramUse {
  std::uint64_t limit = 0, used = 0;
  std::uint64_t free() const noexcept { return used < limit ? limit - used : 0; }
};

class Ledger {
 public:
  // Takes a slot for this process. Null when all are taken by the living. Lives until the process ends.
  static Ledger* attach(SliceRegion& region) noexcept;

  // True: `bytes` more are this process' to take from the driver. False: they would pass the limit.
  bool reserve(unsigned device, std::uint64_t bytes) noexcept;
  // Gives bytes back after the driver freed them, or did not give them.
  void release(unsigned device, std::uint64_t bytes) noexcept;

  // Counts bytes that the driver has taken already, whatever the limit.
  void charge(unsigned device, std::uint64_t bytes) noexcept;

  // What this process holds, by its own account.
  std::uint64_t held(unsigned device) const noexcept;
  std::uint64_t owner() const noexcept { return owner_; }

  // Over all living processes; sees to the dead now and then.
  VramUse use(unsigned device) noexcept;

  layout::Counters& counters() noexcept { return slot_->counters; }
  const layout::Process& slot() const noexcept { return *slot_; }
  SliceRegion& region() noexcept { return region_; }

 private:
  struct Tally {
    std::uint64_t firm = 0;         // granted, or held beyond that
    std::uint64_t pending = 0;      // what others ask for at this moment
    std::uint64_t beyond_lease = 0; // of firm, what this process holds and was not granted
    bool operator==(const Tally&) const = default;
  };
  enum class Answer : std::uint8_t { Given, Busy, OverLimit };

  Ledger(SliceRegion& region, std::uint32_t slot, std::uint64_t owner) noexcept;

  bool take_from_lease(unsigned device, std::uint64_t bytes) noexcept;
  bool reserve_slowly(unsigned device, std::uint64_t bytes) noexcept;
  bool widen_lease(unsigned device, std::uint64_t bytes) noexcept;
  Answer ask(unsigned device, std::uint64_t bytes, Tally& seen) noexcept;
  Tally tally(unsigned device) const noexcept;
  bool leases_are_current() const noexcept;
  void renew_leases() noexcept;
  void take_unused_of_others(unsigned device) noexcept;
  void bury_the_dead_now_and_then() noexcept;
  void note_peak(unsigned device, std::uint64_t held) noexcept;
  std::uint64_t held_by_all(unsigned device) const noexcept;

  SliceRegion& region_;
  layout::Account& account_;
  layout::Process* slot_;
  const std::uint32_t slot_index_;
  const std::uint64_t owner_;
  std::atomic<std::uint64_t> lease_generation_{0};
  std::atomic<std::uint64_t> last_burial_{0};
  std::atomic<std::uint64_t> sampled_[layout::kMaxDevices] = {};
  std::mutex asking_; // of this process only: one thread asks at a time
};

} // namespace aliquot::limiter
