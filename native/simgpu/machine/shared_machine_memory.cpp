// Memory of the cards and of the host that stands for it: what is taken, given back, in use.
#include <algorithm>
#include <cstddef>

#include "native/common/log.hpp"
#include "native/simgpu/machine/account.hpp"
#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/shared_machine.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

constexpr std::uint64_t kComplainEveryNs = 10'000'000'000;
constexpr std::uint64_t kReadFreeEveryNs = 10'000'000;
// Smaller requests are not worth looking for; their sum is within the budget.
constexpr std::uint64_t kCheckFreeFrom = 16ULL << 20;

void raise_to(Word& word, std::uint64_t value) noexcept {
  std::uint64_t now = word.load();
  while (now < value && !word.compare_exchange_weak(now, value)) {
  }
}

unsigned long long mib(std::uint64_t bytes) noexcept {
  return bytes >> 20;
}

} // namespace

// One request at a time.
bool SharedMachine::take_vram(std::uint32_t card, std::uint64_t bytes) noexcept {
  const Place& place = places_[card];
  Account& account = region_.vram[place.memory_unit];
  const std::uint64_t client =
      place.client_limit - std::min(place.client_limit, account_held(account, slot_));
  if (mps_enabled(card) && bytes > client)
    return false;
  const std::uint64_t total = place.memory_bytes;
  const std::uint64_t room =
      total - std::min(total, orphaned_bytes(region_.slots, region_.imports, place.memory_unit));
  if (!account_take(region_.slots, account, slot_, bytes, room, [this] { reap(); }))
    return false;
  raise_to(region_.usage[slot_][place.engine_unit].peak, account_held(account, slot_));
  return true;
}

Status SharedMachine::reserve(std::uint32_t card, std::uint64_t bytes) noexcept {
  if (!usable(card))
    return Status::Unavailable;
  const std::lock_guard lock(reserving_);
  if (!take_vram(card, bytes))
    return Status::OutOfVram;
  if (fits_host(bytes))
    return Status::Ok;
  release_overhead(card, bytes);
  return Status::OutOfHostBudget;
}

Status SharedMachine::reserve_overhead(std::uint32_t card, std::uint64_t bytes) noexcept {
  if (!usable(card))
    return Status::Unavailable;
  const std::lock_guard lock(reserving_);
  return take_vram(card, bytes) ? Status::Ok : Status::OutOfVram;
}

void SharedMachine::release_overhead(std::uint32_t card, std::uint64_t bytes) noexcept {
  if (usable(card))
    account_give(region_.vram[places_[card].memory_unit], slot_, bytes);
}

std::uint64_t SharedMachine::context_bytes(std::uint32_t card) const noexcept {
  const std::uint64_t set = card < cards_.size() ? region_.settings[card].context_memory.load() : 0;
  return set - 1; // stored with one added, so that 0 is the usual
}

void SharedMachine::set_context_bytes(std::uint32_t card, std::uint64_t bytes) noexcept {
  if (card < cards_.size())
    region_.settings[card].context_memory.store(bytes + 1);
}

bool SharedMachine::fits_host(std::uint64_t bytes) noexcept {
  const std::uint64_t orphans = orphaned_bytes(region_.slots, region_.imports, kAnyUnit);
  const std::uint64_t room = limits_.home - std::min(limits_.home, orphans);
  if (!account_take(region_.slots, region_.host, slot_, bytes, room, [this] { reap(); })) {
    refuse_budget(bytes, limits_.home, account_used(region_.slots, region_.host), "this simulated machine");
    return false;
  }
  if (host_attached_ &&
      !account_take(host_->slots, host_->bytes, host_slot_, bytes, limits_.user, [this] { reap_host(); })) {
    refuse_budget(bytes, limits_.user, account_used(host_->slots, host_->bytes),
                  "your simulated machines together");
    account_give(region_.host, slot_, bytes);
    return false;
  }
  if (host_has_free(bytes))
    return true;
  give_host(bytes);
  return false;
}

// One line in a while, however often a program asks.
bool SharedMachine::may_complain() noexcept {
  const std::uint64_t now = monotonic_ns();
  std::uint64_t last = last_complaint_.load();
  return (last == 0 || now - last > kComplainEveryNs) && last_complaint_.compare_exchange_strong(last, now);
}

bool SharedMachine::host_has_free(std::uint64_t bytes) noexcept {
  if (bytes < kCheckFreeFrom)
    return true;
  const std::uint64_t now = monotonic_ns();
  if (now - host_memory_read_ > kReadFreeEveryNs || bytes > host_memory_.available) {
    host_memory_ = read_host_memory();
    host_memory_read_ = now;
  }
  const HostMemory& memory = host_memory_;
  if (memory.total == 0 || bytes <= memory.available)
    return true;
  if (may_complain())
    common::log_line(
        common::LogLevel::Warning,
        "refused %llu MiB of simulated VRAM: host memory backs it, and only %llu MiB of that are free. "
        "Close other programs, or use less.",
        mib(bytes), mib(memory.available));
  return false;
}

void SharedMachine::refuse_budget(std::uint64_t bytes, std::uint64_t limit, std::uint64_t held,
                                  const char* whose) noexcept {
  if (may_complain())
    common::log_line(
        common::LogLevel::Warning,
        "refused %llu MiB of simulated VRAM: host memory backs it, and %s may take %llu MiB of it, of "
        "which %llu MiB are reserved. ALIQUOT_SIMGPU_HOST_BYTES (for example %lluGiB) raises the budget.",
        mib(bytes), whose, mib(limit), mib(held), (mib(held + bytes) >> 10) + 1);
}

void SharedMachine::release(std::uint32_t card, std::uint64_t bytes) noexcept {
  if (usable(card))
    give_host(account_give(region_.vram[places_[card].memory_unit], slot_, bytes));
}

void SharedMachine::give_host(std::uint64_t bytes) noexcept {
  account_give(region_.host, slot_, bytes);
  if (host_attached_)
    account_give(host_->bytes, host_slot_, bytes);
}

bool SharedMachine::import(std::uint32_t card, std::uint64_t owner, std::uint64_t key,
                           std::uint64_t bytes) noexcept try {
  return usable(card) && imports_->add(owner, key, places_[card].memory_unit, bytes);
} catch (...) { // no memory to remember it
  return false;
}

void SharedMachine::unimport(std::uint64_t owner, std::uint64_t key) noexcept {
  if (usable(0))
    imports_->remove(owner, key);
}

// Of the instance that this process uses, or of the card with all its instances.
VramInfo SharedMachine::vram(std::uint32_t card) noexcept {
  if (card >= cards_.size())
    return {};
  if (identity_ == 0) // who only looks sees no dead; programs on the card ask too often for that
    reap();
  else
    reap_now_and_then();
  const Place& place = places_[card];
  const std::uint32_t units = place.memory_unit % kUnitsPerCard == 0 ? kUnitsPerCard : 1;
  std::uint64_t used = 0;
  for (std::uint32_t unit = place.memory_unit; unit < place.memory_unit + units; ++unit) {
    used += std::min(account_used(region_.slots, region_.vram[unit]), place.memory_bytes);
    used += std::min(orphaned_bytes(region_.slots, region_.imports, unit), place.memory_bytes);
  }
  return {place.memory_bytes, std::min(place.memory_bytes, used)};
}

HostBudget SharedMachine::host_budget() {
  reap();
  const std::uint64_t orphans =
      std::min(orphaned_bytes(region_.slots, region_.imports, kAnyUnit), limits_.home);
  HostBudget budget{limits_.home, account_used(region_.slots, region_.host) + orphans, 0};
  if (host_ != nullptr) {
    reap_host();
    budget.reserved_by_user = account_used(host_->slots, host_->bytes);
  }
  return budget;
}

} // namespace aliquot::simgpu::machine
