#include "native/limiter/cuda/memory_call.hpp"

#include <cstdlib>
#include <new>
#include <pthread.h>

namespace aliquot::limiter {
namespace {

std::atomic<detail::CallCounts*> all{nullptr};

// For threads beyond what memory can be had for. Their calls are seen as under way for ever, so that nothing
// is concluded from them.
detail::CallCounts nobody;

// A thread that has ended leaves its counts to the next one; they only ever grow. What else ends with it may
// still call in, and registers anew then.
void leave(void* counts) noexcept {
  detail::call_counts = nullptr;
  static_cast<detail::CallCounts*>(counts)->taken.store(false, std::memory_order_release);
}

pthread_key_t leaving_key() noexcept {
  static const pthread_key_t key = [] {
    pthread_key_t made{};
    pthread_key_create(&made, leave);
    return made;
  }();
  return key;
}

detail::CallCounts* take_left() noexcept {
  for (detail::CallCounts* each = all.load(std::memory_order_acquire); each != nullptr; each = each->next) {
    bool free = false;
    if (each->taken.compare_exchange_strong(free, true, std::memory_order_acquire))
      return each;
  }
  return nullptr;
}

detail::CallCounts* make() noexcept {
  auto* made = new (std::nothrow) detail::CallCounts;
  if (made == nullptr) {
    nobody.begun.fetch_add(1);
    return &nobody;
  }
  made->next = all.load(std::memory_order_relaxed);
  while (!all.compare_exchange_weak(made->next, made)) {
  }
  return made;
}

template <typename Read>
std::uint64_t sum_elsewhere(Read read) noexcept {
  std::uint64_t sum = read(nobody);
  for (detail::CallCounts* each = all.load(std::memory_order_acquire); each != nullptr; each = each->next) {
    if (each != detail::call_counts)
      sum += read(*each);
  }
  return sum;
}

} // namespace

namespace detail {

constinit thread_local CallCounts* call_counts [[gnu::tls_model("initial-exec")]] = nullptr;

CallCounts* register_thread() noexcept {
  CallCounts* counts = take_left();
  if (counts == nullptr)
    counts = make();
  call_counts = counts;
  if (counts != &nobody)
    pthread_setspecific(leaving_key(), counts);
  return counts;
}

} // namespace detail

std::uint64_t MemoryCall::ended_elsewhere() noexcept {
  return sum_elsewhere([](const detail::CallCounts& c) { return c.ended.load(std::memory_order_acquire); });
}

std::uint64_t MemoryCall::begun_elsewhere() noexcept {
  return sum_elsewhere([](const detail::CallCounts& c) { return c.begun.load(std::memory_order_acquire); });
}

} // namespace aliquot::limiter
