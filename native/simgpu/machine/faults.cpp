#include "native/simgpu/machine/faults.hpp"

#include <algorithm>
#include <climits>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/machine.hpp"
#include "native/simgpu/machine/process_identity.hpp"
#include "native/simgpu/machine/records.hpp"

namespace aliquot::simgpu::machine {
namespace {

// Numbers of CUresult (cuda.h), which this layer does not include.
constexpr int kEccUncorrectable = 214, kIllegalAddress = 700, kLaunchTimeout = 702, kLaunchFailed = 719,
              kContained = 226, kUnknown = 999;
constexpr std::uint64_t kMs = 1'000'000;

// What an Xid does to the work of those whom it concerns (the vendor's "XID Errors" guide): 0 is nothing.
int error_of_xid(std::uint32_t xid) noexcept {
  switch (xid) {
  case 13:  // graphics engine exception
  case 45:  // preemptive removal of work
  case 62:  // internal micro-controller halt
  case 64:  // row remapping or page retirement failed to be recorded
  case 69:  // graphics engine class error
  case 74:  // NVLink error
  case 109: // context switch timeout
  case 119: // GSP does not answer
  case 120: // GSP error
    return kLaunchFailed;
  case 8: // the GPU stopped processing
    return kLaunchTimeout;
  case 31: // memory management fault
    return kIllegalAddress;
  case 48: // double-bit ECC error
  case 95: // uncontained ECC error
    return kEccUncorrectable;
  case 94: // contained ECC error
    return kContained;
  case 79: // fallen off the bus
    return kUnknown;
  default:
    return 0;
  }
}

bool needs_reset(std::uint32_t xid) noexcept {
  return xid == 48 || xid == 62 || xid == 64 || xid == 74 || xid == 79 || xid == 95 || xid == 119 ||
         xid == 120;
}

std::uint64_t realtime_ns() noexcept {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint32_t* futex_word(Word& word) noexcept {
  return reinterpret_cast<std::uint32_t*>(&word);
}

std::uint64_t pid_part(std::int32_t pid) noexcept {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(pid)) << 32;
}

} // namespace

std::uint64_t EccCounters::total(bool aggregate, bool is_uncorrected) const noexcept {
  const auto& counters = is_uncorrected ? uncorrected : corrected;
  std::uint64_t sum = 0;
  for (const std::uint64_t count : counters[aggregate ? 1 : 0])
    sum += count;
  return sum;
}

// ---- events -----------------------------------------------------------------------------------------------

std::uint64_t Faults::last_event() const noexcept {
  return region_.events.load();
}

std::uint64_t Faults::post(std::uint32_t card, EventKind kind, std::uint64_t data, std::int32_t pid,
                           std::uint32_t gpu_instance, std::uint32_t compute_instance) noexcept {
  const std::uint64_t index = region_.events.fetch_add(1);
  write_record<kEventWords>(region_.event[index % kEvents], index + 1,
                            {card, static_cast<std::uint64_t>(kind), data,
                             static_cast<std::uint64_t>(static_cast<std::uint32_t>(pid)), monotonic_ns(),
                             realtime_ns(), std::uint64_t{gpu_instance} << 32 | compute_instance, 0});
  ::syscall(SYS_futex, futex_word(region_.events), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  return index + 1;
}

std::optional<DeviceEvent> Faults::next_event(std::uint64_t& after) const {
  const std::uint64_t last = last_event();
  if (after > last) // the region was made anew
    after = last;
  if (last - after > kEvents)
    after = last - kEvents;
  while (after < last) {
    const Record<kEventWords>& record = region_.event[after % kEvents];
    std::array<std::uint64_t, kEventWords> words;
    // The one who counted it may not have written it yet, or may have been killed before.
    const bool whole = read_record(record, words) && record.sequence.load() == after + 1;
    if (!whole && after + 1 == last)
      return std::nullopt;
    ++after;
    if (!whole || words[0] >= cards_.size())
      continue;
    return DeviceEvent{
        after,    static_cast<std::uint32_t>(words[0]),       static_cast<EventKind>(words[1]),
        words[2], static_cast<std::int32_t>(words[3]),        words[4],
        words[5], static_cast<std::uint32_t>(words[6] >> 32), static_cast<std::uint32_t>(words[6])};
  }
  return std::nullopt;
}

bool Faults::wait_event(std::uint64_t after, std::uint64_t timeout_ns) const noexcept {
  const std::uint64_t end = monotonic_ns() + std::min<std::uint64_t>(timeout_ns, 1ULL << 60);
  for (;;) {
    const std::uint64_t last = last_event();
    if (last != after)
      return true;
    const std::uint64_t now = monotonic_ns();
    if (now >= end)
      return false;
    const std::uint64_t left = std::min<std::uint64_t>(end - now, 1'000'000'000);
    const timespec nap{.tv_sec = static_cast<time_t>(left / 1'000'000'000),
                       .tv_nsec = static_cast<long>(left % 1'000'000'000)};
    ::syscall(SYS_futex, futex_word(region_.events), FUTEX_WAIT, static_cast<std::uint32_t>(last), &nap,
              nullptr, 0);
  }
}

// ---- state ------------------------------------------------------------------------------------------------

bool Faults::lost(std::uint32_t card) const noexcept {
  return card < cards_.size() && region_.fault[card].lost_since.load() != 0;
}

bool Faults::reset_needed(std::uint32_t card) const noexcept {
  return card < cards_.size() && region_.fault[card].reset_needed.load() != 0;
}

EccCounters Faults::ecc(std::uint32_t card) const noexcept {
  EccCounters counters;
  for (std::size_t life = 0; card < cards_.size() && life < 2; ++life)
    for (std::size_t where = 0; where < kEccLocations; ++where) {
      counters.corrected[life][where] = region_.fault[card].ecc[life][0][where].load();
      counters.uncorrected[life][where] = region_.fault[card].ecc[life][1][where].load();
    }
  return counters;
}

void Faults::clear_ecc(std::uint32_t card, bool aggregate) noexcept {
  if (card >= cards_.size())
    return;
  for (auto& kind : region_.fault[card].ecc[aggregate ? 1 : 0])
    for (Word& word : kind)
      word.store(0);
}

RowRemaps Faults::row_remaps(std::uint32_t card) const noexcept {
  if (card >= cards_.size())
    return {};
  const FaultState& state = region_.fault[card];
  return {state.remapped[0].load(), state.remapped[1].load(), state.remap_pending.load() != 0,
          state.remap_failed.load() != 0};
}

std::vector<RetiredPage> Faults::retired_pages(std::uint32_t card) const {
  std::vector<RetiredPage> pages;
  if (card >= cards_.size())
    return pages;
  const FaultState& state = region_.fault[card];
  const std::uint64_t count = std::min<std::uint64_t>(state.retired_count.load(), kRetiredPages);
  for (std::uint64_t i = 0; i < count; ++i) {
    std::array<std::uint64_t, 3> words;
    if (read_record(state.retired[i], words))
      pages.push_back({words[0], words[2], words[1] != 0});
  }
  return pages;
}

Throttle Faults::throttle(std::uint32_t card) const noexcept {
  if (card >= cards_.size())
    return {};
  const std::uint64_t word = region_.fault[card].throttle.load();
  const auto percent = static_cast<std::uint32_t>(word & 0xffffffff);
  return {word >> 32, percent == 0 ? 100 : std::clamp(percent, 1u, 100u),
          static_cast<std::uint32_t>(region_.fault[card].temperature.load())};
}

Hang Faults::hang(std::uint32_t card) const noexcept {
  if (card >= cards_.size())
    return {};
  const FaultState& state = region_.fault[card];
  const std::uint64_t word = state.hang.load();
  return {(word & 1) != 0, static_cast<std::int32_t>(word >> 32),
          static_cast<std::uint32_t>(word & 0xffffffff) >> 1, state.hung.load(), state.hung_since.load()};
}

// ---- on demand --------------------------------------------------------------------------------------------

// `target`: 0 for everybody, a pid, or a whole identity.
void Faults::end_contexts(std::uint32_t card, int error, std::uint64_t target, std::uint32_t xid) noexcept {
  FaultState& state = region_.fault[card];
  const std::uint64_t index = state.fatals.fetch_add(1);
  write_record<4>(state.fatal[index % kFatals], index + 1,
                  {static_cast<std::uint64_t>(error), target, 0, xid});
}

void Faults::inject_xid(std::uint32_t card, std::uint32_t xid, std::int32_t pid) noexcept {
  if (card >= cards_.size())
    return;
  FaultState& state = region_.fault[card];
  const std::uint64_t now = monotonic_ns();
  if (xid == 79)
    state.lost_since.store(now);
  // What only one process met does not stop the card.
  if (needs_reset(xid) && (pid == 0 || xid == 79))
    state.reset_needed.store(now);
  if (const int error = error_of_xid(xid); error != 0)
    end_contexts(card, error, xid == 79 ? 0 : static_cast<std::uint64_t>(static_cast<std::uint32_t>(pid)),
                 xid);
  post(card, EventKind::Xid, xid, pid);
  if (xid == 79)
    post(card, EventKind::Lost, 0);
}

// Ampere and later map another row in; older cards retire the page.
void Faults::record_memory_fault(std::uint32_t card, bool double_bit, std::uint32_t count) noexcept {
  FaultState& state = region_.fault[card];
  if (cards_[card].model->compute_major >= 8) {
    state.remapped[double_bit ? 1 : 0].fetch_add(count);
    if (double_bit)
      state.remap_pending.store(1);
    post(card, EventKind::Xid, 63);
    post(card, EventKind::RowRemap, double_bit ? 2 : 1);
    return;
  }
  const std::uint64_t index = state.retired_count.fetch_add(1);
  if (index >= kRetiredPages) {
    state.retired_count.store(kRetiredPages);
    return;
  }
  // Some page of the card, the same ones in the same order each time; pages are 64 KiB.
  const std::uint64_t pages = cards_[card].model->vram_bytes >> 16;
  write_record<3>(state.retired[index], index + 1,
                  {(index * 2654435761ULL % pages) << 16, double_bit ? 1ULL : 0, realtime_ns()});
  post(card, EventKind::Xid, 63);
  post(card, EventKind::PageRetired, double_bit ? 2 : 1);
}

void Faults::inject_ecc(std::uint32_t card, bool double_bit, EccLocation where, std::uint32_t count,
                        std::int32_t pid) noexcept {
  if (card >= cards_.size() || count == 0)
    return;
  for (std::size_t life = 0; life < 2; ++life)
    region_.fault[card]
        .ecc[life][double_bit ? 1 : 0][static_cast<std::size_t>(where) % kEccLocations]
        .fetch_add(count);
  post(card, double_bit ? EventKind::DoubleBitEcc : EventKind::SingleBitEcc, count, pid);
  if (!double_bit)
    return;
  if (where == EccLocation::Dram)
    record_memory_fault(card, true, count);
  const bool contains = cards_[card].model->compute_major >= 8;
  inject_xid(card, 48, pid);
  if (contains)
    post(card, EventKind::Xid, pid != 0 ? 94 : 95, pid);
  else
    post(card, EventKind::Xid, 45, pid);
}

void Faults::lose(std::uint32_t card) noexcept {
  inject_xid(card, 79, 0);
}

void Faults::arm_hang(std::uint32_t card, std::int32_t pid, std::uint32_t watchdog_ms) noexcept {
  if (card < cards_.size())
    region_.fault[card].hang.store(pid_part(pid) | std::uint64_t{watchdog_ms & 0x7fffffff} << 1 | 1);
}

void Faults::set_throttle(std::uint32_t card, const Throttle& throttle) noexcept {
  if (card >= cards_.size())
    return;
  FaultState& state = region_.fault[card];
  state.temperature.store(throttle.temperature_mc);
  state.throttle.store(throttle.reasons << 32 | std::clamp(throttle.clock_percent, 1u, 100u));
  post(card, EventKind::Throttle, throttle.reasons);
  post(card, EventKind::Clock, throttle.clock_percent);
}

void Faults::fail_allocation(std::uint32_t card, std::uint32_t nth, std::uint32_t times,
                             std::int32_t pid) noexcept {
  if (card < cards_.size())
    region_.fault[card].fail_allocation.store(pid_part(pid) | std::uint64_t{std::min(nth, 0xffffu)} << 16 |
                                              std::min(times, 0xffffu));
}

void Faults::clear(std::uint32_t card) noexcept {
  if (card >= cards_.size())
    return;
  FaultState& state = region_.fault[card];
  for (Word* word : {&state.lost_since, &state.reset_needed, &state.hang, &state.hung, &state.hung_since,
                     &state.throttle, &state.temperature, &state.fail_allocation, &state.remap_pending})
    word->store(0);
  clear_ecc(card, false);
  post(card, EventKind::Cleared, 0);
}

// ---- for the driver ---------------------------------------------------------------------------------------

std::uint64_t Faults::last_fatal(std::uint32_t card) const noexcept {
  return region_.fault[card].fatals.load(std::memory_order_acquire);
}

std::optional<FatalFault> Faults::next_fatal(std::uint32_t card, std::uint32_t unit, std::uint64_t identity,
                                             std::uint64_t& after) const noexcept {
  const FaultState& state = region_.fault[card];
  const std::uint64_t last = last_fatal(card);
  if (after > last || last - after > kFatals)
    after = last > kFatals ? last - kFatals : 0;
  while (after < last) {
    const Record<4>& record = state.fatal[after % kFatals];
    std::array<std::uint64_t, 4> words;
    const bool whole = read_record(record, words) && record.sequence.load() == after + 1;
    if (!whole && after + 1 == last)
      return std::nullopt; // being written: seen at the next look
    ++after;
    const auto pid = static_cast<std::uint64_t>(static_cast<std::uint32_t>(identity_pid(identity)));
    const bool ours = words[1] == 0 || words[1] == identity || words[1] == pid;
    if (whole && ours && (words[2] == 0 || words[2] == unit))
      return FatalFault{after, static_cast<int>(words[0]), static_cast<std::uint32_t>(words[3])};
  }
  return std::nullopt;
}

bool Faults::allocation_fails(std::uint32_t card, std::int32_t pid) noexcept {
  Word& word = region_.fault[card].fail_allocation;
  std::uint64_t now = word.load(std::memory_order_relaxed);
  while (now != 0) {
    const auto target = static_cast<std::int32_t>(now >> 32);
    if (target != 0 && target != pid)
      return false;
    std::uint64_t calls = now >> 16 & 0xffff, times = now & 0xffff;
    const bool fails = calls <= 1;
    if (fails)
      times = times == 0 ? 0 : times - 1;
    else
      --calls;
    const std::uint64_t next = times == 0 ? 0 : pid_part(target) | calls << 16 | times;
    if (word.compare_exchange_weak(now, next))
      return fails;
  }
  return false;
}

bool Faults::hangs(std::uint32_t card, std::uint64_t identity) noexcept {
  FaultState& state = region_.fault[card];
  const std::uint64_t word = state.hang.load(std::memory_order_relaxed);
  if ((word & 1) == 0)
    return false;
  const auto target = static_cast<std::int32_t>(word >> 32);
  if (target != 0 && target != identity_pid(identity))
    return false;
  std::uint64_t hung = state.hung.load();
  if (hung != 0 && hung != identity && life_of(hung) != Life::Dead)
    return false;
  if (hung != identity && state.hung.compare_exchange_strong(hung, identity))
    state.hung_since.store(monotonic_ns());
  return state.hung.load() == identity;
}

bool Faults::watchdog(std::uint32_t card) noexcept {
  const Hang now = hang(card);
  FaultState& state = region_.fault[card];
  if (now.hung == 0 || now.watchdog_ms == 0 || monotonic_ns() - now.since_ns < now.watchdog_ms * kMs)
    return false;
  std::uint64_t hung = now.hung;
  if (!state.hung.compare_exchange_strong(hung, 0))
    return false; // another one ended it
  state.hang.store(0);
  end_contexts(card, kLaunchTimeout, now.hung, 8);
  post(card, EventKind::Xid, 8, identity_pid(now.hung));
  return true;
}

} // namespace aliquot::simgpu::machine
