// A lock for sections of a few nanoseconds within one process.
#pragma once

#include <atomic>
#include <sched.h>

namespace aliquot::common {

// Not for shared memory: a process that is killed while it holds it would never give it back.
class SpinLock {
 public:
  void lock() noexcept {
    while (taken_.exchange(true, std::memory_order_acquire)) {
      for (int spins = 0; taken_.load(std::memory_order_relaxed); ++spins) {
        if (spins >= kSpinsBeforeYield)
          sched_yield();
      }
    }
  }
  void unlock() noexcept { taken_.store(false, std::memory_order_release); }

 private:
  static constexpr int kSpinsBeforeYield = 64;
  std::atomic<bool> taken_{false};
};

} // namespace aliquot::common
