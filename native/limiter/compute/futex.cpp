#include "native/limiter/compute/futex.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace aliquot::limiter::compute {
namespace {

static_assert(std::endian::native == std::endian::little, "the low half of a word comes first");

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr unsigned kMostWords = 32;
// futex_waitv of Linux 5.16 (include/uapi/linux/futex.h), whose headers may be older here.
constexpr long kFutexWaitv = 449;
constexpr std::uint32_t kFutexSize32 = 2;
struct WaitedWord {
  std::uint64_t value, address;
  std::uint32_t flags, reserved;
};
// Where the kernel has no futex_waitv, one word is watched and the others are looked at so often.
constexpr std::uint64_t kLookAtOthers = 1'000'000;

std::atomic<bool> can_wait_for_several{true};

timespec as_timespec(std::uint64_t ns) noexcept {
  return {static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
}

} // namespace

void sleep_ns(std::uint64_t ns) noexcept {
  const timespec time = as_timespec(ns);
  nanosleep(&time, nullptr);
}

void wait_while(const std::atomic<std::uint64_t>& word, std::uint64_t seen, std::uint64_t timeout) noexcept {
  const timespec time = as_timespec(timeout);
  ::syscall(SYS_futex, &word, FUTEX_WAIT, static_cast<std::uint32_t>(seen), &time, nullptr, 0);
}

void wake(const std::atomic<std::uint64_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
}

void wait_while_all(const Watched* words, unsigned count, std::uint64_t timeout) noexcept {
  if (count == 0)
    return sleep_ns(timeout);
  if (count == 1)
    return wait_while(*words->word, words->seen, timeout);
  WaitedWord waited[kMostWords] = {};
  count = std::min(count, kMostWords);
  for (unsigned i = 0; i < count; ++i) {
    waited[i] = {static_cast<std::uint32_t>(words[i].seen), reinterpret_cast<std::uint64_t>(words[i].word),
                 kFutexSize32, 0};
  }
  const timespec until = as_timespec(now_ns() + timeout);
  if (can_wait_for_several.load(std::memory_order_relaxed)) {
    if (::syscall(kFutexWaitv, waited, count, 0, &until, CLOCK_MONOTONIC) >= 0 || errno != ENOSYS)
      return;
    can_wait_for_several.store(false, std::memory_order_relaxed);
  }
  wait_while(*words->word, words->seen, std::min(timeout, kLookAtOthers));
}

} // namespace aliquot::limiter::compute
