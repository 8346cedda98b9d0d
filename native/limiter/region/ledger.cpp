// The order of the loads and stores below is what the proof in native/limiter/README.md rests on: all of them
// are sequentially consistent except where a comment says why not.
#include "native/limiter/region/ledger.hpp"

#include <algorithm>
#include <ctime>
#include <new>
#include <sched.h>

#include "native/limiter/region/shared_memory.hpp"
#include "native/limiter/region/slots.hpp"

namespace aliquot::limiter {
namespace {

constexpr unsigned kMaxAttempts = 200;
constexpr unsigned kAttemptsBeforeSleep = 20;
constexpr std::uint64_t kMaxSpare = std::uint64_t{64} << 20u;
constexpr std::uint64_t kSparePart = 64; // of the limit, taken along when a lease is widened
constexpr std::uint64_t kPeakSamplePart =
    1024; // of the limit; by so much each process may miss the slice's peak
constexpr std::uint64_t kTicksBetweenBurials = 100'000'000; // ns

std::uint64_t bounded(const std::atomic<std::uint64_t>& word) noexcept {
  return std::min(word.load(), kMaxBytes);
}

// Two processes that ask at the same time both step back; they come again after different waits.
void step_aside(unsigned attempt, std::uint32_t slot) noexcept {
  if (attempt > kAttemptsBeforeSleep) {
    const timespec wait{0, 20'000 + static_cast<long>(slot % 16) * 5'000};
    nanosleep(&wait, nullptr);
    return;
  }
  for (unsigned spins = (slot * 7 + attempt * 13) % 64; spins > 0; --spins) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  sched_yield();
}

// Lowers a lease to what is held. Anyone may do this at any time: the owner looks again after it took from
// it.
void return_unused(layout::DeviceAccount& account) noexcept {
  std::uint64_t granted = account.granted.load();
  while (true) {
    const std::uint64_t held = account.held.load();
    if (granted <= held || account.granted.compare_exchange_weak(granted, held))
      return;
  }
}

void raise_to(std::atomic<std::uint64_t>& word, std::uint64_t value) noexcept {
  std::uint64_t seen = word.load(std::memory_order_relaxed);
  while (seen < value && !word.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

} // namespace

Ledger::Ledger(SliceRegion& region, std::uint32_t slot, std::uint64_t owner) noexcept
    : region_(region), account_(region.account()), slot_(&region.account().processes[slot]),
      slot_index_(slot), owner_(owner), lease_generation_(region.limits().generation.load()) {}

Ledger* Ledger::attach(SliceRegion& region) noexcept {
  const ClaimedSlot slot = claim_slot(region.account());
  return slot ? new (std::nothrow) Ledger(region, slot.index, slot.owner) : nullptr;
}

bool Ledger::reserve(unsigned device, std::uint64_t bytes) noexcept {
  if (device >= region_.device_count() || bytes > kMaxBytes)
    return false;
  if (leases_are_current() && take_from_lease(device, bytes))
    return true;
  return reserve_slowly(device, bytes);
}

void Ledger::release(unsigned device, std::uint64_t bytes) noexcept {
  if (device >= layout::kMaxDevices)
    return;
  std::atomic<std::uint64_t>& held = slot_->devices[device].held;
  std::uint64_t now = held.load(std::memory_order_relaxed);
  while (!held.compare_exchange_weak(now, now - std::min(now, bytes))) {
  }
  const std::uint64_t left = now - std::min(now, bytes);
  if (left < sampled_[device].load(std::memory_order_relaxed)) {
    sampled_[device].store(left, std::memory_order_relaxed);
  }
}

// Over the limit only `held` rises: a lease that was raised along with it would outlive what was held.
void Ledger::charge(unsigned device, std::uint64_t bytes) noexcept {
  if (device >= region_.device_count() || reserve(device, bytes))
    return;
  note_peak(device, slot_->devices[device].held.fetch_add(bytes) + bytes);
}

std::uint64_t Ledger::held(unsigned device) const noexcept {
  return device < layout::kMaxDevices ? bounded(slot_->devices[device].held) : 0;
}

VramUse Ledger::use(unsigned device) noexcept {
  if (device >= region_.device_count())
    return {};
  bury_the_dead_now_and_then();
  return {region_.vram_limit(device), held_by_all(device)};
}

bool Ledger::leases_are_current() const noexcept {
  return lease_generation_.load(std::memory_order_relaxed) ==
         region_.limits().generation.load(std::memory_order_acquire);
}

bool Ledger::take_from_lease(unsigned device, std::uint64_t bytes) noexcept {
  layout::DeviceAccount& mine = slot_->devices[device];
  std::uint64_t held = mine.held.load(std::memory_order_relaxed);
  do {
    const std::uint64_t granted = mine.granted.load(std::memory_order_relaxed); // looked at again below
    if (held > granted || bytes > granted - held)
      return false;
  } while (!mine.held.compare_exchange_weak(held, held + bytes));
  if (mine.granted.load() < held + bytes) { // somebody took the unused part in between
    mine.held.fetch_sub(bytes);
    return false;
  }
  note_peak(device, held + bytes);
  return true;
}

bool Ledger::reserve_slowly(unsigned device, std::uint64_t bytes) noexcept {
  const std::lock_guard lock(asking_);
  for (unsigned attempt = 0; attempt < kMaxAttempts; ++attempt) {
    if (!leases_are_current())
      renew_leases();
    if (take_from_lease(device, bytes))
      return true;
    if (!widen_lease(device, bytes))
      return false;
  }
  return false;
}

// Makes room for `bytes` in this process' lease; another thread may still be quicker to use it.
bool Ledger::widen_lease(unsigned device, std::uint64_t bytes) noexcept {
  const layout::DeviceAccount& mine = slot_->devices[device];
  const std::uint64_t spare = std::min(region_.vram_limit(device) / kSparePart, kMaxSpare);
  for (unsigned attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const std::uint64_t granted = bounded(mine.granted), held = bounded(mine.held), wanted = held + bytes;
    if (wanted <= granted)
      return true;
    Tally seen;
    switch (ask(device, wanted - std::max(granted, held) + (attempt == 0 ? spare : 0), seen)) {
    case Answer::Given:
      return true;
    case Answer::Busy:
      step_aside(attempt, slot_index_);
      break;
    case Answer::OverLimit:
      // Seen twice alike, so that it is no mixture of before and after a transfer between two others.
      if (attempt > 2 && tally(device) == seen)
        return false;
      break;
    }
    if (attempt >= 1)
      take_unused_of_others(device);
    if (attempt == 2)
      free_slots_of_dead(account_, owner_);
  }
  return false;
}

Ledger::Answer Ledger::ask(unsigned device, std::uint64_t bytes, Tally& seen) noexcept {
  layout::DeviceAccount& mine = slot_->devices[device];
  mine.asking.store(bytes);
  seen = tally(device);
  const std::uint64_t limit = region_.vram_limit(device);
  if (seen.firm + seen.pending + bytes <= limit) {
    // Before `asking` goes: others may count it twice, never not at all.
    mine.granted.fetch_add(seen.beyond_lease + bytes);
    mine.asking.store(0);
    return Answer::Given;
  }
  mine.asking.store(0);
  return seen.firm + bytes <= limit ? Answer::Busy : Answer::OverLimit;
}

// Within a slot `asking` is read before `granted`, and `granted` before `held`: bytes move in that direction.
Ledger::Tally Ledger::tally(unsigned device) const noexcept {
  Tally sum;
  for (std::uint32_t index = 0; index < slots_used(account_); ++index) {
    const layout::Process& slot = account_.processes[index];
    if (!counts(slot.owner.load()))
      continue;
    const layout::DeviceAccount& account = slot.devices[device];
    const std::uint64_t asking = bounded(account.asking), granted = bounded(account.granted);
    const std::uint64_t charged = std::max(granted, bounded(account.held));
    sum.firm += charged;
    if (index != slot_index_)
      sum.pending += asking;
    else
      sum.beyond_lease = charged - granted;
  }
  // After the slots: what a burial takes off them is counted here from then on, and at worst twice.
  sum.firm += orphaned_bytes(account_, device);
  return sum;
}

// The limits changed: nothing may be taken any more from what was granted under the old ones.
void Ledger::renew_leases() noexcept {
  lease_generation_.store(region_.limits().generation.load(), std::memory_order_relaxed);
  for (layout::DeviceAccount& account : slot_->devices)
    return_unused(account);
}

void Ledger::take_unused_of_others(unsigned device) noexcept {
  for (std::uint32_t index = 0; index < slots_used(account_); ++index) {
    layout::Process& slot = account_.processes[index];
    if (index != slot_index_ && counts(slot.owner.load()))
      return_unused(slot.devices[device]);
  }
}

// A slice that was left by kill -9 shows room again, although nobody has hit its limit yet.
void Ledger::bury_the_dead_now_and_then() noexcept {
  if (slots_used(account_) < 2)
    return;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now); // no system call: the vDSO answers
  const std::uint64_t ns =
      static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
  std::uint64_t last = last_burial_.load(std::memory_order_relaxed);
  if (ns - last >= kTicksBetweenBurials && last_burial_.compare_exchange_strong(last, ns)) {
    free_slots_of_dead(account_, owner_);
  }
}

std::uint64_t Ledger::held_by_all(unsigned device) const noexcept {
  std::uint64_t sum = 0;
  for (std::uint32_t index = 0; index < slots_used(account_); ++index) {
    const layout::Process& slot = account_.processes[index];
    if (counts(slot.owner.load(std::memory_order_acquire)))
      sum += bounded(slot.devices[device].held);
  }
  return sum + orphaned_bytes(account_, device);
}

// The sum over all processes is only looked at when this one is higher than ever, or has risen by a step
// since the last look, so that the usual allocation stays within its own cache line.
void Ledger::note_peak(unsigned device, std::uint64_t held) noexcept {
  std::atomic<std::uint64_t>& mine = slot_->devices[device].peak;
  const bool highest = held > mine.load(std::memory_order_relaxed);
  const std::uint64_t step = region_.vram_limit(device) / kPeakSamplePart;
  if (!highest && held < sampled_[device].load(std::memory_order_relaxed) + step)
    return;
  sampled_[device].store(held, std::memory_order_relaxed);
  raise_to(mine, held);
  raise_to(account_.peak[device], held_by_all(device));
}

} // namespace aliquot::limiter
