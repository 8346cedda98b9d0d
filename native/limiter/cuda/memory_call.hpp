// Calls under way that change what this process holds, so that whoever compares its account with the driver's
// own figure can tell whether the two belong to the same moment.
//
// Each thread counts for itself, in memory of its own: two plain stores a call. Nothing here locks, but for
// the first call of a thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace aliquot::limiter {

namespace detail {
struct alignas(64) CallCounts {
  std::atomic<std::uint64_t> begun{0}, ended{0}; // written by one thread
  std::atomic<bool> taken{true};
  CallCounts* next = nullptr;
};
extern constinit thread_local CallCounts* call_counts [[gnu::tls_model("initial-exec")]];
CallCounts* register_thread() noexcept;
} // namespace detail

// Stands while a call that takes or gives device memory is under way, from before it is reserved until after
// it was released. May be nested.
class MemoryCall {
 public:
  MemoryCall() noexcept
      : counts_(detail::call_counts != nullptr ? detail::call_counts : detail::register_thread()) {
    step(counts_->begun);
  }
  ~MemoryCall() { step(counts_->ended); }
  MemoryCall(const MemoryCall&) = delete;
  MemoryCall& operator=(const MemoryCall&) = delete;

  // How many there were on this thread, this one included.
  std::uint64_t number() const noexcept { return counts_->begun.load(std::memory_order_relaxed); }

  // Of all threads but the calling one. Where what had ended at first equals what has begun at last, none was
  // under way in between.
  static std::uint64_t ended_elsewhere() noexcept;
  static std::uint64_t begun_elsewhere() noexcept;

 private:
  // The change of the account that follows is a sequentially consistent operation, and orders this before it.
  static void step(std::atomic<std::uint64_t>& count) noexcept {
    count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  detail::CallCounts* counts_;
};

} // namespace aliquot::limiter
