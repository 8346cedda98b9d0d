// Sleeping on words: those of the grant, which is mapped read-only and shared with the arbiter.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>

namespace aliquot::limiter::compute {

// CLOCK_MONOTONIC, in nanoseconds. No system call: the vDSO answers.
inline std::uint64_t now_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

void sleep_ns(std::uint64_t ns) noexcept;

// Sleeps while the low half of `word` is that of `seen`, at most for `timeout` ns.
void wait_while(const std::atomic<std::uint64_t>& word, std::uint64_t seen, std::uint64_t timeout) noexcept;

void wake(const std::atomic<std::uint64_t>& word) noexcept;

struct Watched {
  const std::atomic<std::uint64_t>* word;
  std::uint64_t seen;
};

// The same for several words: sleeps until one of them differs.
void wait_while_all(const Watched* words, unsigned count, std::uint64_t timeout) noexcept;

} // namespace aliquot::limiter::compute
