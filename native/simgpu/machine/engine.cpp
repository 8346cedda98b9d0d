#include "native/simgpu/machine/engine.hpp"

#include <algorithm>
#include <chrono>
#include <climits>
#include <linux/futex.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/journal.hpp"
#include "native/simgpu/machine/records.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kNapNs = 10 * kMs; // a waiter shows itself at least this often
constexpr std::uint64_t kFreshNs =
    60 * kMs; // one that has not for this long is looked at before it is handed a turn
constexpr std::uint64_t kForgetNs = 1000 * kMs; // and after this long its wish is dropped (it renews it)
constexpr std::uint64_t kLookNs = 20 * kMs;     // a turn seen for this long makes a waiter look at its holder
constexpr std::uint64_t kOverrunNs =
    250 * kMs;                               // a live holder that does not poll for this long loses its turn
constexpr std::uint64_t kSettleNs = 1 * kMs; // busy time is booked at least this often while polling
constexpr std::uint64_t kMostServed = 1ULL << 54; // a year: what a region says may be anything
constexpr std::uint64_t kAwayNs = 50 * kMs;  // who has been idle for this long starts level with the others
constexpr std::uint64_t kCatchUpSlices = 25; // the most by which a turn is longer for who has had less
constexpr std::uint64_t kMergeNs = 20'000;   // runs of one process this close make one interval
constexpr std::uint64_t kCutNs = 1000 * kMs; // and no interval of several runs is longer than about this

constexpr std::uint64_t owner_word(std::uint64_t turn, std::uint32_t holder) {
  return turn << 16 | holder;
}
constexpr std::uint64_t turn_of(std::uint64_t word) {
  return word >> 16;
}
constexpr std::uint32_t holder_of(std::uint64_t word) {
  return static_cast<std::uint32_t>(word & 0xffff);
}

// How often this process lost a core of the host that it still wanted.
long switches() noexcept {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

// The low half of the owner word; it changes with every turn.
std::uint32_t* futex_word(Word& word) noexcept {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  return reinterpret_cast<std::uint32_t*>(&word);
}

// Waiters sleep under the bit of their slot, so that a hand-over wakes the one it is meant for.
std::uint32_t bell(std::uint32_t slot) noexcept {
  return 1u << (slot % 32);
}

void futex_wait(Word& word, std::uint64_t seen, std::uint32_t bits, std::uint64_t until_ns) noexcept {
  const timespec until{.tv_sec = static_cast<time_t>(until_ns / 1'000'000'000),
                       .tv_nsec = static_cast<long>(until_ns % 1'000'000'000)};
  ::syscall(SYS_futex, futex_word(word), FUTEX_WAIT_BITSET, static_cast<std::uint32_t>(seen), &until, nullptr,
            bits);
}

void futex_wake(Word& word, std::uint32_t bits) noexcept {
  ::syscall(SYS_futex, futex_word(word), FUTEX_WAKE_BITSET, INT_MAX, nullptr, nullptr, bits);
}

// Times of other threads may be a little ahead. One far ahead is no time, and counts as long ago.
std::uint64_t since(std::uint64_t now, std::uint64_t then) noexcept {
  if (now >= then)
    return now - then;
  return then - now < kForgetNs ? 0 : ~std::uint64_t{0};
}

} // namespace

Engine::Engine(MachineRegion& region, Journal& journal, std::uint32_t unit, std::uint32_t slot,
               std::uint64_t identity, std::uint64_t default_slice_ns) noexcept
    : state_(region.engine[unit]), region_(region), usage_(region.usage[slot][unit]),
      settings_(region.settings[unit / kUnitsPerCard]), journal_(journal), unit_(unit), slot_(slot),
      identity_(identity), default_slice_ns_(default_slice_ns) {}

bool Engine::overlaps() const noexcept {
  return settings_.mps.load(std::memory_order_relaxed) != 0;
}

std::uint64_t Engine::slice_ns() const noexcept {
  const std::uint64_t set = settings_.slice_ns.load(std::memory_order_relaxed);
  return set == 0 ? default_slice_ns_ : std::clamp(set, kShortestSliceNs, kLongestSliceNs);
}

Engine::~Engine() {
  if (disowned_)
    return;
  if (holders_ != 0)
    pass_turn();
  flush_run();
}

// ---- this process' threads
// -------------------------------------------------------------------------------------

bool Engine::acquire(const std::atomic<bool>& give_up) {
  std::unique_lock lock(mutex_);
  while (!give_up.load(std::memory_order_relaxed)) {
    if (holders_ > 0 && !should_yield()) {
      ++holders_;
      return true;
    }
    if (holders_ == 0 && !queueing_) {
      queueing_ = true;
      lock.unlock();
      const bool taken = take_turn(give_up);
      lock.lock();
      queueing_ = false;
      holders_ = taken ? 1 : 0;
      changed_.notify_all();
      return taken;
    }
    changed_.wait_for(lock, std::chrono::milliseconds(5));
  }
  return false;
}

void Engine::release() {
  const std::unique_lock lock(mutex_);
  if (holders_ == 0)
    return;
  if (--holders_ == 0) {
    pass_turn();
    changed_.notify_all();
  }
}

bool Engine::should_yield() noexcept {
  const std::uint64_t now = monotonic_ns();
  if (overlapping_.load(std::memory_order_relaxed)) {
    usage_.last_seen.store(now, std::memory_order_relaxed);
    if (since(now, accounted_.load(std::memory_order_relaxed)) >= kSettleNs)
      settle(now);
    return !overlaps(); // the card went back to turns
  }
  if (state_.owner.load(std::memory_order_relaxed) != turn_.load(std::memory_order_relaxed)) {
    accounted_.store(now, std::memory_order_relaxed); // the turn was taken away: this time is not ours
    return true;
  }
  usage_.last_seen.store(now, std::memory_order_relaxed);
  if (since(now, accounted_.load(std::memory_order_relaxed)) >= kSettleNs)
    settle(now);
  if (now < slice_end_.load(std::memory_order_relaxed))
    return false;
  return others_wait();
}

// ---- taking a turn
// ---------------------------------------------------------------------------------------------

bool Engine::take_turn(const std::atomic<bool>& give_up) noexcept {
  if (overlaps()) {
    take_overlapping_turn();
    return true;
  }
  if (try_free_engine())
    return true;
  join();
  raise_hand(true);
  const bool taken = wait_in_line(give_up);
  raise_hand(false);
  const std::uint64_t word = state_.owner.load();
  if (holder_of(word) == slot_ + 1 && (!taken || overlapping_.load(std::memory_order_relaxed))) {
    // Handed to us while we gave up, or began to overlap: pass it on.
    std::uint32_t next;
    usage_.turn.store(word, std::memory_order_relaxed);
    hand_over(word, next);
  }
  return taken;
}

bool Engine::try_free_engine() noexcept {
  std::uint64_t word = state_.owner.load();
  if (holder_of(word) != 0 || others_wait())
    return false;
  const std::uint64_t mine = owner_word(turn_of(word) + 1, slot_ + 1);
  if (!state_.owner.compare_exchange_strong(word, mine))
    return false;
  accept(mine);
  return true;
}

bool Engine::wait_in_line(const std::atomic<bool>& give_up) noexcept {
  std::uint64_t watched = 0, watched_since = 0;
  while (!give_up.load()) {
    const std::uint64_t now = monotonic_ns();
    usage_.last_seen.store(now);
    std::uint64_t word = state_.owner.load();
    if (holder_of(word) == slot_ + 1) {
      accept(word);
      return true;
    }
    if (overlaps()) { // from now on, for all
      take_overlapping_turn();
      return true;
    }
    if (holder_of(word) == 0) {
      const std::uint64_t mine = owner_word(turn_of(word) + 1, slot_ + 1);
      if (state_.owner.compare_exchange_strong(word, mine)) {
        accept(mine);
        return true;
      }
      continue;
    }
    if (word != watched) {
      watched = word;
      watched_since = now;
    } else if (now - watched_since >= kLookNs) {
      take_from_unfit_holder(word, now - watched_since);
      if (state_.owner.load() != word)
        continue;
    }
    raise_hand(true); // a holder that took us for dead has lowered it
    futex_wait(state_.owner, word, bell(slot_), now + kNapNs);
  }
  return false;
}

// A holder is unfit if it is gone, stopped, never took up the turn, or runs on without polling.
bool Engine::unfit(std::uint64_t word, std::uint64_t waited_ns) const noexcept {
  const std::uint32_t holder = holder_of(word) - 1;
  if (holder >= kMaxProcesses)
    return true;
  const std::uint64_t identity = live_identity(region_.slots, holder);
  if (identity == 0 || life_of(identity) != Life::Alive)
    return true;
  const Usage& usage = region_.usage[holder][unit_];
  const bool taken_up = usage.turn.load() == word;
  return (taken_up ? since(monotonic_ns(), usage.last_seen.load()) : waited_ns) > kOverrunNs;
}

void Engine::take_from_unfit_holder(std::uint64_t word, std::uint64_t waited_ns) noexcept {
  if (!unfit(word, waited_ns))
    return;
  const std::uint32_t holder = holder_of(word) - 1;
  if (holder < kMaxProcesses) {
    const Usage& usage = region_.usage[holder][unit_];
    if (usage.turn.load() == word)
      bury_run(journal_, unit_, usage, region_.slots.identity[holder].load());
    state_.waiting[holder / 64].fetch_and(~(std::uint64_t{1} << (holder % 64)));
  }
  std::uint32_t next;
  if (hand_over(word, next) && next != slot_)
    ring(next);
}

void Engine::accept(std::uint64_t word) noexcept {
  const std::uint64_t now = monotonic_ns();
  // Free turns count one, ours another: nobody was between if the distance is two.
  const bool alone = turn_of(word) == turn_of(turn_.load(std::memory_order_relaxed)) + 2;
  overlapping_.store(false, std::memory_order_relaxed);
  begin_run(now, alone);
  usage_.turn.store(word, std::memory_order_relaxed);
  slice_end_.store(now + fair_slice(now), std::memory_order_relaxed);
  turn_.store(word, std::memory_order_relaxed);
}

// Under MPS nobody waits for anybody.
void Engine::take_overlapping_turn() noexcept {
  const std::uint64_t now = monotonic_ns();
  begin_run(now, overlapping_.exchange(true, std::memory_order_relaxed));
}

// `extends`: nobody had the engine since our last run, so a short pause makes no new interval.
void Engine::begin_run(std::uint64_t now_ns, bool extends) noexcept {
  const std::uint64_t run_start = usage_.run_start.load(std::memory_order_relaxed);
  if (!extends || since(now_ns, usage_.run_end.load(std::memory_order_relaxed)) > kMergeNs ||
      since(now_ns, run_start) > kCutNs) {
    flush_run();
    usage_.run_busy.store(0, std::memory_order_relaxed);
    usage_.run_start.store(now_ns, std::memory_order_relaxed);
    run_overlaps_ = overlapping_.load(std::memory_order_relaxed);
  }
  usage_.run_end.store(0, std::memory_order_relaxed);
  usage_.last_seen.store(now_ns, std::memory_order_relaxed);
  accounted_.store(now_ns, std::memory_order_relaxed);
}

// Idle time is no credit: who comes back is taken to have had as much as those who are at it have had on
// average. Who was only short of a core of the host, as its switches against its will tell, was not idle.
void Engine::join() noexcept {
  const std::uint64_t served = usage_.served.load(), now = monotonic_ns();
  const std::uint64_t away = since(now, usage_.last_seen.load());
  if (served != 0 && (away <= kAwayNs || (away <= kForgetNs && switches() != switches_at_hand_over_)))
    return;
  const std::uint32_t holder = holder_of(state_.owner.load());
  std::uint64_t sum = 0, count = 0;
  for (std::uint32_t slot = 0; slot < slot_count(region_.slots); ++slot) {
    const bool waits = (state_.waiting[slot / 64].load() >> (slot % 64) & 1) != 0;
    const Usage& usage = region_.usage[slot][unit_];
    if (slot == slot_ || (!waits && slot + 1 != holder) || since(now, usage.last_seen.load()) > kOverrunNs)
      continue;
    sum += std::min(usage.served.load(), kMostServed);
    ++count;
  }
  if (count != 0)
    usage_.served.store(std::max(served, sum / count));
}

// Turns run over while others wait, because the host's cores are busy or a kernel cannot be suspended. So a
// turn is shorter for who has had more than those in line have had on average, and longer for who has had
// less.
std::uint64_t Engine::fair_slice(std::uint64_t now_ns) const noexcept {
  const std::uint64_t mine = usage_.served.load(), slice_now = slice_ns(), reach = kCatchUpSlices * slice_now;
  std::int64_t count = 0, lag = 0;
  for (std::uint32_t slot = 0; slot < slot_count(region_.slots); ++slot) {
    const bool waits = (state_.waiting[slot / 64].load() >> (slot % 64) & 1) != 0;
    const Usage& usage = region_.usage[slot][unit_];
    if (slot == slot_ || !waits || since(now_ns, usage.last_seen.load()) > kOverrunNs)
      continue;
    // Each difference is bounded: what a region says may be anything.
    const std::uint64_t served = usage.served.load();
    lag += served > mine ? static_cast<std::int64_t>(std::min(served - mine, reach))
                         : -static_cast<std::int64_t>(std::min(mine - served, reach));
    ++count;
  }
  const auto slice = static_cast<std::int64_t>(slice_now);
  const std::int64_t wanted = slice + (count != 0 ? lag / count : 0);
  return static_cast<std::uint64_t>(std::max(wanted, slice / 4));
}

// ---- passing it on
// ---------------------------------------------------------------------------------------------

void Engine::pass_turn() noexcept {
  const std::uint64_t now = monotonic_ns();
  if (overlapping_.load(std::memory_order_relaxed)) {
    settle(now);
    usage_.run_end.store(now, std::memory_order_relaxed);
    return;
  }
  const std::uint64_t word = turn_.load(std::memory_order_relaxed);
  if (state_.owner.load() != word) {
    // Taken away while we were stopped; who took it has recorded the run.
    usage_.run_start.store(0, std::memory_order_relaxed);
    return;
  }
  settle(now);
  usage_.run_end.store(now, std::memory_order_relaxed);
  std::uint32_t next;
  if (!hand_over(word, next)) {
    usage_.run_start.store(0, std::memory_order_relaxed);
    return;
  }
  if (next != kMaxProcesses) {
    switches_at_hand_over_ = switches();
    flush_run();
  }
}

// Gives the turn `word` to the next in line, or to nobody. False if it is no longer that turn.
bool Engine::hand_over(std::uint64_t word, std::uint32_t& next) noexcept {
  next = others_wait() || holder_of(word) != slot_ + 1 ? pick_next(holder_of(word) - 1) : kMaxProcesses;
  const std::uint32_t holder = next == kMaxProcesses ? 0 : next + 1;
  if (!state_.owner.compare_exchange_strong(word, owner_word(turn_of(word) + 1, holder)))
    return false;
  if (next != kMaxProcesses)
    ring(next);
  else if (others_wait()) // after the exchange: a hand raised in between is seen here, or sees the engine
                          // free
    futex_wake(state_.owner, FUTEX_BITSET_MATCH_ANY);
  return true;
}

// Whether a raised hand is of somebody who can take a turn.
bool Engine::fit(std::uint32_t slot, std::uint64_t now_ns) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << (slot % 64);
  if ((state_.waiting[slot / 64].load() & bit) == 0)
    return false;
  const std::uint64_t identity = live_identity(region_.slots, slot);
  const std::uint64_t silent = since(now_ns, region_.usage[slot][unit_].last_seen.load());
  // A silent one may be dead or stopped, or only short of a core.
  if (identity != 0 && (silent <= kFreshNs || life_of(identity) == Life::Alive))
    return true;
  if (silent > kForgetNs)
    state_.waiting[slot / 64].fetch_and(~bit);
  return false;
}

// The first in line after slot `after`, unless another has had less by more than a slice. kMaxProcesses:
// nobody.
std::uint32_t Engine::pick_next(std::uint32_t after) noexcept {
  const std::uint64_t now = monotonic_ns();
  const std::uint32_t count = slot_count(region_.slots);
  std::uint32_t best = kMaxProcesses;
  std::uint64_t least = ~std::uint64_t{0};
  const std::uint64_t slice = slice_ns();
  for (std::uint32_t step = 1; step <= count; ++step) {
    const std::uint32_t slot = static_cast<std::uint32_t>((std::uint64_t{after} + step) % count);
    if (!fit(slot, now))
      continue;
    const std::uint64_t served = region_.usage[slot][unit_].served.load();
    if (best != kMaxProcesses && (served >= least || least - served <= slice))
      continue;
    best = slot;
    least = served;
  }
  return best;
}

bool Engine::others_wait() const noexcept {
  for (std::uint32_t word = 0; word < kWaitWords; ++word) {
    std::uint64_t hands = state_.waiting[word].load();
    if (word == slot_ / 64)
      hands &= ~(std::uint64_t{1} << (slot_ % 64));
    if (hands != 0)
      return true;
  }
  return false;
}

void Engine::raise_hand(bool up) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << (slot_ % 64);
  Word& hands = state_.waiting[slot_ / 64];
  if (up)
    hands.fetch_or(bit);
  else
    hands.fetch_and(~bit);
}

void Engine::ring(std::uint32_t slot) noexcept {
  futex_wake(state_.owner, bell(slot));
}

// ---- what was used
// ---------------------------------------------------------------------------------------------

void Engine::settle(std::uint64_t now_ns) noexcept {
  std::uint64_t from = accounted_.load(std::memory_order_relaxed);
  if (now_ns <= from || !accounted_.compare_exchange_strong(from, now_ns, std::memory_order_relaxed))
    return; // another thread books this time
  const std::uint64_t spent = now_ns - from;
  usage_.busy_ns.fetch_add(spent, std::memory_order_relaxed);
  usage_.run_busy.fetch_add(spent, std::memory_order_relaxed);
  usage_.served.fetch_add(spent, std::memory_order_relaxed);
  state_.busy_ns.fetch_add(spent, std::memory_order_relaxed);
  busy_add(usage_.busy, from, now_ns);
  busy_add(state_.busy, from, now_ns);
}

void Engine::flush_run() noexcept {
  const std::uint64_t start = usage_.run_start.exchange(0, std::memory_order_relaxed);
  const std::uint64_t end = usage_.run_end.load(std::memory_order_relaxed);
  if (start != 0 && end > start)
    journal_.append({identity_, start, end, usage_.run_busy.load(std::memory_order_relaxed), unit_,
                     run_overlaps_ ? kOverlaps : 0});
}

void bury_run(Journal& journal, std::uint32_t unit, const Usage& usage, std::uint64_t identity) noexcept {
  const std::uint64_t start = usage.run_start.load();
  std::uint64_t end = usage.run_end.load();
  if (end == 0)
    end = usage.last_seen.load();
  if (start != 0 && end > start)
    journal.append({identity, start, end, usage.run_busy.load(), unit, 0});
}

} // namespace aliquot::simgpu::machine
