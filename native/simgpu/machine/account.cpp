#include "native/simgpu/machine/account.hpp"

#include <algorithm>
#include <ctime>

#include "native/simgpu/machine/clock.hpp"

namespace aliquot::simgpu::machine {
namespace {

// How long a request waits for others to make up their minds. Deciding takes them well under a microsecond;
// one that takes longer is stopped, and what it asks for counts as held.
constexpr std::uint64_t kPatienceNs = 50'000'000;
constexpr std::uint64_t kNapNs = 20'000;

std::uint64_t add(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? ~std::uint64_t{0} : sum;
}

struct Sum {
  std::uint64_t held = 0;
  std::uint64_t asking = 0; // by others
  bool lower_asks = false;  // one with a lower slot, who goes first
  bool torn = false;
};

Sum collect(const SlotTable& table, const Account& account, std::uint32_t self) noexcept {
  Sum sum;
  const std::uint64_t before = account.changes.load();
  const std::uint32_t count = slot_count(table);
  for (std::uint32_t slot = 0; slot < count; ++slot) {
    if (live_identity(table, slot) == 0)
      continue;
    const Account::Entry& entry = account.entry[slot];
    // What is asked is read before what is held: a request that is granted in between counts twice, never
    // zero times.
    const std::uint64_t asking = slot != self ? entry.asking.load() : 0;
    sum.held = add(sum.held, entry.held.load());
    sum.asking = add(sum.asking, asking);
    sum.lower_asks = sum.lower_asks || (asking != 0 && slot < self);
  }
  sum.torn = account.changes.load() != before;
  return sum;
}

void nap() noexcept {
  const timespec time{.tv_sec = 0, .tv_nsec = kNapNs};
  ::nanosleep(&time, nullptr);
}

} // namespace

std::uint64_t account_used(const SlotTable& table, const Account& account) noexcept {
  Sum sum;
  for (int attempt = 0; attempt < 16; ++attempt) {
    sum = collect(table, account, kMaxProcesses);
    if (!sum.torn)
      break;
  }
  return sum.held;
}

std::uint64_t account_held(const Account& account, std::uint32_t slot) noexcept {
  return account.entry[slot].held.load();
}

std::uint64_t account_give(Account& account, std::uint32_t slot, std::uint64_t bytes) noexcept {
  Word& held = account.entry[slot].held;
  std::uint64_t now = held.load();
  while (!held.compare_exchange_weak(now, now - std::min(now, bytes))) {
  }
  return std::min(now, bytes);
}

void account_clear(Account& account, std::uint32_t slot) noexcept {
  account.entry[slot].held.store(0);
  account.entry[slot].asking.store(0);
}

namespace detail {

Answer ask(SlotTable& table, Account& account, std::uint32_t slot, std::uint64_t bytes,
           std::uint64_t limit) noexcept {
  Account::Entry& entry = account.entry[slot];
  const std::uint64_t deadline = monotonic_ns() + kPatienceNs;
  for (;;) {
    entry.asking.store(bytes);
    const Sum sum = collect(table, account, slot);
    if (add(add(sum.held, sum.asking), bytes) <= limit) {
      account.changes.fetch_add(1);
      entry.held.fetch_add(bytes);
      entry.asking.store(0);
      return Answer::Taken;
    }
    const bool full = !sum.torn && add(sum.held, bytes) > limit;
    if (full || monotonic_ns() > deadline)
      break;
    // Somebody else is deciding about the same bytes. The lower slot keeps its place, the others step back.
    if (sum.lower_asks)
      entry.asking.store(0);
    if (sum.asking != 0)
      nap();
  }
  entry.asking.store(0);
  return Answer::Full;
}

} // namespace detail
} // namespace aliquot::simgpu::machine
