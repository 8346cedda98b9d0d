// The comparison. `held` is what the slice's account says of this process, `figure` what the driver says; the
// overhead is what makes them equal. Two things are charged otherwise than the driver counts them: managed
// memory (charged in full, of which the device holds a part) and memory of other processes that this one has
// opened (charged to its maker, which a driver may count here, too). So the overhead is known between two
// bounds only where there is any, and is moved no farther than to the nearer one.
#include "native/limiter/cuda/overhead.hpp"

#include <algorithm>
#include <ctime>
#include <sched.h>

#include "native/limiter/cuda/limiter.hpp"

namespace aliquot::limiter {
namespace {

constexpr unsigned kAttempts = 4;                                    // to find a quiet moment
constexpr std::uint64_t kBetweenRetries = 2'000'000;                 // ns
constexpr std::uint64_t kBetweenLooks = 20'000'000;                  // ns
constexpr std::uint64_t kMostContextBytes = std::uint64_t{8} << 30u; // more is no context's

std::uint64_t now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now); // no system call: the vDSO answers
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint64_t at_least_zero(std::int64_t bytes) noexcept {
  return bytes > 0 ? static_cast<std::uint64_t>(bytes) : 0;
}

std::int64_t as_signed(std::uint64_t bytes) noexcept {
  return static_cast<std::int64_t>(std::min(bytes, kMaxBytes));
}

} // namespace

// Keeps the books still that are read for a comparison. Their locks come before our own, always.
class Overhead::Books {
 public:
  explicit Books(Limiter& limiter) noexcept : pools_(limiter.pools.hold()), graphs_(limiter.graphs.hold()) {}

 private:
  std::unique_lock<std::recursive_mutex> pools_, graphs_;
};

void Overhead::remember(unsigned device, Before& before) noexcept {
  const std::lock_guard guard(mutex_);
  if (device >= layout::kMaxDevices)
    return;
  before.charged = charged_[device];
  before.held = limiter_.ledger().held(device);
  if (!is_exact())
    before.knows_card = figure_.held_by_all(device, before.card);
}

bool Overhead::begin(unsigned device, std::uint64_t estimate, Before& before) noexcept {
  remember(device, before);
  if (estimate == 0)
    return true;
  if (!limiter_.reserve(device, estimate))
    return false;
  const std::lock_guard guard(mutex_);
  before.estimate = estimate;
  charged_[device] += estimate;
  return true;
}

void Overhead::give_up(unsigned device, const Before& before) noexcept {
  const Books books(limiter_);
  const std::lock_guard guard(mutex_);
  if (device >= layout::kMaxDevices)
    return;
  set(device, charged_[device] - std::min(charged_[device], before.estimate), false, nullptr);
  if (is_exact())
    compare(device, false);
}

// False where the slice has no room for what the driver took.
bool Overhead::finish(unsigned device, const Before& before, std::uint64_t& taken) noexcept {
  const Books books(limiter_);
  const std::lock_guard guard(mutex_);
  Compared compared = compare(device, true, &taken);
  if (compared == Compared::Unknown)
    compared = take_difference(device, before, &taken);
  if (compared == Compared::OverLimit)
    return false;
  taken = charged_[device] - std::min(charged_[device], before.charged);
  return true;
}

// Where the driver does not list processes, the card as a whole tells, as far as neighbours are quiet.
Overhead::Compared Overhead::take_difference(unsigned device, const Before& before,
                                             std::uint64_t* missing) noexcept {
  std::uint64_t card = 0;
  if (!before.knows_card || !figure_.held_by_all(device, card))
    return Compared::Unknown;
  const std::int64_t ours = as_signed(limiter_.ledger().held(device)) - as_signed(charged_[device]) -
                            (as_signed(before.held) - as_signed(before.charged));
  const std::uint64_t taken = at_least_zero(as_signed(card) - as_signed(before.card) - ours);
  return set(device, before.charged + std::min(taken, kMostContextBytes), true, missing);
}

void Overhead::context_has_gone(unsigned device, const Before& before) noexcept {
  const Books books(limiter_);
  const std::lock_guard guard(mutex_);
  if (device >= layout::kMaxDevices || compare(device, false) != Compared::Unknown)
    return;
  std::uint64_t card = 0;
  if (!before.knows_card || !figure_.held_by_all(device, card))
    return;
  const std::int64_t ours = as_signed(before.held) - as_signed(limiter_.ledger().held(device));
  const std::uint64_t freed = at_least_zero(as_signed(before.card) - as_signed(card) - ours);
  set(device, charged_[device] - std::min(charged_[device], freed), false, nullptr);
}

Overhead::Compared Overhead::compare(unsigned device, bool refuse, std::uint64_t* missing) noexcept {
  if (device >= layout::kMaxDevices)
    return Compared::Unknown;
  const Books books(limiter_);
  const std::lock_guard guard(mutex_);
  const std::uint32_t bit = 1u << device;
  grown_.fetch_and(~bit);
  shrunk_.fetch_and(~bit);
  Moment moment = look(device);
  for (unsigned attempt = 1; attempt < kAttempts && !moment.quiet; ++attempt) {
    sched_yield();
    moment = look(device);
  }
  if (moment.answer == DeviceFigure::Answer::Known) {
    used_.fetch_or(bit);
    exact_.store(true, std::memory_order_relaxed);
  }
  if (moment.answer == DeviceFigure::Answer::Unknown || !is_exact())
    return Compared::Unknown;
  if (!moment.quiet) {
    not_before_ns_.store(now_ns() + kBetweenRetries, std::memory_order_relaxed);
    grown_.fetch_or(bit);
  }
  return adjust(device, moment, refuse, missing);
}

Overhead::Moment Overhead::look(unsigned device) noexcept {
  Moment moment;
  const std::uint64_t ended = MemoryCall::ended_elsewhere();
  limiter_.settle_books();
  charged_[device] += limiter_.small_blocks.drop_empty(device);
  const std::uint64_t held = limiter_.ledger().held(device);
  moment.answer = figure_.held_by_us(device, moment.figure);
  const bool settled = limiter_.settle_books();
  const std::uint64_t held_then = limiter_.ledger().held(device);
  moment.held = std::max(held, held_then);
  moment.quiet = !settled && held == held_then && MemoryCall::begun_elsewhere() == ended;
  return moment;
}

Overhead::Compared Overhead::adjust(unsigned device, const Moment& moment, bool refuse,
                                    std::uint64_t* missing) noexcept {
  const std::int64_t difference = as_signed(moment.figure) - as_signed(moment.held);
  const std::int64_t now = as_signed(charged_[device]);
  const std::uint64_t least =
      at_least_zero(now + difference - as_signed(limiter_.shared.opened_bytes(device)));
  const std::uint64_t most =
      at_least_zero(now + difference + as_signed(managed_[device].load(std::memory_order_relaxed)));
  const std::uint64_t charged = charged_[device];
  if (least > charged)
    return set(device, least, refuse, missing);
  if (most < charged && moment.quiet)
    return set(device, most, refuse, missing);
  return Compared::Done;
}

Overhead::Compared Overhead::set(unsigned device, std::uint64_t bytes, bool refuse,
                                 std::uint64_t* missing) noexcept {
  std::uint64_t& charged = charged_[device];
  if (bytes > charged) {
    const std::uint64_t more = bytes - charged;
    if (refuse && !limiter_.ledger().reserve(device, more)) {
      if (missing != nullptr)
        *missing = more;
      return Compared::OverLimit;
    }
    if (!refuse)
      limiter_.ledger().charge(device, more);
  } else {
    limiter_.release(device, charged - bytes);
  }
  charged = bytes;
  return Compared::Done;
}

void Overhead::met_context(unsigned device) noexcept {
  if (device < layout::kMaxDevices && (used_.load(std::memory_order_relaxed) >> device & 1u) == 0)
    grown_.fetch_or(1u << device, std::memory_order_relaxed);
}

void Overhead::catch_up() noexcept {
  const std::uint32_t marks = grown_.load(std::memory_order_relaxed);
  if (now_ns() < not_before_ns_.load(std::memory_order_relaxed))
    return;
  for (unsigned device = 0; device < layout::kMaxDevices; ++device) {
    if ((marks >> device & 1u) != 0)
      compare(device, false);
  }
}

bool Overhead::shrink() noexcept {
  const std::uint32_t marks = shrunk_.load(std::memory_order_relaxed);
  bool refunded = false;
  for (unsigned device = 0; device < layout::kMaxDevices; ++device) {
    if ((marks >> device & 1u) == 0)
      continue;
    const std::uint64_t before = limiter_.ledger().held(device);
    compare(device, false);
    refunded = refunded || limiter_.ledger().held(device) < before;
  }
  return refunded;
}

void Overhead::look_now_and_then() noexcept {
  const std::uint64_t launches = limiter_.counters().launches.load(std::memory_order_relaxed) +
                                 limiter_.counters().graph_launches.load(std::memory_order_relaxed);
  const std::uint64_t now = now_ns();
  if (!is_exact() || launches == launches_then_.load(std::memory_order_relaxed) ||
      now - looked_ns_.load(std::memory_order_relaxed) < kBetweenLooks) {
    return;
  }
  looked_ns_.store(now, std::memory_order_relaxed);
  launches_then_.store(launches, std::memory_order_relaxed);
  may_have_grown_anywhere();
}

void Overhead::keep_until_free(unsigned device, std::uint64_t bytes) noexcept {
  if (!is_exact() || device >= layout::kMaxDevices)
    return limiter_.release(device, bytes);
  {
    const std::lock_guard guard(mutex_);
    charged_[device] += bytes;
  }
  may_have_shrunk(device);
}

void Overhead::add_managed(unsigned device, std::int64_t bytes) noexcept {
  if (device < layout::kMaxDevices)
    managed_[device].fetch_add(static_cast<std::uint64_t>(bytes), std::memory_order_relaxed);
}

CUresult Overhead::refused(unsigned device, std::uint64_t bytes) noexcept {
  return limiter_.refuse(device, bytes);
}

std::uint64_t Overhead::context_estimate(unsigned device) const noexcept {
  if (device >= layout::kMaxDevices)
    return 0;
  const layout::Account& account = limiter_.region().account();
  return std::min(account.context_bytes[device].load(std::memory_order_relaxed), kMostContextBytes);
}

void Overhead::publish_context(unsigned device, std::uint64_t bytes) noexcept {
  if (device < layout::kMaxDevices && bytes != 0)
    limiter_.region().account().context_bytes[device].store(bytes, std::memory_order_relaxed);
}

} // namespace aliquot::limiter
